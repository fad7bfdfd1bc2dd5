"""Cut the Python language reference that ships with CPython into passages.

``pydoc_data.topics`` holds it as plain text, one string a topic. A passage is one or more
paragraphs of one section; what is indented (code, grammar, the body of a definition) stays with
the paragraph it belongs to wherever that fits.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TARGET_WORDS = 180  # a passage is closed before it grows beyond this
MOST_WORDS = 300  # and never holds more
FEWEST_WORDS = 40  # a shorter one joins its neighbour
_SHINGLE = 8
_SAME_SHARE = 0.8

_UNDERLINE = re.compile(r"([*=\-~^\"+#])\1{2,}\s*")


@dataclass(frozen=True)
class Passage:
    """A passage: stable readable id, heading path, topic and text."""

    id: str
    headings: tuple[str, ...]
    topic: str
    text: str


@dataclass
class _Section:
    headings: tuple[str, ...]
    lines: list[str] = field(default_factory=list)


def cut_topics(topics: Mapping[str, str]) -> list[Passage]:
    """Passages of all topics, in alphabetical order of topics.

    The same section stands under several topics: a passage that repeats most of one kept before
    (four fifths of its runs of eight words) is left out.
    """
    kept: list[Passage] = []
    seen: set[tuple[str, ...]] = set()
    for topic in sorted(topics):
        for passage in _cut_topic(topic, topics[topic]):
            shingles = _shingles(passage.text)
            if shingles and len(shingles & seen) >= _SAME_SHARE * len(shingles):
                continue
            seen |= shingles
            kept.append(passage)
    return kept


def _cut_topic(topic: str, text: str) -> Iterator[Passage]:
    numbers: dict[str, int] = {}
    for section in _sections(text):
        slug = _slug(section.headings[-1]) if section.headings else topic
        for passage in _pack(_units("\n".join(section.lines))):
            numbers[slug] = numbers.get(slug, 0) + 1
            yield Passage(f"{topic}/{slug}/{numbers[slug]}", section.headings, topic, passage)


def _sections(text: str) -> Iterator[_Section]:
    """The text between one heading and the next, under the path of headings above it."""
    lines = text.strip("\n").split("\n")
    path: list[tuple[str, str]] = []  # (underline character, title), outermost first
    section = _Section(())
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if line.strip() and not line.startswith(" ") and _is_underline(following, line):
            if any(part.strip() for part in section.lines):
                yield section
            mark = following[0]
            known = [character for character, _ in path]
            path = path[: known.index(mark)] if mark in known else path
            path.append((mark, line.strip()))
            section = _Section(tuple(title for _, title in path))
        elif not (number and _is_underline(line, lines[number - 1])):
            section.lines.append(line)
    if any(part.strip() for part in section.lines):
        yield section


def _is_underline(line: str, title: str) -> bool:
    return bool(_UNDERLINE.fullmatch(line)) and bool(title.strip()) and title[0] != " "


def _units(text: str) -> list[str]:
    """Paragraphs, each with the indented ones that follow it while that stays short."""
    units: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text.strip("\n")):
        paragraph = paragraph.rstrip()
        if not paragraph.strip():
            continue
        joined = f"{units[-1]}\n\n{paragraph}" if units else paragraph
        if units and paragraph.startswith(" ") and _words(joined) <= TARGET_WORDS:
            units[-1] = joined
        else:
            units.extend(_at_lines(paragraph))
    return units


def _at_lines(paragraph: str) -> Iterator[str]:
    """A paragraph, or parts of it cut between lines where it is too long for a passage."""
    part: list[str] = []
    for line in paragraph.split("\n"):
        if part and _words("\n".join([*part, line])) > MOST_WORDS:
            yield "\n".join(part)
            part = []
        part.append(line)
    yield "\n".join(part)


def _pack(units: list[str]) -> list[str]:
    """Units joined to passages of sensible length."""
    passages: list[str] = []
    for unit in units:
        joined = f"{passages[-1]}\n\n{unit}" if passages else unit
        limit = MOST_WORDS if min(_words(unit), _words(joined) - _words(unit)) < FEWEST_WORDS else 0
        if passages and _words(joined) <= max(TARGET_WORDS, limit):
            passages[-1] = joined
        else:
            passages.append(unit)
    return passages


def _words(text: str) -> int:
    return len(text.split())


def _slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", heading.lower()).strip("-") or "section"


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    width = min(_SHINGLE, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if width else set()
