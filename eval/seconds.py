"""How long the steps of an evaluation take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds that a block takes under its name."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 3)
