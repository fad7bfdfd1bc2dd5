"""Text to learn from: sections with their headings, read from files.

A heading with the text below it serves twice: as running text for pre-training, and as a
(query, passage) pair for fine-tuning.
"""

import json
from collections.abc import Iterable, Iterator
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
    """A text, and what stands above it: a heading, a title or a question; maybe nothing."""

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
            continue
        for number, row in read_json_lines(file):
            heading: Any = next((row[name] for name in _HEADINGS if name in row), "")
            text: Any = next((row[name] for name in _TEXTS if name in row), None)
            if not isinstance(text, str) or not isinstance(heading, str):
                raise DataError(
                    f"{file}, line {number}: expected a string under 'passage' or 'text', and one "
                    "or none under 'query', 'heading' or 'title'"
                )
            if text.strip():
                yield Section(heading.strip(), text.strip())


def section_line(section: Section) -> str:
    """A section as a JSON line that :func:`read_sections` reads."""
    return json.dumps({"heading": section.heading, "text": section.text}, ensure_ascii=False) + "\n"


def read_pairs(
    files: Iterable[Path], held_out: bool, most: int | None = None
) -> list[tuple[str, str]]:
    """(query, passage) pairs of the sections with a heading, without repetitions, in order.

    :param held_out: the pairs kept from training, or all the others.
    :param most: take so many of each file, evenly spread over it, where it has more.
    :raises DataError: if there are none.
    """
    [pairs] = _read_halves(list(files), [held_out], most)
    return pairs


def read_both_halves(
    files: Iterable[Path], most: int | None = None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs to learn and those kept from training, as :func:`read_pairs` gives each.

    :raises DataError: if there are none of one kind.
    """
    learned, held_out = _read_halves(list(files), [False, True], most)
    return learned, held_out


def _read_halves(
    files: list[Path], halves: list[bool], most: int | None
) -> list[list[tuple[str, str]]]:
    """The pairs of each half, held out or not; each file is read once."""
    pairs: dict[bool, dict[tuple[str, str], None]] = {half: {} for half in halves}
    for file in files:
        found: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for section in read_sections([file]):
            if section.heading:
                found[section.held_out].append((section.heading, section.text))
        for half in halves:
            there = found[half]
            number = len(there) if most is None else min(most, len(there))
            pairs[half] |= dict.fromkeys(there[n * len(there) // number] for n in range(number))
    for half in halves:
        if not pairs[half]:
            kind = "held-out pair" if half else "pair"
            raise DataError(
                f"{', '.join(map(str, files))}: no {kind} of a query and a passage there"
            )
    return [list(pairs[half]) for half in halves]
