"""Which token stood before a text? Every one is tried: the exact answer of a forward model.

By Bayes' rule P(token | text) is proportional to P(token) P(text | token), for each token of the
vocabulary. That is what a reverse model gives in a single step. P(token) of all tokens takes one
step as well; behind it the start of the sequence is read once, and each token with the text but its
last: vocabulary × text tokens. So this is a reference for reverse models and short texts, not a way
to find whole prompts.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

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
    *,
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
    joint = _joint_log_probs(lm, text_ids, progress)
    posterior = joint - np.logaddexp.reduce(joint)
    best = np.argsort(-posterior, kind="stable")[:top_k]
    return [Preceding(int(i), lm.tokenizer.decode([int(i)]), float(posterior[i])) for i in best]


@torch.inference_mode()
def _joint_log_probs(
    lm: TimeReversedLM, text_ids: Sequence[int], progress: Progress | None
) -> np.ndarray:
    """log P(token, text) for each token of the vocabulary, in nats; shape (vocabulary,)."""
    network, device = lm.decoder, lm.decoder.device
    start: Any = DynamicCache(config=lm.model.config)
    first = torch.tensor([[lm.encoder.start_ids["forward"]]], device=device)
    outputs = network.outputs(input_ids=first, past_key_values=start, use_cache=True)
    joint = network.logits(outputs[0])[0].double().log_softmax(-1)[: len(lm.tokenizer)]
    text = torch.tensor(text_ids, device=device)
    found = []
    for tokens in torch.arange(len(joint), device=device).split(
        max(1, lm.token_budget // len(text))
    ):
        before = deepcopy(start)
        before.batch_repeat_interleave(len(tokens))
        rows = torch.cat([tokens[:, None], text[:-1].expand(len(tokens), -1)], 1)
        outputs = network.outputs(input_ids=rows, past_key_values=before, use_cache=True)
        log_probs = network.chosen_log_probs(outputs.flatten(0, 1), text.repeat(len(tokens)))
        found.append(log_probs.reshape(len(tokens), -1).sum(1, dtype=np.float64))
        if progress:
            progress(len(tokens))
    return joint.cpu().numpy() + np.concatenate(found)
