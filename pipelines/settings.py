"""A pipeline over an index: its YAML with the folder, the model and the numbers of a user in it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from haystack import Document, Pipeline
from haystack.core.errors import PipelineRuntimeError

from trlm_retrieval.errors import TRLMError, causes
from trlm_retrieval.lm import TimeReversedLM
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


def answer_inputs(
    query: str, passages: int, filters: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """What the pipeline ``cited_rag`` is run with, so that it answers from so many passages.

    :param filters: in Haystack's syntax; None searches all passages.
    """
    asked = search_inputs(query, passages, False, filters)
    return asked | {"answer": {"query": query}, "prompt": {"question": query}}


def share_model(lm: TimeReversedLM, name: str, components: Iterable[Any]) -> None:
    """Components that name this model get the one that is loaded, with the states that it keeps."""
    for component in components:
        if component.model == name:
            component.model = lm
            component.warm_up()


# What the wrappers of hayhooks/ share: Hayhooks loads each of those files by itself.


def pipeline_from_environment(pipeline: str, candidates: int) -> Pipeline:
    """A pipeline over one index, loaded.

    ``TRLM_INDEX`` names the folder of the index, by default ``trlm-index``, and ``TRLM_MODEL`` what
    ranks, as in :func:`search_settings`, which says what errors there are. The attributor of
    citations shares the ranker's model where it names the same.
    """
    index = Path(os.environ.get("TRLM_INDEX", "trlm-index"))
    settings = search_settings(pipeline, index, os.environ.get("TRLM_MODEL"), candidates)
    made = Pipeline.from_dict(settings)
    model = settings["components"]["ranker"]["init_parameters"]["model"]
    holders = [name for name in ("ranker", "citations") if name in settings["components"]]
    lm = TimeReversedLM.from_pretrained(model)
    share_model(lm, model, [made.get_component(name) for name in holders])
    made.warm_up()
    return made


def run_for_client(pipeline: Pipeline, inputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the pipeline gives.

    :raises ValueError: if the client asked for something wrong, as by malformed filters. Haystack
        wraps what components raise; this is the component's own error, with a text for users.
    """
    try:
        return pipeline.run(inputs)
    except PipelineRuntimeError as error:
        for cause in causes(error):
            if isinstance(cause, TRLMError):
                break  # of the index or the model, whatever caused it
            if isinstance(cause, ValueError):
                raise cause from error
        raise


def passage_fields(document: Document) -> dict[str, Any]:
    """A ranked passage, as JSON may hold it."""
    return {
        "id": document.id,
        "content": document.content,
        "meta": document.meta,
        "score": document.score,
    }
