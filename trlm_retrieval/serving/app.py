"""The application: the routes, and the limits, keys, logs and metrics around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from trlm_retrieval import __version__
from trlm_retrieval.serving import other_servers, routes
from trlm_retrieval.serving.engine import Engine
from trlm_retrieval.serving.metrics import Metrics
from trlm_retrieval.serving.middleware import ApiKey, BodyLimit, RequestLog
from trlm_retrieval.serving.refusals import refusal
from trlm_retrieval.serving.settings import ServingSettings


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
        docs_url=None,  # a page of our own, which needs no network, stands at /docs
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_exception_handler(RequestValidationError, _bad_input)
    app.add_exception_handler(HTTPException, _refused)
    app.state.engine = engine
    app.include_router(routes.router(engine, metrics))
    app.include_router(other_servers.router(engine))
    # The last one added is the first that a request passes.
    app.add_middleware(BodyLimit, most=settings.max_body, timeout=settings.timeout)
    if settings.api_key is not None:
        app.add_middleware(ApiKey, key=settings.api_key, open_paths=routes.OPEN_PATHS)
    app.add_middleware(RequestLog, metrics=metrics)
    return app


async def _bad_input(request: Request, error: Exception) -> Response:
    """What is wrong and where; the input itself is not sent back, as not all of it can be."""
    assert isinstance(error, RequestValidationError)
    found = [_mistake(one) for one in error.errors()]
    return JSONResponse(refusal(request.url.path, 422, found), 422)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = refusal(request.url.path, error.status_code, error.detail)
    return JSONResponse(body, error.status_code, error.headers)


def _mistake(found: dict[str, Any]) -> dict[str, Any]:
    """One mistake as pydantic found it; a field that is not known is named."""
    told = {name: found[name] for name in ("type", "loc", "msg")}
    if found["type"] == "extra_forbidden":
        told["msg"] = f"there is no field {found['loc'][-1]!r}"
    return told
