"""
What indexing many short passages costs, and what a BM25 query over them costs in either library.

    python -m trlm_retrieval.eval.bench.index [--passages 100000] [--kind flat]

The passages are synthetic, with words drawn from a Zipf distribution, and bring random unit
vectors in place of an embedder, so that the figures are those of the index alone.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from haystack import Document
from rich.console import Console
from rich.table import Table

from trlm_retrieval.models.embedder import Vectors
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.bm25 import BM25, MatrixBM25, RankBM25
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.text.words import words

DIMENSION = 384
VOCABULARY = 50_000
WORDS = 60
QUERY_WORDS = 8
QUERIES = 20


class RandomEmbedder:
    """Unit vectors that cost next to nothing."""

    name = "random"
    dimension = DIMENSION

    def __init__(self) -> None:
        self._random = np.random.default_rng(1)

    def embed(self, texts: Sequence[str], show_progress: bool = False) -> Vectors:
        """Return float32 vectors of shape (len(texts), 384)."""
        vectors = self._random.standard_normal((len(texts), DIMENSION), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def zipf_text(random: np.random.Generator, length: int) -> str:
    """Draw words by a Zipf distribution."""
    numbers = np.minimum(random.zipf(1.2, length), VOCABULARY)
    return " ".join(f"w{number}" for number in numbers)


def passages(n: int) -> Iterator[Document]:
    """Yield documents of 60 words with a title."""
    random = np.random.default_rng(0)
    for i in range(n):
        yield Document(
            id=f"passage-{i}", content=zipf_text(random, WORDS), meta={"title": f"Passage {i}"}
        )


def peak_megabytes() -> float:
    """Return the most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)


def median_ms(bm25: BM25, queries: Sequence[Sequence[str]]) -> float:
    """Return the median time of a query in milliseconds."""
    times = []
    for query in queries:
        start = time.perf_counter()
        bm25.scores(query)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def main() -> None:
    """Build, open and search an index, and print what each step took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--kind", choices=("flat", "hnsw"), default="flat")
    arguments = parser.parse_args()
    random = np.random.default_rng(2)
    texts = [zipf_text(random, QUERY_WORDS) for _ in range(QUERIES)]
    embedder = RandomEmbedder()

    table = Table("step", "result", title=f"{arguments.passages:,} passages, {arguments.kind}")
    with tempfile.TemporaryDirectory() as folder:
        before = peak_megabytes()
        start = time.perf_counter()
        PassageIndex.build(
            folder,
            passages(arguments.passages),
            embedder=embedder,
            faiss_kind=arguments.kind,
            show_progress=True,
        )
        table.add_row("index", f"{time.perf_counter() - start:.1f} s")
        table.add_row("peak memory beyond the embedder", f"{peak_megabytes() - before:.0f} MB")
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        table.add_row("on disk", f"{size / 1e6:.0f} MB")
        start = time.perf_counter()
        index = PassageIndex.open(folder, embedder=embedder)
        table.add_row("open, checksums included", f"{time.perf_counter() - start:.2f} s")
        for name, search in (("BM25", index.search_bm25), ("FAISS", index.search_dense)):
            for top_k in (10, 100):
                times = []
                for text in texts:
                    start = time.perf_counter()
                    search(text, top_k=top_k)
                    times.append(time.perf_counter() - start)
                table.add_row(
                    f"{name} search, top {top_k}", f"{np.median(times) * 1000:.1f} ms a query"
                )

    queries = [words(text) for text in texts]
    for n in sorted({1_000, 5_000, 20_000, arguments.passages}):
        if n > arguments.passages:
            continue
        counted = [words(passage_text(document, ("title",))) for document in passages(n)]
        for kind in (RankBM25, MatrixBM25):
            bm25 = kind.build(counted)
            table.add_row(
                f"{bm25.library}, {n:,} passages", f"{median_ms(bm25, queries):.1f} ms a query"
            )
    Console().print(table)


if __name__ == "__main__":
    main()
