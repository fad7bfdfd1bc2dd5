"""Load on a running server: many clients at once, latency percentiles, and a count of each status.

::

    trlm serve --index trlm-index &
    python -m trlm_retrieval.eval.bench.load http://127.0.0.1:8000 --clients 16 --seconds 60

Each client sends one request after the other: questions of the demo to ``/retrieval/run``; with
``--kinds retrieval,rerank,explain`` in turn to ``/v1/rerank`` with passages of the demo, and to
``/explain``. The memory that the server holds is shown for each tenth of the time, so that a long
run shows whether it grows.
"""

import argparse
import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from trlm_retrieval.index_data import demo_documents, demo_queries

PERCENTILES = (50, 90, 95, 99, 100)
KINDS = ("retrieval", "rerank", "explain")
_PASSAGES = 5
_SAMPLES = 10


@dataclass
class Load:
    """What came back.

    :ivar statuses: how often each status came; ``error`` counts requests without an answer.
    :ivar seconds: of each answer of status 200.
    :ivar megabytes: of memory that the server held, at each tenth of the time.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def report(self, wall: float) -> str:
        """The figures for a person; percentiles are of the requests that succeeded."""
        lines = [f"{sum(self.statuses.values())} requests in {wall:.1f} s"]
        lines += [f"status {status}: {number}" for status, number in sorted(self.statuses.items())]
        if self.seconds:
            lines.append(f"{len(self.seconds) / wall:.2f} answers a second")
            values = np.percentile(self.seconds, PERCENTILES)
            lines += [
                f"p{rank}: {value:.3f} s" for rank, value in zip(PERCENTILES, values, strict=True)
            ]
        if self.megabytes:
            lines.append("memory, MB: " + " ".join(f"{value:.0f}" for value in self.megabytes))
        return "\n".join(lines)


def requests_of(kinds: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and bodies of requests of these kinds in turn, without end."""
    queries = itertools.cycle(demo_queries().values())
    texts = itertools.cycle(document.content for document in demo_documents())
    for query, kind in zip(queries, itertools.cycle(kinds), strict=False):
        if kind == "rerank":
            documents = list(itertools.islice(texts, _PASSAGES))
            yield "/v1/rerank", {"query": query, "documents": documents}
        elif kind == "explain":
            yield "/explain", {"query": query, "top_k": _PASSAGES}
        else:
            yield "/retrieval/run", {"query": query}


async def run(url: str, clients: int, seconds: float, kinds: Sequence[str]) -> Load:
    """Send requests from many clients until the time is over; those under way are finished.

    Each client sends one at least, however slow the machine is.

    :param url: of the server; the variable TRLM_API_KEY holds its key where it has one.
    """
    load, requests, end = Load(), requests_of(kinds), time.monotonic() + seconds
    key = os.environ.get("TRLM_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def one(client: httpx.AsyncClient) -> None:
        first = True
        while first or time.monotonic() < end:
            first = False
            path, body = next(requests)
            started = time.monotonic()
            try:
                answer = await client.post(path, json=body)
            except httpx.TransportError:
                load.statuses["error"] += 1
                continue
            load.statuses[str(answer.status_code)] += 1
            if answer.status_code == 200:
                load.seconds.append(time.monotonic() - started)
            elif "retry-after" in answer.headers:
                await asyncio.sleep(float(answer.headers["retry-after"]))

    async def watch(client: httpx.AsyncClient) -> None:
        for _ in range(_SAMPLES):
            await asyncio.sleep(seconds / _SAMPLES)
            with suppress(httpx.TransportError):
                load.megabytes += _resident_megabytes((await client.get("/metrics")).text)

    limits = httpx.Limits(max_connections=clients + 1)
    async with httpx.AsyncClient(
        base_url=url, timeout=300, limits=limits, headers=headers, trust_env=False
    ) as client:
        await asyncio.gather(watch(client), *(one(client) for _ in range(clients)))
    return load


def _resident_megabytes(metrics: str) -> list[float]:
    rows = [row.split() for row in metrics.splitlines()]
    return [float(row[1]) / 1e6 for row in rows if row[0] == "process_resident_memory_bytes"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where a request failed in another way than 429 or 503."""
    parser = argparse.ArgumentParser(description="Load on a running trlm serve.")
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kinds", default="retrieval", help=f"some of {','.join(KINDS)}")
    chosen = parser.parse_args(arguments)
    kinds = chosen.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--kinds knows {', '.join(KINDS)}, not {', '.join(unknown)}")
    started = time.monotonic()
    load = asyncio.run(run(chosen.url, chosen.clients, chosen.seconds, kinds))
    print(load.report(time.monotonic() - started))
    return 0 if load.statuses.keys() <= {"200", "429", "503"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
