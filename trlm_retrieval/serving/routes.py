"""Our own routes: the pipelines, the page, health, metrics."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from trlm_retrieval.pages.rendering import render
from trlm_retrieval.serving.engine import RETRY_AFTER, Engine
from trlm_retrieval.serving.metrics import Metrics
from trlm_retrieval.serving.reference import reference_page
from trlm_retrieval.serving.schemas import (
    About,
    CitedAnswerRequest,
    CitedRagAnswer,
    ExplainRequest,
    FirstStageAnswer,
    FirstStageRequest,
    Health,
    RerankAnswer,
    RerankPipelineRequest,
    RetrievalAnswer,
    RetrievalRequest,
)

OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
"""Served without a key: pages that a browser opens, which tell nothing of what is indexed."""


def router(engine: Engine, metrics: Metrics) -> APIRouter:
    """The routes over one engine."""
    routes = APIRouter()
    page = render("search.html")

    @routes.get("/about", tags=["status"])
    async def about() -> About:
        """What is served, and questions to try."""
        return engine.about

    @routes.post("/first_stage/run", tags=["pipelines"])
    async def found(request: FirstStageRequest) -> FirstStageAnswer:
        """Passages of the index for a question, as BM25 and FAISS order them: at once."""
        found = await engine.find(request.query, request.top_k, request.filters)
        return FirstStageAnswer(result=found)

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

    @routes.post("/cited_rag/page", tags=["pipelines"], response_class=HTMLResponse)
    async def cited_page(request: CitedAnswerRequest) -> HTMLResponse:
        """The same answer as a page: each sentence beside what supports it."""
        page = await engine.answer_page(request.query, request.top_k, request.filters)
        return HTMLResponse(page)

    @routes.post("/rerank/run", tags=["pipelines"])
    async def rerank_pipeline(request: RerankPipelineRequest) -> RerankAnswer:
        """Order documents by how likely the query is, given each of them."""
        found = await engine.rerank(request.query, request.documents, request.top_k)
        return RerankAnswer(result=found)

    @routes.post("/explain", tags=["pipelines"], response_class=HTMLResponse)
    async def explain(request: ExplainRequest) -> HTMLResponse:
        """Why passages rank as they do, as a page."""
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
