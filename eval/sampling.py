"""A part of a data set, the same every time."""

import random
from collections.abc import Sequence


def draw(names: Sequence[str], number: int | None) -> set[str]:
    """All names, or that many of them."""
    if number is None or number >= len(names):
        return set(names)
    return set(random.Random(0).sample(sorted(names), number))
