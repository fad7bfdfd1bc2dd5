"""Sequence classification models that read two texts together: cross-encoders and NLI models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.batches import padded_batches
from trlm_retrieval.models.hub import ANYBODY, Hub
from trlm_retrieval.models.store import resolve


def load_pair_classifier(
    name: str | Path, what: str, device: torch.device | None = None, hub: Hub = ANYBODY
) -> tuple[Any, Any]:
    """Load a model and its tokenizer, in float32. Code that the model brings along is never run.

    :param name: a name of ``trlm models list``, a folder or a hub id.
    :param what: what the model shall be, for messages, such as ``cross-encoder``.
    :param device: where it runs; by default the CPU.
    :param hub: how it is taken where it is a hub's.
    :raises ModelError: if it is not there, cannot be read, or lacks the weights of a classifier.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = resolve(name, hub)
    location, given = str(source), hub.arguments(source)
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            location,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            **given,
        )
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False, **given)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{str(name)!r} cannot be loaded: give the folder or hub id of a {what}, with its "
            "weights and tokenizer"
        ) from error
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise ModelError(f"{str(name)!r} is no {what}: it has no weights for {missing}")
    return model.to(device or "cpu").eval(), tokenizer


@torch.inference_mode()
def pair_logits(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str]],
    max_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> npt.NDArray[np.float32]:
    """Logits for pairs of texts, shape (pairs, labels).

    :param max_tokens: pairs with more are cut, the longer text first.
    :param progress: called with the number of pairs done since the last call.
    """
    logits = np.zeros((len(pairs), model.config.num_labels), np.float32)
    if not pairs:
        return logits
    encoded = tokenizer(
        [first for first, _ in pairs],
        [second for _, second in pairs],
        truncation="longest_first",
        max_length=max_tokens,
    )
    for places, inputs in padded_batches(tokenizer, encoded, model.device):
        logits[places] = model(**inputs).logits.float().cpu().numpy()
        progress(len(places))
    return logits
