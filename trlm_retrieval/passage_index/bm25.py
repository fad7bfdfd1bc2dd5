"""
BM25 over lists of words: rank-bm25 for small indexes, bm25s beyond.

Both use the same formula. A word that occurs f times in a document of length l adds

    idf * f * (K1 + 1) / (f + K1 * (1 - B + B * l / mean length)),
    idf = log(1 + (N - n + 0.5) / (n + 0.5))    for a word found in n of N documents,

which, unlike rank-bm25's own idf, never falls below 0 for a frequent word. rank-bm25 scores every
document in a Python loop. bm25s multiplies everything out while indexing, and a query only adds
up the numbers of its words.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import bm25s
import numpy as np
import numpy.typing as npt
from rank_bm25 import BM25Okapi

K1 = 1.2
B = 0.75
# Beyond this many documents bm25s takes over. `python -m trlm_retrieval.eval.bench.index`
# prints what both take for a query.
RANK_BM25_MAX_DOCUMENTS = 5_000

_COUNTS = "bm25.json"
_MATRIX = "bm25s"

Scores = npt.NDArray[np.floating[Any]]


class BM25(Protocol):
    """What the passage index needs of either library."""

    library: str

    def scores(self, query: Sequence[str]) -> Scores:
        """Return one score for each document, 0 where no word of the query occurs."""

    def save(self, folder: Path) -> None:
        """Write what `load_bm25` reads into an existing folder."""


class _Okapi(BM25Okapi):
    """rank-bm25 over word counts instead of words, with the idf above."""

    def _initialize(self, corpus: Sequence[dict[str, int]]) -> dict[str, int]:
        self.doc_freqs = list(corpus)
        self.doc_len = [sum(counts.values()) for counts in corpus]
        self.corpus_size = len(corpus)
        self.avgdl = sum(self.doc_len) / self.corpus_size
        return Counter(word for counts in corpus for word in counts)

    def _calc_idf(self, nd: dict[str, int]) -> None:
        for word, n in nd.items():
            self.idf[word] = math.log(1 + (self.corpus_size - n + 0.5) / (n + 0.5))


class RankBM25:
    """Every document in a Python loop; builds at once and needs little."""

    library = "rank-bm25"

    def __init__(self, counts: Sequence[dict[str, int]]) -> None:
        self._bm25 = _Okapi(counts, k1=K1, b=B)

    @classmethod
    def build(cls, documents: Sequence[Sequence[str]]) -> "RankBM25":
        return cls([dict(Counter(document)) for document in documents])

    def scores(self, query: Sequence[str]) -> Scores:
        return self._bm25.get_scores([word for word in query if word in self._bm25.idf])

    def save(self, folder: Path) -> None:
        (folder / _COUNTS).write_text(json.dumps(self._bm25.doc_freqs), encoding="ascii")


class MatrixBM25:
    """A sparse matrix of finished scores, mapped from disk when it is loaded."""

    library = "bm25s"

    def __init__(self, matrix: bm25s.BM25) -> None:
        self._bm25 = matrix

    @classmethod
    def build(cls, documents: Sequence[Sequence[str]]) -> "MatrixBM25":
        matrix = bm25s.BM25(k1=K1, b=B, method="atire", idf_method="lucene", backend="numpy")
        matrix.index(documents, show_progress=False)
        return cls(matrix)

    def scores(self, query: Sequence[str]) -> Scores:
        return self._bm25.get_scores_from_ids(self._bm25.get_tokens_ids(query))

    def save(self, folder: Path) -> None:
        self._bm25.save(folder / _MATRIX, show_progress=False)


def build_bm25(documents: Sequence[Sequence[str]]) -> BM25:
    """
    Count the words of the documents.

    :param documents: for each document its words.
    """
    # bm25s cannot index documents that all are without a word, such as rows of emoji.
    if len(documents) > RANK_BM25_MAX_DOCUMENTS and any(documents):
        return MatrixBM25.build(documents)
    return RankBM25.build(documents)


def load_bm25(folder: Path, library: str) -> BM25:
    """
    Load what `BM25.save` wrote.

    :param folder: the folder it was saved in.
    :param library: the value of `BM25.library` that the manifest holds.
    :raises ValueError: if there is no such library, or the files are not what it wrote.
    """
    if library == MatrixBM25.library:
        return MatrixBM25(bm25s.BM25.load(folder / _MATRIX, mmap=True, show_progress=False))
    if library == RankBM25.library:
        return RankBM25(json.loads((folder / _COUNTS).read_text(encoding="ascii")))
    raise ValueError(f"unknown BM25 library {library!r}")
