"""A pipeline over an index: its YAML with the folder, the model and the numbers of a user in it."""

from pathlib import Path
from typing import Any

from trlm_retrieval.lm.state_folder import model_of_states
from trlm_retrieval.passage_index.files import STATES, read_manifest

from . import load


def search_settings(
    pipeline: str, index: Path, model: str | None, candidates: int
) -> dict[str, Any]:
    """The settings of a pipeline over one index, for ``Pipeline.from_dict``.

    :param pipeline: a name from :func:`trlm_retrieval.pipelines.names`.
    :param index: folder of the index.
    :param model: what ranks; None is the model whose states stand beside the index, or else what
        the pipeline says. States of the model that ranks are used.
    :param candidates: passages that each first stage finds, and that are reranked.
    :raises PassageIndexError: if there is no index, or none that this version can read.
    """
    settings = load(pipeline).to_dict()
    parts = {name: part["init_parameters"] for name, part in settings["components"].items()}
    for name in ("bm25", "dense"):
        parts[name]["index"] = str(index)
    for name in ("bm25", "dense", "fusion"):
        parts[name]["top_k"] = candidates
    # The ranker reads passages as the index does: else the states kept beside it would not match.
    parts["ranker"]["meta_fields_to_embed"] = read_manifest(index)["meta_fields_to_embed"]
    of_states = model_of_states(index / STATES)
    if model or of_states:
        parts["ranker"]["model"] = model or of_states
    if of_states == parts["ranker"]["model"]:
        parts["ranker"]["states_folder"] = str(index / STATES)
    return settings


def search_inputs(
    query: str, candidates: int, explain: bool, filters: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """What the pipeline ``retrieval`` is run with, so that it returns all its candidates.

    :param filters: in Haystack's syntax; None searches all passages.
    """
    asked = {"query": query, "filters": filters}
    return {
        "bm25": asked,
        "dense": asked,
        "ranker": {"query": query, "explain": explain, "top_k": candidates},
    }
