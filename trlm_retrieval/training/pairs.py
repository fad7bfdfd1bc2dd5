"""Batches of (query, passage) pairs, read exactly as scoring reads them.

A row holds a passage (the context) and behind it one or more queries (targets). Each target sees
the context and itself, never another target, so one pass over a passage gives the likelihood of
several queries.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.template import Template
from trlm_retrieval.models.batches import budget_batches
from trlm_retrieval.training.groups import HardNegatives
from trlm_retrieval.training.objective import TokenBatch

_PAIRS_AT_ONCE = 1024
_POOL = 4096  # pairs among which rows of like length are put together


@dataclass(frozen=True)
class PairBatch(TokenBatch):
    """
    :ivar cells: shape (predictions,); row × targets a row + number of the target, which counts the
        other rows' queries on from this row's own, and one more cell for all end tokens.
    :ivar repeats: shape (rows, targets a row); whether the passage that query ``row`` meets as its
        k-th candidate is its own passage once more.
    :ivar owners: shape (rows, columns); 0 in the context, else the number of the target that a
        token belongs to; None where each row has one target, and is a plain sequence.
    """

    cells: torch.Tensor
    repeats: torch.Tensor
    owners: torch.Tensor | None

    def inputs_on(self, device: torch.device) -> dict[str, torch.Tensor]:
        inputs = super().inputs_on(device)
        if self.owners is not None:
            # Made where it is used: it is by far the largest part of a batch.
            owners = self.owners.to(device)
            seen = (owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None])
            inputs["attention_mask"] = seen.tril_()[:, None]
        return inputs


class EncodedPairs:
    """Many pairs as tokens, in flat arrays of four bytes a token.

    :param max_passage_tokens: longer passages are cut; their beginning is kept.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        encoder: PairEncoder,
        template: Template,
        max_passage_tokens: int | None,
    ) -> None:
        contexts: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            chunk = pairs[start : start + _PAIRS_AT_ONCE]
            for pair in encoder.encode(chunk, template, max_passage_tokens):
                contexts.append(np.array(pair.context, np.int32))
                targets.append(np.array(pair.target, np.int32))
        self.contexts, self.targets = contexts, targets

    def __len__(self) -> int:
        return len(self.contexts)


class PairBatches:
    """Endless batches of pairs, filled by a token budget.

    Without hard negatives, rows of like length stand together and each passage meets its own query.
    With them, a batch is one group of pairs with related passages, and each passage meets
    the queries of the whole group.

    :param end: token that follows a query; learned too, so that generated queries end.
    :param tokens: rows × longest row stays within this.
    :param others: how many other queries a passage meets.
    :param negatives: of the same pairs; needed where ``others`` is not 0.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        end: int,
        tokens: int,
        seed: int,
        others: int = 0,
        negatives: HardNegatives | None = None,
    ) -> None:
        self._pairs, self._end, self._tokens, self._seed = pairs, end, tokens, seed
        self._others, self._negatives = others, negatives
        self._lengths = np.array(
            [
                len(context) + (1 + others) * len(target)
                for context, target in zip(pairs.contexts, pairs.targets, strict=True)
            ]
        )
        self._known: list[list[int]] = []
        self._coming = self._endless()

    def batch(self, index: int) -> PairBatch:
        while index >= len(self._known):
            self._known.append(next(self._coming))
        return self.rows(self._known[index])

    def _endless(self) -> Iterator[list[int]]:
        """Batches, as numbers of pairs; every pair once before any comes again."""
        for epoch in count():
            shuffle = np.random.default_rng([self._seed, epoch])
            order = shuffle.permutation(len(self._pairs))
            if self._negatives is not None:
                for group in self._negatives.groups(order.tolist(), 1 + self._others):
                    yield from self._within_budget(group)
                continue
            batches = [
                batch
                for pool in np.array_split(order, max(1, len(order) // _POOL))
                for batch in self._within_budget(pool.tolist())
            ]
            for place in shuffle.permutation(len(batches)):
                yield batches[place]

    def _within_budget(self, chosen: list[int]) -> list[list[int]]:
        """These pairs, those of like length together."""
        parts = budget_batches(self._lengths[chosen].tolist(), self._tokens)
        return [[chosen[place] for place in part] for part in parts]

    def rows(self, chosen: Sequence[int]) -> PairBatch:
        """The batch that holds just these pairs."""
        contexts = [self._pairs.contexts[index] for index in chosen]
        targets = [self._pairs.targets[index] for index in chosen]
        rows, width = len(chosen), 1 + min(self._others, len(chosen) - 1)
        packed = [
            _Row(context, [targets[(row + number) % rows] for number in range(width)], self._end)
            for row, context in enumerate(contexts)
        ]
        columns = max(len(row.ids) for row in packed)
        inputs = {"input_ids": _padded([row.ids for row in packed], columns, 0)}
        owners = None
        if width > 1:
            owners = _padded([row.owners for row in packed], columns, -1)
            inputs["position_ids"] = _padded([row.positions for row in packed], columns, 0)
        predict_from = [row.predict_from + number * columns for number, row in enumerate(packed)]
        cells = [
            np.where(row.cells < 0, rows * width, row.cells + number * width)
            for number, row in enumerate(packed)
        ]
        meets = (np.arange(rows)[:, None] - np.arange(width)) % rows
        repeats = [
            [k > 0 and np.array_equal(contexts[d], contexts[query]) for k, d in enumerate(met)]
            for query, met in enumerate(meets)
        ]
        return PairBatch(
            inputs,
            torch.from_numpy(np.concatenate(predict_from)),
            torch.from_numpy(np.concatenate([row.predicted for row in packed])).long(),
            {"loss": sum(map(len, targets)), "end": rows, "contrast": rows},
            torch.from_numpy(np.concatenate(cells)),
            torch.tensor(repeats),
            owners,
        )


class _Row:
    """One context with the targets behind it, as int64 arrays.

    :ivar ids, positions, owners: for each token, its id, its position for the network, and 0 in the
        context, else the number of its target, from 1.
    :ivar predict_from, predicted, cells: for each prediction, the place that makes it, the token,
        and the number of its target, from 0, or -1 for the end token.
    """

    def __init__(self, context: np.ndarray, targets: Sequence[np.ndarray], end: int) -> None:
        # The last token of a target is predicted, not read; that of the own one predicts the end.
        read = [targets[0], *(target[:-1] for target in targets[1:])]
        lengths = [len(tokens) for tokens in read]
        starts = len(context) + np.cumsum([0, *lengths[:-1]])
        self.ids = np.concatenate([context, *read])
        self.owners = np.repeat(np.arange(1 + len(read)), [len(context), *lengths])
        self.positions = np.concatenate(
            [np.arange(len(context)), *(len(context) + np.arange(length) for length in lengths)]
        )
        last = len(context) - 1
        self.predict_from = np.concatenate(
            [
                np.concatenate([[last], np.arange(start, start + length)])
                for start, length in zip(starts, lengths, strict=True)
            ]
        )
        self.predicted = np.concatenate([targets[0], [end], *targets[1:]])
        self.cells = np.repeat(
            [0, -1, *range(1, len(targets))],
            [len(targets[0]), 1, *(len(target) for target in targets[1:])],
        )


def _padded(rows: Sequence[np.ndarray], columns: int, filler: int) -> torch.Tensor:
    table = np.full((len(rows), columns), filler, np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table)
