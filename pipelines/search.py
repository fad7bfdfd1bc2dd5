"""The pipeline ``retrieval`` run for one question, and its first stage alone."""

from dataclasses import replace
from typing import Any

from haystack import Document, Pipeline

from trlm_retrieval.components.ranker import META_KEY

from .settings import search_inputs

_RETRIEVERS = ("bm25", "dense")


def first_stage(settings: dict[str, Any]) -> Pipeline:
    """The pipeline ``retrieval`` without its ranker, which needs no language model.

    :param settings: what :func:`~trlm_retrieval.pipelines.settings.search_settings` gave.
    """
    parts = {name: part for name, part in settings["components"].items() if name != "ranker"}
    links = [link for link in settings["connections"] if link["receiver"] != "ranker.documents"]
    return Pipeline.from_dict({**settings, "components": parts, "connections": links})


def search(
    pipeline: Pipeline,
    query: str,
    candidates: int,
    explain: bool = False,
    filters: dict[str, Any] | None = None,
) -> list[Document]:
    """All candidates for a question, best first.

    ``meta["trlm"]`` tells, beside what the ranker measured, the ``bm25_rank`` and the
    ``dense_rank``: None where that retriever did not find the passage. Of a pipeline that
    :func:`first_stage` gave it tells only these.
    """
    inputs = search_inputs(query, candidates, explain, filters)
    last = "ranker" if "ranker" in pipeline.graph else "fusion"
    inputs = {name: given for name, given in inputs.items() if name in pipeline.graph}
    found = pipeline.run(inputs, include_outputs_from=set(_RETRIEVERS))
    ranks = {
        f"{name}_rank": {
            document.id: rank for rank, document in enumerate(found[name]["documents"], start=1)
        }
        for name in _RETRIEVERS
    }
    return [
        replace(document, meta={**document.meta, META_KEY: measured})
        for document in found[last]["documents"]
        for measured in [
            document.meta.get(META_KEY, {})
            | {name: places.get(document.id) for name, places in ranks.items()}
        ]
    ]
