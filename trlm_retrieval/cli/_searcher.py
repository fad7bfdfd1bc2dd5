"""One question through the retrieval pipeline: what was found, and how long each stage took.

Imports Haystack and torch, so only a command that runs may import it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from haystack import Pipeline, tracing
from haystack.tracing.tracer import NullSpan
from haystack.utils import ComponentDevice

from trlm_retrieval.cli._ranking import Filters, Ranking
from trlm_retrieval.pipelines.search import search
from trlm_retrieval.pipelines.settings import search_settings

_STAGES = {"bm25": "BM25", "dense": "FAISS", "fusion": "fusion", "ranker": "rerank"}


class Searcher:
    """The pipeline ``retrieval.yaml`` over one index, loaded once for many questions.

    :param index: folder of the index.
    :param model: what ranks, see :func:`~trlm_retrieval.pipelines.settings.search_settings`.
    :param candidates: passages that each first stage finds, and that are reranked.
    :param device: where the ranker's model runs, as `cuda`.
    :param ranker: further init parameters of the ranker, such as ``dtype``.
    :raises PassageIndexError: if there is no index, or it is damaged.
    :raises ModelError: if a model is not there.
    :raises StatesError: if the index's states are damaged or do not fit.
    """

    def __init__(
        self,
        index: Path,
        model: str | None,
        candidates: int,
        *,
        device: str | None = None,
        ranker: dict[str, Any] | None = None,
    ) -> None:
        settings = search_settings("retrieval", index, model, candidates)
        parameters = settings["components"]["ranker"]["init_parameters"]
        parameters |= ranker or {}
        if device is not None:
            parameters["device"] = ComponentDevice.from_str(device).to_dict()
        self.model: str = parameters["model"]
        self.candidates = candidates
        self._pipeline = Pipeline.from_dict(settings)
        self._pipeline.warm_up()

    def ask(self, query: str, explain: bool = False, filters: Filters | None = None) -> Ranking:
        """Rank all candidates for a question, or those that match filters in Haystack's syntax."""
        with _stopwatch() as seconds:
            documents = search(self._pipeline, query, self.candidates, explain, filters)
        stages = {label: seconds[name] for name, label in _STAGES.items() if name in seconds}
        return Ranking(query, documents, stages, len(documents))


class _StopwatchTracer(tracing.Tracer):
    """Haystack tells a tracer when a component begins and ends; this one notes the time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def trace(
        self,
        operation_name: str,
        tags: dict[str, Any] | None = None,
        parent_span: tracing.Span | None = None,
    ) -> Iterator[tracing.Span]:
        started = time.perf_counter()
        yield NullSpan()
        if operation_name == "haystack.component.run":
            name = (tags or {})["haystack.component.name"]
            self.seconds[name] = time.perf_counter() - started

    def current_span(self) -> tracing.Span | None:
        return None


@contextmanager
def _stopwatch() -> Iterator[dict[str, float]]:
    earlier, watch = tracing.tracer.actual_tracer, _StopwatchTracer()
    tracing.enable_tracing(watch)
    try:
        yield watch.seconds
    finally:
        tracing.enable_tracing(earlier)
