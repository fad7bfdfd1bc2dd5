"""Sequences of unequal length in batches with little padding."""

from collections.abc import Iterator, Sequence


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
