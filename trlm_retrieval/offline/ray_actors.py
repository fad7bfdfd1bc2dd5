"""Workers as actors of a Ray cluster, or of this machine where there is no cluster.

Each actor loads one model and asks for shards; it reads them from the input and writes their parts
itself, so that nothing but the names of shards travels through Ray. An actor that is killed is
started again and its shard done again. When no shard is left to begin, idle actors begin those
under way a second time, so that a slow or lost machine does not hold up the end; the part that is
complete first is kept.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.offline.rows import Shard
from trlm_retrieval.offline.worker import Done, Job, Worker

ATTEMPTS = 4  # of a shard whose worker dies each time


class _Actor:
    """A worker that loads its model at its first task, where an error is told as it is."""

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads
        self._worker: Worker | None = None

    def settings(self) -> dict[str, Any]:
        return self._loaded().settings()

    def do(self, shard: Shard, fingerprint: str) -> Done:
        return self._loaded().do(shard, fingerprint)

    def _loaded(self) -> Worker:
        if self._worker is None:
            self._worker = Worker(self._job, self._threads)
        return self._worker


class RayActors:
    """Workers on the cluster that RAY_ADDRESS names, else on this machine.

    :param actors: how many; None takes one for each ``gpus`` or, without any, for each ``cpus``.
    :param cpus: processor cores for each, and threads of a model there.
    :param gpus: GPUs for each, which may be a fraction; None takes 1 where there are any.
    :raises ValueError: if the cluster has not as many cores or GPUs.
    """

    def __init__(
        self, job: Job, *, actors: int | None = None, cpus: int = 1, gpus: float | None = None
    ) -> None:
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        try:
            there = ray.cluster_resources()
            gpus = min(1.0, there.get("GPU", 0.0)) if gpus is None else gpus
            wanted = {"CPU": float(cpus), "GPU": gpus}
            room = min(int(there.get(kind, 0) / each) for kind, each in wanted.items() if each > 0)
            number = room if actors is None else actors
            if not 0 < number <= room:
                raise ValueError(
                    f"{number or 1} actors with {cpus} CPUs and {gpus:g} GPUs each do not fit the "
                    f"cluster, which has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}: "
                    "choose fewer actors, or less for each"
                )
            actor: Any = ray.remote(_Actor).options(
                num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=ATTEMPTS - 1
            )
            self._actors: list[Any] = [actor.remote(job, cpus) for _ in range(number)]
        except BaseException:
            self._shut_down()
            raise

    def settings(self) -> dict[str, Any]:
        [first], _ = ray.wait([actor.settings.remote() for actor in self._actors])
        found: dict[str, Any] = _get(first, "loading the model")
        return found

    def do(self, shards: Sequence[Shard], fingerprint: str, progress: Progress) -> Iterator[Done]:
        idle = list(self._actors)
        waiting = list(reversed(shards))
        under_way: dict[Any, tuple[Any, Shard]] = {}
        unfinished = {shard.number for shard in shards}
        while unfinished:
            while idle and (waiting or (waiting := _once_more(under_way, unfinished))):
                actor, shard = idle.pop(), waiting.pop()
                under_way[actor.do.remote(shard, fingerprint)] = (actor, shard)
            [ready], _ = ray.wait(list(under_way))
            actor, shard = under_way.pop(ready)
            idle.append(actor)
            if shard.number not in unfinished:
                continue
            done: Done = _get(
                ready, f"rows {shard.row} to {shard.row + shard.rows - 1} ({shard.path})"
            )
            unfinished.remove(shard.number)
            progress(done.rows)
            yield done

    def stop(self) -> None:
        if not self._started:  # else they end with the cluster
            for actor in self._actors:
                ray.kill(actor)
        self._shut_down()

    def _shut_down(self) -> None:
        if self._started:
            ray.shutdown()


def _once_more(under_way: dict[Any, tuple[Any, Shard]], unfinished: set[int]) -> list[Shard]:
    """Shards under way with one worker only, the one begun first at the end."""
    begun = [shard for _, shard in under_way.values() if shard.number in unfinished]
    numbers = [shard.number for shard in begun]
    return [shard for shard in reversed(begun) if numbers.count(shard.number) == 1]


def _get(reference: Any, what: str) -> Any:
    """A result; an error in a worker is raised here as it was there.

    :raises ModelError: if workers died of it again and again.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from error
    except RayActorError as error:
        raise ModelError(
            f"{ATTEMPTS} workers died one after the other at {what}: see Ray's logs; if they ran "
            "out of memory, take fewer actors or a smaller model"
        ) from error
