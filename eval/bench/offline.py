"""How fast `trlm score` is with one and with two actors, and whether the simulation foretells it.

    python -m trlm_retrieval.eval.bench.offline --model smollm2-135m --pairs 240

Pairs of the demo go through real runs on this machine, each actor with one thread: with one actor,
with two, and with two of which one is killed. From the first run's speed and start the simulation
foretells the others. The cores should have nothing else to do; where they have, the rate of a
processor second still says what a second actor costs the first.
"""

import argparse
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from rich.console import Console
from rich.table import Table

from trlm_retrieval.index_data import demo_documents, demo_queries
from trlm_retrieval.offline import Job, Summary, run
from trlm_retrieval.offline.ray_actors import RayActors
from trlm_retrieval.passage_index.documents import passage_text

from .simulate_offline import simulate


@dataclass(frozen=True)
class Timed:
    """A run: what it did, when it started and ended, and when an actor was killed, if one was."""

    summary: Summary
    seconds: float
    start_seconds: float
    killed_at: float | None

    @property
    def rate(self) -> float:
        """Pairs a second, from the first shard's beginning to the last one's end."""
        return self.summary.rows / self.summary.seconds

    @property
    def cpu_rate(self) -> float:
        """Pairs a second of a processor core at work."""
        return self.summary.rows / sum(done.cpu_seconds for done in self.summary.done)


def write_pairs(path: Path, number: int) -> None:
    """Pairs of demo questions and passages, no passage twice in a row."""
    queries, documents = list(demo_queries().values()), demo_documents()
    rows = [
        (queries[i % len(queries)], passage_text(documents[i * 7 % len(documents)]))
        for i in range(number)
    ]
    table = pa.table({"query": [row[0] for row in rows], "passage": [row[1] for row in rows]})
    pq.write_table(table, path)


def timed(source: Path, job: Job, shard_rows: int, actors: int, kill: bool) -> Timed:
    """A run with so many actors of one thread; one is killed when the first part is there."""
    killed: list[float] = []
    ended = threading.Event()
    if kill:
        threading.Thread(target=_kill_one, args=(job.output, killed, ended), daemon=True).start()
    started = time.time()
    summary = run(source, job, shard_rows, partial(RayActors, actors=actors, cpus=1))
    seconds = time.time() - started
    ended.set()
    begin = min(done.started for done in summary.done)
    return Timed(summary, seconds, begin - started, killed[0] - started if killed else None)


def _kill_one(output: Path, killed: list[float], ended: threading.Event) -> None:
    while not ended.wait(0.01):
        if not list(output.glob("part-*")):
            continue
        for process in psutil.Process().children(recursive=True):
            if (process.cmdline() or [""])[0].startswith("ray::_Actor.do"):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(time.time())
                return


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Offline scoring with one and two actors.")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--pairs", type=int, default=240)
    parser.add_argument("--shard-rows", type=int, default=20)
    chosen = parser.parse_args(arguments)
    console = Console()
    table = Table(
        "actors, one thread each",
        "pairs a second",
        "ratio",
        "a cpu second",
        "start, s",
        "whole run, s",
        "foretold, s",
    )
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "pairs.parquet"
        write_pairs(source, chosen.pairs)
        first: Timed | None = None
        for actors, kill in ((1, False), (2, False), (2, True)):
            output = Path(folder) / f"{actors}-{kill}"
            job = Job(output, chosen.model, max_passage_tokens=512, dtype="float32")
            found = timed(source, job, chosen.shard_rows, actors, kill)
            first = first or found
            each = sorted(first.summary.done, key=lambda done: done.shard)
            foretold = simulate(
                [done.seconds for done in each],
                [1.0] * actors,
                load_seconds=first.start_seconds,
                restart_seconds=0.0,
                killed=[(found.killed_at, 0)] if found.killed_at is not None else [],
            )
            table.add_row(
                f"{actors}, one killed" if kill else str(actors),
                f"{found.rate:.2f}",
                f"{found.rate / first.rate:.2f}",
                f"{found.cpu_rate:.2f}",
                f"{found.start_seconds:.1f}",
                f"{found.seconds:.1f}",
                "" if found is first else f"{foretold.seconds:.1f}",
            )
    console.print(f"{chosen.model}, {chosen.pairs:,} pairs, shards of {chosen.shard_rows}, float32")
    console.print(table)


if __name__ == "__main__":
    main()
