"""Groups of pairs with their hard negatives: passages that a search for the query also finds.

A random other passage is almost always told apart from the right one, so nothing is learned from
it. What reranking has to tell apart are passages that share the query's words. So pairs are put
into groups whose passages are hard negatives of each other, and each query of a group meets all of
the group's passages.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from zlib import crc32

import numpy as np

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines, write_text
from trlm_retrieval.passage_index.bm25 import build_bm25
from trlm_retrieval.text.words import words
from trlm_retrieval.training.corpus import Section, numbered_sections

_LOOKED_AT = 64  # of the passages that BM25 finds for a query


@dataclass(frozen=True)
class Group:
    """Pairs whose passages are hard negatives of each other.

    :ivar queries: query n is answered by passage n.
    :ivar passages: all different.
    :ivar also: more (query, passage) numbers that are known to belong together.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    also: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def key(self) -> int:
        """Changes with the texts; tells whether labels are of this group."""
        return crc32(json.dumps([self.queries, self.passages]).encode())

    @property
    def held_out(self) -> bool:
        """Whether all of its passages are kept from training, to measure on."""
        return all(Section("", passage).held_out for passage in self.passages)


def make_groups(
    pairs: Sequence[tuple[str, str]],
    size: int,
    *,
    seed: int = 0,
    negatives: Mapping[int, Sequence[int]] | None = None,
    least: int = 2,
) -> list[Group]:
    """All pairs in groups of at most ``size``, in a random order.

    :param least: groups of fewer pairs are dropped.
    :param negatives: for some pairs, numbers of others that are hard to tell from them; they come
        into the pair's group first.
    :raises ValueError: if a group could not hold two pairs.
    """
    if not 2 <= least <= size:
        raise ValueError(f"groups hold 2 pairs or more: not {least} to {size}")
    order = np.random.default_rng(seed).permutation(len(pairs)).tolist()
    answers = defaultdict(set)
    for query, passage in pairs:
        answers[query].add(passage)
    groups = []
    for numbers in HardNegatives(pairs, negatives).groups(order, size):
        if len(numbers) < least:
            continue
        queries, passages = zip(*(pairs[number] for number in numbers), strict=True)
        also = tuple(
            (q, p)
            for q, query in enumerate(queries)
            for p, passage in enumerate(passages)
            if q != p and passage in answers[query]
        )
        groups.append(Group(queries, passages, also))
    return groups


def read_negatives(
    file: Path, pair_files: Sequence[Path], pairs: Sequence[tuple[str, str]]
) -> dict[int, list[int]]:
    """Hard negatives that were found beforehand, as numbers of pairs.

    Each line is ``{"file": F, "line": N, "neg": [[F, N], …]}``: line N, counted from 0, of the pair
    file named F, without its ending. Files that are not among ``pair_files`` and pairs that are not
    among ``pairs`` are passed over.

    :raises DataError: if a line is something else, or no line is about these pairs.
    """
    numbers = {pair: number for number, pair in enumerate(pairs)}
    there = {
        (path.name.partition(".")[0], line - 1): numbers.get((section.heading, section.text))
        for path in pair_files
        for line, section in numbered_sections(path)
    }
    found: dict[int, list[int]] = {}
    for number, row in read_json_lines(file):
        try:
            own = there.get((row["file"], row["line"]))
            others = [there.get((name, line)) for name, line in row["neg"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{file}, line {number}: expected `file`, `line` and `neg`, a list of [file, line]"
            ) from error
        if own is not None:
            found[own] = [other for other in others if other is not None]
    if not found:
        names = ", ".join(path.name for path in pair_files)
        raise DataError(f"{file} holds no hard negatives of the pairs in {names}")
    return found


def write_groups(groups: Iterable[Group], file: Path) -> None:
    """Write groups as JSON lines."""
    lines = [
        {"queries": group.queries, "passages": group.passages, "also": group.also}
        for group in groups
    ]
    write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read_groups(file: Path) -> list[Group]:
    """The groups that :func:`write_groups` wrote.

    :raises DataError: if a line holds no group; names it.
    """
    groups = []
    for number, row in read_json_lines(file):
        try:
            group = Group(
                tuple(row["queries"]), tuple(row["passages"]), tuple(map(tuple, row["also"]))
            )
            if len(group.queries) != len(group.passages):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{file}, line {number}: no group; make the file again with `trlm train groups`"
            ) from error
        groups.append(group)
    return groups


class HardNegatives:
    """BM25 over the passages of pairs, each passage once.

    :param pairs: (query, passage) pairs.
    :param negatives: for some pairs, numbers of others that come before those BM25 finds.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        negatives: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self._negatives = negatives or {}
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
            taken = {self._passage_of[pair]}
            given = [self._passage_of[other] for other in self._negatives.get(pair, ())]
            for passage in chain(given, self._found(pair)):
                if len(group) == size:
                    break
                if passage in taken:
                    continue
                taken.add(passage)
                other = next((p for p in self._pairs_of[passage] if left[p]), None)
                if other is not None:
                    group.append(other)
                    left[other] = False
            yield group

    def _found(self, pair: int) -> Iterator[int]:
        """Passages that BM25 finds for the pair's query, best first, without its own."""
        scores = self._bm25.scores(words(self._queries[pair])).copy()
        scores[self._passage_of[pair]] = 0
        count = min(_LOOKED_AT, len(scores) - 1)
        best = np.argpartition(-scores, count)[:count] if count > 0 else np.zeros(0, int)
        yield from (int(n) for n in best[np.argsort(-scores[best], kind="stable")] if scores[n] > 0)
