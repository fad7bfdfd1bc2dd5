"""All shards of an input that have no part yet, done here or by workers of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.offline.rows import InputFile, Shard, input_files, plan_shards
from trlm_retrieval.offline.worker import Done, Job, Worker
from trlm_retrieval.progress import progress_bar


class Workers(Protocol):
    """Who does shards: one worker here, or many elsewhere."""

    def settings(self) -> dict[str, Any]:
        """What their parts are made with, see :meth:`Worker.settings`."""

    def do(self, shards: Sequence[Shard], fingerprint: str, progress: Progress) -> Iterator[Done]:
        """Do shards in any order, and tell of each that is done."""

    def stop(self) -> None:
        """End what is still under way."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    :ivar rows: rows of the whole input.
    :ivar parts: parts of the whole output.
    :ivar done: the shards that this run did; the others were done before.
    """

    rows: int
    parts: int
    done: tuple[Done, ...]

    @property
    def rows_done(self) -> int:
        """Rows that this run did."""
        return sum(done.rows for done in self.done)

    @property
    def unscored(self) -> int:
        """Rows, of those, without a result."""
        return sum(done.unscored for done in self.done)

    @property
    def cut(self) -> int:
        """Rows, of those, whose passage was cut."""
        return sum(done.cut for done in self.done)

    @property
    def seconds(self) -> float:
        """From the first shard's beginning to the last one's end; loading is not in it."""
        if not self.done:
            return 0.0
        begin = min(done.started for done in self.done)
        return max(done.started + done.seconds for done in self.done) - begin


class Here:
    """One worker in this process.

    :raises ModelError: if the model is not there or does not fit the direction.
    """

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def settings(self) -> dict[str, Any]:
        return self._worker.settings()

    def do(self, shards: Sequence[Shard], fingerprint: str, progress: Progress) -> Iterator[Done]:
        for shard in shards:
            yield self._worker.do(shard, fingerprint, progress)

    def stop(self) -> None:
        pass


def run(
    source: Path,
    job: Job,
    shard_rows: int,
    workers: Callable[[Job], Workers] = Here,
    show_progress: bool = False,
) -> Summary:
    """Make all parts that are missing.

    A run that was killed is started again with the same arguments. Parts are put in place one by
    one, each whole, so that what is there is never made again and never mixed with parts of
    another model, prompt or input.

    :param source: a Parquet or JSON lines file, or a folder of such files.
    :param shard_rows: the most rows in a shard.
    :param workers: makes who does the shards.
    :param show_progress: show a bar with the time left on standard error.
    :raises DataError: if the input is damaged, or the output holds something else.
    :raises ModelError: if the model is not there or does not fit.
    """
    job = _with_whole_paths(job)
    files, shards = plan_shards(input_files(source), job.columns, shard_rows)
    rows = sum(file.rows for file in files)
    output = job.parts
    with output.sole_run():
        crew = workers(job)
        try:
            made_with = crew.settings()
            output.settle({**made_with, "shard_rows": shard_rows, "input": _named(files)})
            missing = output.missing(shards)
            with progress_bar("Rows", rows, show_progress) as advance:
                advance(rows - sum(shard.rows for shard in missing))
                done = tuple(crew.do(missing, made_with["model"], advance))
        finally:
            crew.stop()
    return Summary(rows, len(shards), done)


def _with_whole_paths(job: Job) -> Job:
    """The job with paths that mean the same in another process."""
    model = Path(job.model)
    where = str(model.resolve()) if model.exists() else job.model
    return replace(job, output=job.output.resolve(), model=where)


def _named(files: Sequence[InputFile]) -> list[dict[str, Any]]:
    """The files as they are noted: by name, as a data set may be moved."""
    return [
        {"name": file.path.name, "rows": file.rows, "bytes": file.bytes, "sha256": file.digest}
        for file in files
    ]
