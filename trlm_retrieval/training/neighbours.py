"""Which pairs to learn from together: those whose passages a search for the query would also find.

A random other passage is told apart from the right one almost always, so nothing is learned from
it. What reranking has to tell apart are passages that share the query's words.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from trlm_retrieval.passage_index.bm25 import build_bm25
from trlm_retrieval.text.words import words

_LOOKED_AT = 64  # of the passages that BM25 finds for a query


class Neighbours:
    """BM25 over the passages of pairs, each passage once.

    :param pairs: (query, passage) pairs.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._queries = [query for query, _ in pairs]
        numbers = {passage: n for n, passage in enumerate(dict.fromkeys(p for _, p in pairs))}
        self._passage_of = np.array([numbers[passage] for _, passage in pairs])
        by_passage = sorted(range(len(pairs)), key=lambda pair: self._passage_of[pair])
        self._pairs_of = [
            list(group) for _, group in groupby(by_passage, lambda pair: self._passage_of[pair])
        ]
        self._bm25 = build_bm25([words(passage) for passage in numbers])

    def groups(self, order: Sequence[int], size: int) -> Iterator[list[int]]:
        """All pairs of ``order``, each once, in groups of different passages.

        A group holds the next pair that is left, and behind it the pairs, of those left, whose
        passages BM25 finds first for its query.

        :param order: numbers of pairs.
        :param size: the most pairs of a group.
        """
        left = np.zeros(len(self._queries), bool)
        left[list(order)] = True
        for pair in order:
            if not left[pair]:
                continue
            group = [pair]
            left[pair] = False
            for passage in self._found(pair):
                if len(group) == size:
                    break
                other = next((p for p in self._pairs_of[passage] if left[p]), None)
                if other is not None:
                    group.append(other)
                    left[other] = False
            yield group

    def _found(self, pair: int) -> list[int]:
        """Passages that BM25 finds for the pair's query, best first, but for its own."""
        scores = self._bm25.scores(words(self._queries[pair])).copy()
        scores[self._passage_of[pair]] = 0
        count = min(_LOOKED_AT, len(scores) - 1)
        best = np.argpartition(-scores, count)[:count] if count > 0 else np.zeros(0, int)
        return [int(n) for n in best[np.argsort(-scores[best], kind="stable")] if scores[n] > 0]
