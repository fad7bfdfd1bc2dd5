"""Sequences of unequal length in batches with little padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

_ON_A_CPU, _ELSEWHERE = 1024, 8192  # tokens; the caches of a CPU are small


def budget_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices grouped so that rows × longest row stays within ``token_budget``, longest first.

    A single sequence longer than the budget makes a batch of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded_batches(
    tokenizer: Any, encoded: Any, device: torch.device, token_budget: int | None = None
) -> Iterator[tuple[list[int], Any]]:
    """What a tokenizer gave for some texts, in padded batches on the device, and their places.

    :param encoded: without padding.
    :param token_budget: of a batch, padding included; None takes what suits the device.
    """
    if token_budget is None:
        token_budget = _ON_A_CPU if device.type == "cpu" else _ELSEWHERE
    for places in budget_batches([len(ids) for ids in encoded["input_ids"]], token_budget):
        rows = {name: [values[place] for place in places] for name, values in encoded.items()}
        yield places, tokenizer.pad(rows, return_tensors="pt").to(device)
