"""A part of a data set, the same every time for a seed."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def draw(items: Sequence[T], number: int | None, seed: int = 0) -> list[T]:
    """That many of the items, in random order; all of them, as they stand, for None.

    All are returned as well where there are no more than ``number``.
    """
    if number is None or number >= len(items):
        return list(items)
    return random.Random(seed).sample(items, number)


def draw_evenly(
    items: Sequence[T], number: int | None, kind: Callable[[T], str], seed: int = 0
) -> list[T]:
    """That many of the items, spread over their kinds as evenly as possible; all for None."""
    generator = random.Random(seed)
    kinds: dict[str, list[T]] = {}
    for item in items:
        kinds.setdefault(kind(item), []).append(item)
    shuffled = [generator.sample(kinds[name], len(kinds[name])) for name in sorted(kinds)]
    longest = max(map(len, shuffled), default=0)
    even = [one[rank] for rank in range(longest) for one in shuffled if rank < len(one)]
    return even[:number]
