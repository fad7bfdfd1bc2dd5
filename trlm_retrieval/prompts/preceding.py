"""Which token stood before a text? Every one is tried: the exact answer of a forward model.

By Bayes' rule P(token | text) is proportional to P(token) P(text | token), for each token of the
vocabulary. That is what a reverse model gives in a single step. Trying all of them costs
vocabulary × (text + 1) tokens: some minutes for two tokens and a vocabulary of 49,000 on a CPU, so
this is a reference for reverse models and short texts, not a way to find whole prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress


@dataclass(frozen=True)
class Preceding:
    """A token that may have stood before a text, and log P(token | text) in nats."""

    id: int
    text: str
    log_prob: float


def preceding_tokens(
    lm: TimeReversedLM,
    text_ids: Sequence[int],
    top_k: int = 10,
    progress: Progress | None = None,
) -> list[Preceding]:
    """The likeliest tokens before a text, by trying all of them with a forward model.

    :param text_ids: tokens of the text, in natural order.
    :param progress: called with the number of tokens just tried.
    :raises ModelError: if the model reads reversed tokens only.
    :raises ValueError: if the text is empty.
    """
    if not text_ids:
        raise ValueError("text_ids is empty: there is no text to stand before")
    lm.template("fo")  # the model reads forwards
    start = lm.tokenizer.convert_tokens_to_ids(lm.start_tokens["forward"])
    found = lm.log_probs(
        [((start,), (token, *text_ids)) for token in range(len(lm.tokenizer))], progress=progress
    )
    joint = np.array([log_probs.sum(dtype=np.float64) for log_probs in found])
    posterior = joint - np.logaddexp.reduce(joint)
    best = np.argsort(-posterior, kind="stable")[:top_k]
    return [Preceding(int(i), lm.tokenizer.decode([int(i)]), float(posterior[i])) for i in best]
