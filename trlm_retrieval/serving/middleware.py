"""What every request passes: a log line, metrics and a span, the key, the limit on its body."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Collection
from uuid import uuid4

from haystack import tracing
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trlm_retrieval.serving.metrics import Metrics
from trlm_retrieval.serving.refusals import refusal

logger = logging.getLogger("trlm.access")


class RequestLog:
    """Logs, counts and traces each request; the answer carries its ``X-Request-ID``.

    The span goes to Haystack's tracer, and the spans of pipelines stand below it. Neither questions
    nor documents are logged.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, request_id, status = time.perf_counter(), uuid4().hex, 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        tags = {
            "trlm.request_id": request_id,
            "http.request.method": scope["method"],
            "url.path": scope["path"],
        }
        route = "unmatched"
        try:
            with tracing.tracer.trace("trlm.request", tags=tags) as span:
                try:
                    await self._app(scope, receive, answer)
                finally:
                    # Labels must be few: what matched no route shares one.
                    route = getattr(scope.get("route"), "path", route)
                    span.set_tags({"http.route": route, "http.response.status_code": status})
        finally:
            seconds = time.perf_counter() - started
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            logger.info(
                "request",
                extra={
                    "fields": {
                        "request_id": request_id,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "seconds": round(seconds, 4),
                        "client": (scope.get("client") or [None])[0],
                    }
                },
            )


class ApiKey:
    """Answers 401 unless a request carries the key as ``Authorization: Bearer …``.

    The scheme's case does not matter, nor do blanks behind it (RFC 9110, section 11).
    """

    def __init__(self, app: ASGIApp, key: str, open_paths: Collection[str]) -> None:
        self._app = app
        self._wanted = key.encode()
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            given = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, key = given.partition(b" ")
            right = hmac.compare_digest(key.lstrip(b" "), self._wanted)
            if scheme.lower() != b"bearer" or not right:
                header = (b"www-authenticate", b"Bearer")
                await _refuse(scope, send, 401, "send the key as Authorization: Bearer …", header)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Reads a body of bounded size in bounded time, before anything else does.

    :param most: bytes.
    :param timeout: seconds in which the body must have arrived.
    """

    def __init__(self, app: ASGIApp, most: int, timeout: float) -> None:
        self._app = app
        self._most = most
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self._timeout)
        except asyncio.TimeoutError:
            await _refuse(
                scope, send, 408, f"the body did not arrive within {self._timeout:g} seconds"
            )
            return
        if body is None:
            await _refuse(
                scope, send, 413, f"the body is larger than {self._most} bytes; send less"
            )
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it is known to be too large."""
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if int(announced) > self._most:
            return None
        parts, size = [], 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                return None
            if not message.get("more_body", False):
                return b"".join(parts)


async def _refuse(
    scope: Scope, send: Send, status: int, detail: str, *headers: tuple[bytes, bytes]
) -> None:
    body = json.dumps(refusal(scope["path"], status, detail)).encode()
    start = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*start, *headers]})
    await send({"type": "http.response.body", "body": body})
