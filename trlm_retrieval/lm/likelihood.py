"""Batched conditional log-likelihoods: log P(target | context), token by token, in nats.

This is the plain path, with no state kept between calls. Sequences are sorted by length and put
into batches by a token budget; the network computes logits at target positions only, which for a
short query after a long passage is a small part of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
import torch

from trlm_retrieval.lm.network import CausalNetwork, Progress
from trlm_retrieval.models.batches import budget_batches


@dataclass(frozen=True)
class Likelihood:
    """The likelihood of one target given its context; tokens in natural (reading) order.

    :ivar token_ids: token ids of the target.
    :ivar log_probs: float32 array of shape (tokens,), log P(token | context, tokens read before
        it), in nats. For a reversed model the tokens read before it are those *after* it in text.
    :ivar cut_tokens: passage tokens that did not fit and were left out.
    :ivar prior_log_probs: the same as ``log_probs`` with no text in the context, or None where it
        was not asked for.
    """

    token_ids: tuple[int, ...]
    log_probs: np.ndarray
    cut_tokens: int = 0
    prior_log_probs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.token_ids)

    @cached_property
    def sum(self) -> float:
        """log P(target | context), in nats."""
        return float(self.log_probs.sum(dtype=np.float64))

    @property
    def mean(self) -> float:
        """Nats per target token; 0.0 for an empty target."""
        return self.sum / len(self) if len(self) else 0.0

    @property
    def bits(self) -> float:
        """log2 P(target | context)."""
        return self.sum / log(2)

    @property
    def perplexity(self) -> float:
        """exp of the negative mean."""
        return float(np.exp(-self.mean))

    @property
    def token_gains(self) -> np.ndarray:
        """Gain of each token over its prior, in nats, shape (tokens,).

        :raises ValueError: if the prior was not computed.
        """
        if self.prior_log_probs is None:
            raise ValueError("gains need the prior: score with prior=True")
        return self.log_probs - self.prior_log_probs

    @property
    def gain(self) -> float:
        """log P(target | context) - log P(target), in nats (pointwise mutual information)."""
        return float(self.token_gains.sum(dtype=np.float64))


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Token ids as a tensor of shape (rows, longest row), zeros on the right.

    Under a causal mask nothing ever attends to padding on the right.
    """
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    return ids


@torch.inference_mode()
def target_log_probs(
    network: CausalNetwork,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    token_budget: int,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """Log-probabilities of each target token after its context, for (context, target) id pairs.

    :param sequences: non-empty contexts with their targets, in the model's reading order.
    :param progress: called with the number of sequences just finished.
    :returns: one float32 array of shape (target tokens,) for each sequence, in input order.
    """
    results: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
    rows_of = [[*context, *target[:-1]] for context, target in sequences]
    for batch in budget_batches([len(row) for row in rows_of], token_budget):
        ids = padded([rows_of[index] for index in batch]).to(network.device)
        outputs = network.outputs(input_ids=ids, use_cache=False)
        contexts = [len(sequences[index][0]) for index in batch]
        targets = [sequences[index][1] for index in batch]
        selected = torch.cat(
            [
                outputs[row, start - 1 : start - 1 + len(target)]
                for row, (start, target) in enumerate(zip(contexts, targets, strict=True))
            ]
        )
        flat = torch.tensor([token for target in targets for token in target], dtype=torch.long)
        found = network.chosen_log_probs(selected, flat.to(network.device))
        for index, part in zip(
            batch, np.split(found, np.cumsum([len(t) for t in targets])[:-1]), strict=True
        ):
            results[index] = part
        if progress:
            progress(len(batch))
    return results
