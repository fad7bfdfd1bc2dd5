"""Batches of (query, passage) pairs, read exactly as scoring reads them.

A row holds a passage (the context) and behind it one or more queries (targets). Each target sees
the context and itself, never another target, so one pass over a passage gives the likelihood of
several queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trlm_retrieval.lm.direction import PairEncoder, Template
from trlm_retrieval.lm.likelihood import budget_batches, padded
from trlm_retrieval.training.objective import Batch

_PAIRS_AT_ONCE = 1024
_POOL = 4096  # pairs among which rows of like length are put together


@dataclass(frozen=True)
class PairBatch(Batch):
    """
    :ivar cells: shape (predictions,); row × targets a row + number of the target, which counts the
        other rows' queries on from this row's own, and one more cell for all end tokens.
    :ivar repeats: shape (rows, targets a row); whether the passage that query ``row`` meets as its
        k-th candidate is its own passage once more.
    """

    cells: torch.Tensor
    repeats: torch.Tensor


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
    """Endless batches of pairs, filled by a token budget with rows of like length.

    :param end: token that follows a query; learned too, so that generated queries end.
    :param tokens: rows × longest row stays within this.
    :param others: how many other queries of the batch are read behind each passage.
    """

    def __init__(self, pairs: EncodedPairs, end: int, tokens: int, others: int, seed: int) -> None:
        self._pairs, self._end, self._others = pairs, end, others
        self._tokens, self._seed = tokens, seed
        self._lengths = np.array(
            [
                len(context) + (1 + others) * len(target)
                for context, target in zip(pairs.contexts, pairs.targets, strict=True)
            ]
        )
        self._epoch, self._first = 0, 0
        self._batches = self._shuffled(0)

    def batch(self, index: int) -> PairBatch:
        if index < self._first:
            self._epoch, self._first, self._batches = 0, 0, self._shuffled(0)
        while index >= self._first + len(self._batches):
            self._first += len(self._batches)
            self._epoch += 1
            self._batches = self._shuffled(self._epoch)
        return self.rows(self._batches[index - self._first])

    def _shuffled(self, epoch: int) -> list[list[int]]:
        """An epoch's batches, as numbers of pairs."""
        shuffle = np.random.default_rng([self._seed, epoch])
        order = shuffle.permutation(len(self._pairs))
        batches = [
            [int(pool[place]) for place in batch]
            for pool in np.array_split(order, max(1, len(order) // _POOL))
            for batch in budget_batches(self._lengths[pool].tolist(), self._tokens)
        ]
        return [batches[place] for place in shuffle.permutation(len(batches))]

    def rows(self, chosen: Sequence[int]) -> PairBatch:
        """The batch that holds just these pairs."""
        contexts = [self._pairs.contexts[index].tolist() for index in chosen]
        targets = [self._pairs.targets[index].tolist() for index in chosen]
        count, width = len(chosen), 1 + min(self._others, len(chosen) - 1)
        rows: list[list[int]] = []
        segments: list[list[int]] = []
        predictions: list[tuple[int, int, int, int]] = []  # row, column, target, cell
        for row, context in enumerate(contexts):
            ids, owners = list(context), [0] * len(context)
            for number in range(width):
                target = targets[(row + number) % count]
                cell = row * width + number
                columns = [len(context) - 1, *range(len(ids), len(ids) + len(target))]
                predictions += [
                    (row, column, token, cell)
                    for column, token in zip(columns, target, strict=False)
                ]
                if number == 0:
                    predictions.append((row, columns[len(target)], self._end, count * width))
                    read = target
                else:
                    read = target[:-1]
                ids += read
                owners += [number + 1] * len(read)
            rows.append(ids)
            segments.append(owners)
        ids_of = padded(rows)
        inputs = {"input_ids": ids_of}
        if width > 1:
            inputs |= _layout([len(context) for context in contexts], segments, ids_of.shape[1])
        row, column, token, cell = torch.tensor(predictions).T
        meets = (np.arange(count)[:, None] - np.arange(width)) % count
        repeats = [
            [k > 0 and contexts[other] == contexts[query] for k, other in enumerate(candidates)]
            for query, candidates in enumerate(meets)
        ]
        return PairBatch(
            inputs,
            row * ids_of.shape[1] + column,
            token,
            {"loss": sum(map(len, targets)), "end": count, "contrast": count},
            cell,
            torch.tensor(repeats),
        )


def _layout(
    contexts: Sequence[int], segments: Sequence[Sequence[int]], columns: int
) -> dict[str, torch.Tensor]:
    """Positions and mask of rows in which several targets stand behind one context.

    :param contexts: length of each row's context.
    :param segments: for each place of a row, 0 in the context, else the number of the target.
    """
    owner = torch.full((len(segments), columns), -1)
    position = torch.zeros(len(segments), columns, dtype=torch.long)
    for row, (length, owners) in enumerate(zip(contexts, segments, strict=True)):
        found = torch.tensor(owners)
        owner[row, : len(owners)] = found
        starts = torch.searchsorted(found, found)  # segments are in rising order
        places = torch.arange(len(owners)) - starts
        position[row, : len(owners)] = torch.where(found == 0, places, places + length)
    earlier = torch.ones(columns, columns, dtype=torch.bool).tril()
    seen = (owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None])
    return {"position_ids": position, "attention_mask": (seen & earlier)[:, None]}
