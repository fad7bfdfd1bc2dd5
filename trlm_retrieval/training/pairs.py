"""Batches of (query, passage) pairs, read exactly as scoring reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.likelihood import padded
from trlm_retrieval.lm.template import Template
from trlm_retrieval.models.batches import budget_batches
from trlm_retrieval.training.objective import TokenBatch

_PAIRS_AT_ONCE = 1024
_POOL = 4096  # pairs among which rows of like length are put together


@dataclass(frozen=True)
class PairBatch(TokenBatch):
    """A pair a row.

    :ivar ends: shape (predictions,); whether the end token after the query is predicted there.
    """

    ends: torch.Tensor


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
    """Endless batches of pairs of like length, filled by a token budget.

    :param end: token that follows a query; learned too, so that generated queries end.
    :param tokens: rows × longest row stays within this.
    """

    def __init__(self, pairs: EncodedPairs, end: int, tokens: int, seed: int) -> None:
        self._pairs, self._end, self._tokens, self._seed = pairs, end, tokens, seed
        self._lengths = np.array(
            [
                len(context) + len(target)
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
            batches = [
                [int(pool[place]) for place in part]
                for pool in np.array_split(order, max(1, len(order) // _POOL))
                for part in budget_batches(self._lengths[pool].tolist(), self._tokens)
            ]
            for place in shuffle.permutation(len(batches)):
                yield batches[place]

    def rows(self, chosen: Sequence[int]) -> PairBatch:
        """The batch that holds just these pairs."""
        contexts = [self._pairs.contexts[index].tolist() for index in chosen]
        targets = [self._pairs.targets[index].tolist() for index in chosen]
        ids = padded([context + target for context, target in zip(contexts, targets, strict=True)])
        # The last token of the context predicts the first of the query, and so on to the end.
        starts = [row * ids.shape[1] + len(context) - 1 for row, context in enumerate(contexts)]
        return PairBatch(
            {"input_ids": ids},
            torch.cat(
                [
                    torch.arange(start, start + len(target) + 1)
                    for start, target in zip(starts, targets, strict=True)
                ]
            ),
            torch.tensor([token for target in targets for token in (*target, self._end)]),
            {"loss": sum(map(len, targets)), "end": len(targets)},
            torch.tensor(
                [at == len(target) for target in targets for at in range(len(target) + 1)]
            ),
        )
