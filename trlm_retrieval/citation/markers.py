"""Citation markers in a text, such as [1], [2, 3] or [1-3]: found, taken out, written.

Numbers of up to three digits in square brackets count as markers, wherever they stand but inside
code (between backticks).
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from trlm_retrieval.text.sentences import Span, sentence_spans

_MARKER = re.compile(r"\[\s*\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\s*\]")
_PART = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_CLOSING = re.compile(r"[\s.!?…。！？]*\Z")
_LONGEST_RANGE = 50  # [1-900] cites its two ends, not 900 sources


class Marker(NamedTuple):
    """Where a marker stands, and the numbers it names."""

    span: Span
    numbers: tuple[int, ...]


class MarkedSentence(NamedTuple):
    """A sentence of a text, and the numbers that markers in it or right behind it name.

    :ivar text: the sentence without its markers, on one line.
    """

    span: Span
    text: str
    numbers: tuple[int, ...]


def find_markers(text: str) -> list[Marker]:
    """All markers of a text, in order."""
    code = _code_spans(text)
    return [
        Marker(Span(*match.span()), _numbers(match.group()))
        for match in _MARKER.finditer(text)
        if not any(start < match.end() and match.start() < end for start, end in code)
    ]


def without_markers(text: str) -> str:
    """The text without its markers and the blanks right before them."""
    return _edited(text, _removals(text))


def marked_sentences(text: str, language: str = "en") -> list[MarkedSentence]:
    """The sentences of a text; a marker between two of them belongs to the one before it."""
    markers = find_markers(text)
    removals = _removals(text)
    spans = sentence_spans(_blanked(text), language)
    numbers: list[list[int]] = [[] for _ in spans]
    for marker in markers if spans else ():
        started = [i for i, span in enumerate(spans) if span.start <= marker.span.start]
        numbers[started[-1] if started else 0] += marker.numbers
    return [
        MarkedSentence(span, _bare(text, span, removals), tuple(dict.fromkeys(named)))
        for span, named in zip(spans, numbers, strict=True)
    ]


def with_markers(text: str, numbers: Mapping[Span, Sequence[int]]) -> str:
    """The text with these markers in place of its own; nothing else of it is changed.

    A marker goes to the end of its sentence, before the full stop: ``It is so [2][3].``

    :param numbers: for a sentence of :func:`marked_sentences`, the numbers that it cites.
    """
    code = _code_spans(text)
    edits = _removals(text)
    bare = _blanked(text)
    for span, cited in numbers.items():
        at = span.start + len(_CLOSING.sub("", span.of(bare)))
        at = next((end for start, end in code if start < at < end), at)
        edits.append(
            (Span(at, at), "".join(f" [{number}]" for number in cited).replace("] [", "]["))
        )
    return _edited(text, edits)


def _bare(text: str, span: Span, removals: Sequence[tuple[Span, str]]) -> str:
    inside = [
        (Span(start - span.start, end - span.start), nothing)
        for (start, end), nothing in removals
        if span.start <= start and end <= span.end
    ]
    return " ".join(_edited(span.of(text), inside).split())


def _blanked(text: str) -> str:
    """Blanks in place of markers: what is behind them keeps its place."""
    return _edited(text, [(s, " " * (s.end - s.start)) for s, _ in find_markers(text)])


def _removals(text: str) -> list[tuple[Span, str]]:
    removals: list[tuple[Span, str]] = []
    for (start, end), _ in find_markers(text):
        blanks = len(text[:start]) - len(text[:start].rstrip(" \t"))
        removals.append((Span(start - blanks, end), ""))
    return removals


def _edited(text: str, edits: Sequence[tuple[Span, str]]) -> str:
    pieces, done = [], 0
    for (start, end), replacement in sorted(edits):
        pieces += [text[done:start], replacement]
        done = end
    return "".join([*pieces, text[done:]])


def _code_spans(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _CODE.finditer(text)]


def _numbers(marker: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for first, last in _PART.findall(marker):
        start, stop = int(first), int(last or first)
        if 0 <= stop - start < _LONGEST_RANGE:
            numbers += range(start, stop + 1)
        else:
            numbers += [start, stop]
    return tuple(dict.fromkeys(numbers))
