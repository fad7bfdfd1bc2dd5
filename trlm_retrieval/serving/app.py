"""The application: pipelines that Hayhooks loads and runs, and what stands around them.

Hayhooks' own application also deploys Python code that is sent to it, draws pipelines by way of a
public server and lets pages of all origins in. So its pipeline routes are taken, and put between
limits, keys, logs and metrics of our own.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import hayhooks
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from hayhooks.settings import settings as hayhooks_settings

from trlm_retrieval import __version__
from trlm_retrieval.serving.engine import Engine, loading_for
from trlm_retrieval.serving.metrics import Metrics
from trlm_retrieval.serving.middleware import ApiKey, BodyLimit, RequestLog
from trlm_retrieval.serving.routes import OPEN_PATHS, router
from trlm_retrieval.serving.settings import ServingSettings

_ENDPOINTS = Path(__file__).parent / "endpoints"


def create_app(settings: ServingSettings) -> FastAPI:
    """Load the models and make the application.

    :raises TRLMError: if the index or a model is not there, or damaged.
    """
    metrics = Metrics()
    engine = Engine(settings, on_change=metrics.in_progress.inc)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    app = FastAPI(
        title="trlm-retrieval",
        description="Passages ordered by how likely the question is, given each of them.",
        version=__version__,
        lifespan=lifespan,
    )
    app.add_exception_handler(RequestValidationError, _bad_input)
    app.state.engine = engine
    app.include_router(router(engine, metrics))
    app.router.routes += _pipeline_routes(engine)
    # The last one added is the first that a request passes.
    app.add_middleware(BodyLimit, most=settings.max_body, timeout=settings.timeout)
    if settings.api_key is not None:
        app.add_middleware(ApiKey, key=settings.api_key, open_paths=OPEN_PATHS)
    app.add_middleware(RequestLog, metrics=metrics)
    return app


async def _bad_input(request: Request, error: Exception) -> Response:
    """What is wrong and where; the input itself is not sent back, as not all of it can be."""
    assert isinstance(error, RequestValidationError)
    found = [{name: one[name] for name in ("type", "loc", "msg")} for one in error.errors()]
    return Response(json.dumps({"detail": found}), 422, media_type="application/json")


def _pipeline_routes(engine: Engine) -> list[APIRoute]:
    """The routes of Hayhooks' application over our endpoints, a set that cannot change."""
    hayhooks_settings.pipelines_dir = str(_ENDPOINTS)
    hayhooks_settings.durable_mode = True
    hayhooks_settings.tracing_enabled = False
    hayhooks_settings.monitoring_enabled = False
    hayhooks_settings.cors_allow_origins = []
    hayhooks_settings.intercepted_loggers = ["fastapi"]  # none of them would mean all
    loading = loading_for.set(engine)
    try:
        loaded = hayhooks.create_app()
    finally:
        loading_for.reset(loading)
    return [route for route in loaded.routes if isinstance(route, APIRoute)]
