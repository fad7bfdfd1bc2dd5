"""Text to learn from: sections with their headings, read from files.

A heading with the text below it serves twice: as running text for pre-training, and as a
(query, passage) pair for fine-tuning.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.text.normalise import well_formed

_HEADINGS = ("query", "heading", "title")
_TEXTS = ("passage", "text")
_HELD_OUT_SHARE = 100  # one section in so many is kept from training


@dataclass(frozen=True)
class Section:
    """A text, and its heading, title or question, if it has one."""

    heading: str
    text: str

    @property
    def running_text(self) -> str:
        """Heading and text as one piece."""
        return f"{self.heading}\n\n{self.text}" if self.heading else self.text

    @property
    def held_out(self) -> bool:
        """Whether this section is kept from training, to measure on.

        Depends on the text alone: sections with the same text are all kept out, or none.
        """
        return crc32(well_formed(self.text).encode()) % _HELD_OUT_SHARE == 0


def read_sections(files: Iterable[Path]) -> Iterator[Section]:
    """Sections of all files, in order; those without text are passed over.

    A ``.txt`` file is one section. Every other file holds JSON lines, ``.xz``-compressed or not,
    with the text under ``passage`` or ``text`` and the heading, if any, under ``query``,
    ``heading`` or ``title``.

    :raises DataError: for a file that is missing or a line that holds no text; names it.
    """
    for file in files:
        if file.suffix == ".txt" and file.is_file():
            whole = file.read_text(encoding="utf-8", errors="replace").strip()
            if whole:
                yield Section("", whole)
        else:
            yield from (section for _, section in numbered_sections(file))


def numbered_sections(file: Path) -> Iterator[tuple[int, Section]]:
    """Line numbers, from 1, and sections of a file of JSON lines, as :func:`read_sections` does."""
    for number, row in read_json_lines(file):
        heading: Any = next((row[name] for name in _HEADINGS if name in row), "")
        text: Any = next((row[name] for name in _TEXTS if name in row), None)
        if not isinstance(text, str) or not isinstance(heading, str):
            raise DataError(
                f"{file}, line {number}: expected a string under 'passage' or 'text', and one "
                "or none under 'query', 'heading' or 'title'"
            )
        if text.strip():
            yield number, Section(heading.strip(), text.strip())


def section_line(section: Section) -> str:
    """A section as a JSON line that :func:`read_sections` reads."""
    return json.dumps({"heading": section.heading, "text": section.text}, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class PairFile:
    """A file of (query, passage) pairs, and how many to take of it.

    :ivar most: take so many, evenly spread over the file, where it has more; None takes all.
    :raises ValueError: if ``most`` is below 1.
    """

    path: Path
    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ValueError(f"take at least 1 pair of {self.path}, not {self.most}")

    @classmethod
    def parse(cls, text: str) -> "PairFile":
        """What ``FILE`` or ``FILE:MOST`` names."""
        found = re.fullmatch(r"(.+):(\d+)", text)
        return cls(Path(found[1]), int(found[2])) if found else cls(Path(text))

    def __str__(self) -> str:
        return f"{self.path}:{self.most}" if self.most else str(self.path)


def read_pairs(files: Iterable[PairFile], held_out: bool) -> list[tuple[str, str]]:
    """(query, passage) pairs of the sections with a heading, without repetitions, in order.

    :param held_out: the pairs kept from training, or all the others.
    :raises DataError: if there are none.
    """
    [pairs] = _read_halves(list(files), [held_out])
    return pairs


def read_both_halves(
    files: Iterable[PairFile],
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs to learn and those kept from training, as :func:`read_pairs` gives each.

    :raises DataError: if there are none of one kind.
    """
    learned, held_out = _read_halves(list(files), [False, True])
    return learned, held_out


def _read_halves(files: Sequence[PairFile], halves: Sequence[bool]) -> list[list[tuple[str, str]]]:
    """The pairs of each half, held out or not; each file is read once."""
    pairs: dict[bool, dict[tuple[str, str], None]] = {half: {} for half in halves}
    for file in files:
        found: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for section in read_sections([file.path]):
            if section.heading:
                found[section.held_out].append((section.heading, section.text))
        for half in halves:
            there = found[half]
            number = len(there) if file.most is None else min(file.most, len(there))
            pairs[half] |= dict.fromkeys(there[n * len(there) // number] for n in range(number))
    for half in halves:
        if not pairs[half]:
            kind = "held-out pair" if half else "pair"
            raise DataError(
                f"{', '.join(map(str, files))}: no {kind} of a query and a passage there"
            )
    return [list(pairs[half]) for half in halves]
