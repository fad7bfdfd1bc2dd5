"""Progress bars with the time left, on standard error, and silent when nobody is watching."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def watched() -> bool:
    """Whether a person sees standard error: a pipe and a file get no bars, coloured or not.

    FORCE_COLOR makes rich take a pipe for a terminal, so rich is not asked.
    """
    return sys.stderr.isatty()


@contextmanager
def progress_bar(
    description: str, total: int | None = None, enabled: bool = True
) -> Iterator[Callable[[int], None]]:
    """
    Show a bar for the length of a ``with`` block.

    :param description: what is being done, shown left of the bar.
    :param total: how many steps there are; None where that is not known.
    :param enabled: False shows nothing. Neither does a standard error that is no terminal.
    :returns: a function to call with the number of steps just finished.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not (enabled and watched()),
    ) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def track(
    items: Iterable[T], description: str, *, total: int | None = None, enabled: bool = True
) -> Iterator[T]:
    """
    Pass `items` on, one step of the bar each.

    :param items: what to go through.
    :param description: what is being done, shown left of the bar.
    :param total: how many items there are; taken from `items` where it has a length.
    :param enabled: False shows nothing.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress_bar(description, total, enabled) as advance:
        for item in items:
            yield item
            advance(1)
