"""A bounded way to the models: a few workers, a few who wait, and an answer for all others."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import BoundedSemaphore
from typing import Any, TypeVar

T = TypeVar("T")


class Busy(Exception):
    """All places are taken, or the time ran out before a worker was free: try again later."""


class TooSlow(Exception):
    """The time ran out while a worker was at it."""


class Gate:
    """Runs blocking work in a few threads and never holds more than it can do.

    :param workers: pieces of work done at the same time.
    :param queue: pieces of work that may wait for a worker.
    :param timeout: the most seconds that work waits, and the most that it then takes.
    :param on_change: called with +1 when work is let in and -1 when its place is free again, from
        any thread.
    """

    def __init__(
        self,
        workers: int,
        *,
        queue: int,
        timeout: float,
        on_change: Callable[[int], Any] = lambda change: None,
    ) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="trlm-worker")
        self._places = BoundedSemaphore(workers + queue)
        self._timeout = timeout
        self._on_change = on_change

    @property
    def is_full(self) -> bool:
        """Whether the next piece of work would be turned away."""
        free = self._places.acquire(blocking=False)
        if free:
            self._places.release()
        return not free

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, from a worker thread that sees the caller's context variables.

        A thread cannot be stopped: work that takes too long keeps its place until it is done, so
        that abandoned work never piles up.

        :raises Busy: if there is no place, or none of the workers came to it in time.
        :raises TooSlow: if a worker began and did not finish in time.
        """
        if not self._places.acquire(blocking=False):
            raise Busy
        self._on_change(+1)
        began: list[float] = []

        def timed() -> T:
            began.append(time.monotonic())
            return work()

        try:
            job = self._threads.submit(copy_context().run, timed)
        except RuntimeError:  # the gate is closed
            self._leave()
            raise Busy from None
        job.add_done_callback(self._leave)
        result = asyncio.ensure_future(asyncio.wrap_future(job))
        try:
            await asyncio.wait([result], timeout=self._timeout)
            if not result.done():
                if job.cancel():
                    raise Busy
                since = began[0] if began else time.monotonic()  # a thread may be about to note it
                await asyncio.wait([result], timeout=since + self._timeout - time.monotonic())
            if result.cancelled():  # the gate was closed
                raise Busy
            if not result.done():
                raise TooSlow
            return result.result()
        finally:
            job.cancel()  # of a request that was given up: nothing, once a worker has begun

    def close(self) -> None:
        """Let nobody else in and drop those who wait; work that began is finished."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, job: "Future[Any] | None" = None) -> None:
        self._places.release()
        self._on_change(-1)
