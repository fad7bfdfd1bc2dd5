"""Load on a running server: many clients at once, latency percentiles, and a count of each status.

::

    trlm serve --index trlm-index &
    python -m trlm_retrieval.eval.load http://127.0.0.1:8000 --clients 16 --seconds 60

Each client sends one request after the other: questions of the demo to ``/retrieval/run``, or with
``--rerank`` the same questions with passages of the demo to ``/v1/rerank``.
"""

import argparse
import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from trlm_retrieval.index_data import demo_documents, demo_queries

PERCENTILES = (50, 90, 95, 99, 100)
_PASSAGES = 5


@dataclass
class Load:
    """What came back.

    :ivar statuses: how often each status came; ``error`` counts requests without an answer.
    :ivar seconds: of each answer of status 200.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

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
        return "\n".join(lines)


def bodies(rerank: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Paths and bodies of requests, without end."""
    queries = itertools.cycle(demo_queries().values())
    if not rerank:
        for query in queries:
            yield "/retrieval/run", {"query": query}
    texts = itertools.cycle(document.content for document in demo_documents())
    for query in queries:
        yield "/v1/rerank", {"query": query, "documents": list(itertools.islice(texts, _PASSAGES))}


async def run(url: str, clients: int, seconds: float, rerank: bool) -> Load:
    """Send requests from many clients until the time is over; those under way are finished.

    :param url: of the server; the variable TRLM_API_KEY holds its key where it has one.
    """
    load, requests, end = Load(), bodies(rerank), time.monotonic() + seconds
    key = os.environ.get("TRLM_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
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

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(
        base_url=url, timeout=300, limits=limits, headers=headers, trust_env=False
    ) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    return load


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 where a request failed in another way than 429 or 503."""
    parser = argparse.ArgumentParser(description="Load on a running trlm serve.")
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rerank", action="store_true", help="load /v1/rerank")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    load = asyncio.run(run(chosen.url, chosen.clients, chosen.seconds, chosen.rerank))
    print(load.report(time.monotonic() - started))
    return 0 if load.statuses.keys() <= {"200", "429", "503"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
