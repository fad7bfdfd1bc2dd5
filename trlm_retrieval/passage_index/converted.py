"""What a file gives: its text by sections; and what the conversions of all kinds share."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from trlm_retrieval.errors import DataError

_LONGEST_HEADING = 100  # characters; the text of a section holds its heading in full


class Unreadable(DataError):
    """A file gives no text; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class Section:
    """A part of a text.

    :ivar headings: those that it stands under, its own last; the outermost comes first.
    """

    text: str
    headings: tuple[str, ...] = ()


@dataclass
class Converted:
    """The text of a file.

    :ivar meta: what the file says of itself, such as its ``title``.
    :ivar encoding: what a text that is not UTF-8 was read as; None for UTF-8.
    """

    sections: list[Section]
    meta: dict[str, Any] = field(default_factory=dict)
    encoding: str | None = None

    @property
    def text(self) -> str:
        """All sections."""
        return "\n\n".join(section.text for section in self.sections)


def sections(parts: Iterable[tuple[int, str, str, str]]) -> list[Section]:
    """Sections of a text with headings.

    :param parts: level, heading, text of the heading as it is shown, and text up to the next
        heading, one for each heading; what stands before the first has level 0. A heading without
        text of its own begins the next section.
    """
    found: list[Section] = []
    path: list[tuple[int, str]] = []
    waiting: list[str] = []
    for level, heading, shown, text in parts:
        if level:
            short = " ".join(heading.split())
            if len(short) > _LONGEST_HEADING:
                short = short[:_LONGEST_HEADING].rstrip() + "…"
            path = [outer for outer in path if outer[0] < level] + [(level, short)]
        waiting += [piece for piece in (shown.strip(), text.strip("\n ")) if piece]
        if text.strip():
            names = tuple(name for _, name in path if name)
            found.append(Section("\n\n".join(waiting), names))
            waiting = []
    if waiting:
        found.append(Section("\n\n".join(waiting), tuple(name for _, name in path if name)))
    return found


@contextmanager
def extra(kind: str) -> Iterator[None]:
    """Say which extra brings the library that is missing."""
    try:
        yield
    except ImportError as error:
        raise DataError(
            f"reading {kind} files needs the extra 'convert': pip install "
            f"'trlm-retrieval[convert]' ({error.__cause__ or error})"
        ) from error


@contextmanager
def kept_warnings() -> Iterator[Sequence[str]]:
    """Collect what converters warn about, instead of showing it."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    collector = Collector(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("haystack", "trafilatura")]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.propagate = False
    try:
        yield collected
    finally:
        for logger, propagate in zip(loggers, propagated, strict=True):
            logger.removeHandler(collector)
            logger.propagate = propagate
