"""Our own routes: the pipelines, the page, health, metrics."""

from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from trlm_retrieval.serving.engine import RETRY_AFTER, Engine
from trlm_retrieval.serving.metrics import Metrics
from trlm_retrieval.serving.reference import reference_page
from trlm_retrieval.serving.schemas import (
    CitedAnswerRequest,
    CitedRagAnswer,
    ExplainRequest,
    Health,
    RerankAnswer,
    RerankPipelineRequest,
    RetrievalAnswer,
    RetrievalRequest,
)

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz"})
"""Served without a key."""


def router(engine: Engine, metrics: Metrics) -> APIRouter:
    """The routes over one engine."""
    routes = APIRouter()
    page = files("trlm_retrieval.serving").joinpath("page.html").read_text(encoding="utf-8")

    @routes.post("/retrieval/run", tags=["pipelines"])
    async def retrieval(request: RetrievalRequest) -> RetrievalAnswer:
        """Passages of the index for a question, best first."""
        found = await engine.retrieve(
            request.query, request.top_k, request.explain, request.filters
        )
        return RetrievalAnswer(result=found)

    @routes.post("/cited_rag/run", tags=["pipelines"])
    async def cited_rag(request: CitedAnswerRequest) -> CitedRagAnswer:
        """An answer written from the best passages of the index, each sentence with citations."""
        return CitedRagAnswer(
            result=await engine.answer(request.query, request.top_k, request.filters)
        )

    @routes.post("/rerank/run", tags=["pipelines"])
    async def rerank_pipeline(request: RerankPipelineRequest) -> RerankAnswer:
        """Order documents by how likely the query is, given each of them."""
        found = await engine.rerank(request.query, request.documents, request.top_k)
        return RerankAnswer(result=found)

    @routes.post("/explain", tags=["pipelines"], response_class=HTMLResponse)
    async def explain(request: ExplainRequest) -> HTMLResponse:
        """The heat map of a question: what each passage does for each of its tokens."""
        return HTMLResponse(await engine.explain(request.query, request.top_k, request.filters))

    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", tags=["status"])
    async def health() -> Health:
        """The process lives."""
        return Health(status="ok")

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", tags=["status"], responses={503: {"model": Health}})
    async def ready(response: Response) -> Health:
        """The models are loaded, and another request would be let in."""
        if engine.gate.is_full:
            response.status_code, response.headers["Retry-After"] = 503, RETRY_AFTER
            return Health(status="busy")
        return Health(status="ready")

    @routes.get("/metrics", tags=["status"], response_class=Response)
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/docs", include_in_schema=False)
    async def reference(request: Request) -> HTMLResponse:
        return HTMLResponse(reference_page(request.app.openapi()))

    @routes.head("/", include_in_schema=False)
    @routes.get("/", include_in_schema=False)
    async def people() -> HTMLResponse:
        return HTMLResponse(page)

    return routes
