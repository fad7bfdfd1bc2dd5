"""A bounded way to the models: a few workers, a few who wait, and an answer for all others."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
    :param timeout: seconds for one piece of work, waiting included.
    :param on_change: called with +1 when work is let in and -1 when its place is free again, from
        any thread.
    """

    def __init__(
        self,
        workers: int,
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
        """What ``work`` returns, from a worker thread.

        A thread cannot be stopped: work that takes too long keeps its place until it is done, so
        that abandoned work never piles up.

        :raises Busy: if there is no place, or none of the workers came to it in time.
        :raises TooSlow: if a worker began and did not finish in time.
        """
        if not self._places.acquire(blocking=False):
            raise Busy
        self._on_change(+1)
        try:
            job = self._threads.submit(work)
        except RuntimeError:  # the gate is closed
            self._leave()
            raise Busy from None
        job.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(
                asyncio.shield(asyncio.wrap_future(job)), timeout=self._timeout
            )
        except asyncio.TimeoutError:
            if job.done() and not job.cancelled():
                return job.result()  # in the very last moment, or a timeout of the work's own
            raise (Busy if job.cancel() else TooSlow) from None
        finally:
            job.cancel()  # of a request that was given up: nothing, once a worker has begun

    def close(self) -> None:
        """Let nobody else in and drop those who wait; work that began is finished."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, job: "Future[Any] | None" = None) -> None:
        self._places.release()
        self._on_change(-1)
