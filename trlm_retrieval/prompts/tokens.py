"""Tokens that a model hardly learned: the likelihood of a text full of them means little.

Tokens that hardly occurred in training keep the embeddings they began with, which decay towards a
common point: they are found near the centroid of all embeddings, and the model cannot repeat them.
Both signs are those of "SolidGoldMagikarp" (J. Rumbelow and M. Watkins, 2023) and *Fishing for
Magikarp* (arXiv 2405.05417). What counts as failing to repeat is read off random tokens of the same
model.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.well_formed import well_formed

_REPEATS = 3  # that the model sees before it is asked for one more
_COMPARED = 200  # random tokens that say how well the model repeats
_FAILING = 0.05  # of which this share fails


@dataclass(frozen=True)
class HardlyLearned:
    """A token that the model hardly learned.

    :ivar distance: of its input embedding from the centroid of all.
    :ivar repeat_log_prob: log-probability of one more after three of them, a line each, in nats.
    """

    id: int
    text: str
    distance: float
    repeat_log_prob: float


def hardly_learned(
    lm: TimeReversedLM, examined: int = 500, progress: Progress | None = None
) -> list[HardlyLearned]:
    """Find tokens that are near the centroid and that the model fails to repeat.

    :param examined: tokens nearest to the centroid that are tried.
    :param progress: called with the number of tokens just tried, ``examined`` and 200 in all.
    :returns: those that are repeated worse than 95 % of random tokens, the worst first.
    :raises ValueError: if ``examined`` is not positive.
    """
    if examined <= 0:
        raise ValueError(f"examined must be positive, not {examined}")
    vectors = lm.model.get_input_embeddings().weight.detach().float()[: len(lm.tokenizer)]
    distances = (vectors - vectors.mean(0)).norm(dim=1)
    near = torch.argsort(distances)[:examined].tolist()
    every = range(len(vectors))
    compared = random.Random(0).sample(every, min(_COMPARED, len(every)))
    floor = np.quantile(_repeat_log_probs(lm, compared, progress), _FAILING)
    found = [
        HardlyLearned(token, lm.tokenizer.decode([token]), float(distances[token]), log_prob)
        for token, log_prob in zip(near, _repeat_log_probs(lm, near, progress), strict=True)
        if log_prob < floor
    ]
    return sorted(found, key=lambda token: token.repeat_log_prob)


def share_of(lm: TimeReversedLM, text: str, tokens: Collection[int]) -> float:
    """The share of a text's tokens that are among ``tokens``; 0.0 for an empty text."""
    ids = lm.tokenizer(well_formed(text), add_special_tokens=False, verbose=False)["input_ids"]
    return sum(token in tokens for token in ids) / len(ids) if ids else 0.0


def _repeat_log_probs(
    lm: TimeReversedLM, tokens: list[int], progress: Progress | None
) -> list[float]:
    """Log-probabilities of repeating tokens; it reads the same in either order."""
    order = "forward" if lm.order == "both" else lm.order
    start = lm.tokenizer.convert_tokens_to_ids(lm.start_tokens[order])
    line_end = lm.tokenizer("\n", add_special_tokens=False)["input_ids"]
    sequences = [((start, *[token, *line_end] * _REPEATS), (token,)) for token in tokens]
    return [float(found[0]) for found in lm.log_probs(sequences, progress=progress)]
