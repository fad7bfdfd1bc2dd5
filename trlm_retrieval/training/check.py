"""Is a model any good? What it makes of held-out pairs, true ones and shuffled ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress, target_log_probs
from trlm_retrieval.lm.scorer import Direction
from trlm_retrieval.lm.template import Order


@dataclass(frozen=True)
class Check:
    """How likely queries are, given their own passage and given a random other one.

    :ivar perplexity: of the queries given their passages, per token.
    :ivar random_perplexity: of the same queries, each given another pair's passage.
    :ivar gain: mean of log P(q | own) - log P(q | other), in nats a query.
    :ivar prefers_true: share of pairs whose own passage makes the query likelier.
    :ivar low, high: 95 % interval of that share (Wilson).
    """

    pairs: int
    perplexity: float
    random_perplexity: float
    gain: float
    prefers_true: float
    low: float
    high: float

    @property
    def learned(self) -> bool:
        """Whether true pairs are preferred more often than chance explains."""
        return self.low > 0.5

    @property
    def figures(self) -> dict[str, float]:
        """What the log of a run tells: the loss in nats a token, gain and preference."""
        held_out = log(self.perplexity)
        return {"held_out": held_out, "gain": self.gain, "prefers_true": self.prefers_true}


def check(
    lm: TimeReversedLM,
    pairs: Sequence[tuple[str, str]],
    direction: "Direction | str | None" = None,
    *,
    max_passage_tokens: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Check:
    """Score each query with its own passage and with one drawn at random from the others.

    :param direction: ``ba``, ``fo`` or a template; by default the model's own.
    :param progress: called with the number of scorings just finished, of two for each pair.
    :raises ValueError: if the pairs hold fewer than two different passages.
    """
    others = _others([passage for _, passage in pairs], seed)
    shuffled = [(query, other) for (query, _), other in zip(pairs, others, strict=True)]
    found = lm.score(
        [*pairs, *shuffled], direction, max_passage_tokens=max_passage_tokens, progress=progress
    )
    sums = np.array([likelihood.sum for likelihood in found]).reshape(2, -1)
    tokens = sum(len(likelihood) for likelihood in found[: len(pairs)])
    perplexity, random_perplexity = np.exp(-sums.sum(1) / max(tokens, 1))
    share = float((sums[0] > sums[1]).mean())
    low, high = _wilson(share, len(pairs))
    gain = float((sums[0] - sums[1]).mean())
    return Check(len(pairs), float(perplexity), float(random_perplexity), gain, share, low, high)


def _others(passages: list[str], seed: int) -> list[str]:
    """For each passage a random different one."""
    if len(set(passages)) < 2:
        raise ValueError("shuffling needs pairs with at least two different passages")
    draw = np.random.default_rng(seed)
    others = []
    for passage in passages:
        other = passage
        while other == passage:
            other = passages[int(draw.integers(len(passages)))]
        others.append(other)
    return others


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def order_losses(
    lm: TimeReversedLM, texts: Sequence[str], most_tokens: int = 256
) -> dict[Order, float]:
    """Nats per token of texts read in each order: whether a model really reads in its own.

    A model that reads backwards finds text far likelier backwards than forwards.

    :param most_tokens: of longer texts only the beginning is read.
    """
    tokens = [
        lm.tokenizer.encode(text, add_special_tokens=False)[: min(most_tokens, lm.max_context - 1)]
        for text in texts
    ]
    losses: dict[Order, float] = {}
    steps: dict[Order, int] = {"forward": 1, "reverse": -1}
    for order, step in steps.items():
        start = lm.tokenizer.convert_tokens_to_ids(lm.start_tokens[order])
        rows = [((start,), ids[::step]) for ids in tokens]
        found = target_log_probs(lm.decoder, rows, lm.token_budget)
        losses[order] = -float(np.concatenate(found).mean())
    return losses
