"""Inner products of unit vectors with FAISS: exact (flat) or through a graph (HNSW)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import faiss
import numpy as np

from trlm_retrieval.models.embedder import Vectors

FaissKind = Literal["flat", "hnsw"]
KINDS = ("flat", "hnsw")

# Neighbours of a node, and the breadth of the search while building and while querying.
_HNSW_NEIGHBOURS = 32
_HNSW_BUILD_BREADTH = 200
_HNSW_QUERY_BREADTH = 128
# When more results are asked for than were fetched, the next fetch is this many times larger.
_GROWTH = 4

_FILE = "vectors.faiss"


class DenseIndex:
    """
    A FAISS index over unit vectors; the row is the position of the document.

    :param index: the FAISS index.
    """

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    @classmethod
    def empty(cls, dimension: int, kind: FaissKind) -> "DenseIndex":
        """Make an index to `append` to."""
        if kind == "flat":
            return cls(faiss.IndexFlatIP(dimension))
        index = faiss.IndexHNSWFlat(dimension, _HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _HNSW_BUILD_BREADTH
        index.hnsw.efSearch = _HNSW_QUERY_BREADTH
        return cls(index)

    @classmethod
    def load(cls, folder: Path) -> "DenseIndex":
        """
        Load what `save` wrote.

        :raises RuntimeError: if the file is not a FAISS index.
        """
        return cls(faiss.read_index(str(folder / _FILE)))

    def save(self, folder: Path) -> None:
        """Write the index into an existing folder."""
        faiss.write_index(self._index, str(folder / _FILE))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._index.d)

    def append(self, vectors: Vectors) -> None:
        """Add unit vectors, shape (n, dimension)."""
        self._index.add(np.ascontiguousarray(vectors))

    def vector(self, position: int) -> Vectors:
        """Return the vector at a position, shape (dimension,)."""
        return np.asarray(self._index.reconstruct(position), dtype=np.float32)

    def ranked(self, query: Vectors, expected: int, exact: bool) -> Iterator[tuple[int, float]]:
        """
        Yield positions and cosines, best first.

        :param query: a unit vector, shape (dimension,).
        :param expected: how many results will probably be taken.
        :param exact: compare with every vector, also where there is a graph. The graph yields
            no more than `expected` results; without it there is one for every vector.
        """
        flat = self._index
        if isinstance(self._index, faiss.IndexHNSW):
            if not exact:
                yield from self._fetch(self._index, query, expected)
                return
            flat = faiss.downcast_index(self._index.storage)
        seen: set[int] = set()
        fetch = expected
        while len(seen) < len(self):
            for position, score in self._fetch(flat, query, fetch):
                if position not in seen:
                    seen.add(position)
                    yield position, score
            fetch *= _GROWTH

    def _fetch(self, index: faiss.Index, query: Vectors, n: int) -> Iterator[tuple[int, float]]:
        scores, positions = index.search(query[None, :], min(n, len(self)))
        for position, score in zip(positions[0].tolist(), scores[0].tolist(), strict=True):
            if position >= 0:  # FAISS fills up with -1 where it found fewer
                yield position, score


def unit(vectors: Vectors) -> Vectors:
    """
    Scale rows to length 1; a row of zeros stays as it is.

    :param vectors: shape (n, dimension).
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
