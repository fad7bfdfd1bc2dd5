"""A request is a span of Haystack's tracer, and what its pipeline does stands below it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from haystack import tracing

QUERY = "how does the with statement call exit"


class Span(tracing.Span):
    def __init__(self, name: str, tags: dict[str, Any], parent: "Span | None") -> None:
        self.name, self.tags, self.parent = name, dict(tags), parent

    def set_tag(self, key: str, value: Any) -> None:
        self.tags[key] = value


class Spy(tracing.Tracer):
    """Keeps spans, and the current one in a context variable, as OpenTelemetry does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._current: ContextVar[Span | None] = ContextVar("current", default=None)

    @contextmanager
    def trace(
        self,
        operation_name: str,
        tags: dict[str, Any] | None = None,
        parent_span: tracing.Span | None = None,
    ) -> Iterator[Span]:
        span = Span(operation_name, tags or {}, self._current.get())
        self.spans.append(span)
        token = self._current.set(span)
        try:
            yield span
        finally:
            self._current.reset(token)

    def current_span(self) -> Span | None:
        return self._current.get()

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def spy() -> Iterator[Spy]:
    earlier, spy = tracing.tracer.actual_tracer, Spy()
    tracing.enable_tracing(spy)
    yield spy
    tracing.enable_tracing(earlier)


def test_a_request_and_its_pipeline(client, spy):
    answer = client.post("/retrieval/run", json={"query": QUERY})
    [request] = spy.named("trlm.request")
    assert request.parent is None
    assert request.tags == {
        "trlm.request_id": answer.headers["x-request-id"],
        "http.request.method": "POST",
        "url.path": "/retrieval/run",
        "http.route": "/retrieval/run",
        "http.response.status_code": 200,
    }
    [pipeline] = spy.named("haystack.pipeline.run")
    assert pipeline.parent is request


def test_refused_requests_are_spans_too(client, spy):
    assert client.post("/v1/rerank", json={"query": QUERY}).status_code == 422
    assert client.get("/nowhere").status_code == 404
    refused, lost = spy.named("trlm.request")
    assert refused.tags["http.response.status_code"] == 422
    assert (lost.tags["http.route"], lost.tags["http.response.status_code"]) == ("unmatched", 404)


def test_questions_and_documents_stay_out_of_the_span(client, spy):
    client.post("/v1/rerank", json={"query": "my secret", "documents": ["another secret"]})
    assert "secret" not in str([span.tags for span in spy.spans])
