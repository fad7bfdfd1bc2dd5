"""Citation markers in a text, such as [1], [2, 3], [1-3], 【1】, [^1] or [Source 1].

A number in brackets counts as a citation only where it can be one: all its numbers name sources,
and it is no index (``items[1]``), no link's text, no interval, no quantity, and stands neither in
code nor in a list of references. Whatever else is in brackets stays as it is, to the letter.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from trlm_retrieval.text.sentences import Span, sentence_spans

_NUMBERS = r"\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*"
_NAME = (
    r"(?:(?:sources?|documents?|docs?|passages?|refs?|references?|citations?)\s*[:#.]?\s*|[#^]\s*)?"
)
_MARKER = re.compile(
    rf"[\[［]\s*{_NAME}({_NUMBERS})\s*[\]］]|【\s*{_NAME}({_NUMBERS})(?:†[^】\n]*)?\s*】",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_CLOSING = re.compile(r"[\s.!?…。！？]*\Z")
_BETWEEN = re.compile(r"[ \t]*[,;–-][ \t]*")  # goes with the markers on both sides: [1], [2]
_LONGEST_RANGE = 50  # [1-900] names its two ends, not 900 sources

# What a marker cannot stand in: code, tags, formulas, links.
_APART = re.compile(
    r"""
    ^[ ]{0,3}(?P<fence>`{3,}|~{3,}).*?(?:^[ ]{0,3}(?P=fence)[`~]*[ \t]*$|\Z)  # fenced block
    | (?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\s*\n).)*?(?<!`)(?P=ticks)(?!`)          # inline code
    | (?:\A|\n[ \t]*\n)(?:(?:[ ]{4}|\t)[^\n]*(?:\n|\Z))+                       # indented block
    | <(?P<tag>pre|code|kbd|samp|tt|var|script|style|a)\b[^>]*>.*?(?:</(?P=tag)\s*>|\Z)
    | <!--.*?(?:-->|\Z)
    | <[a-z/][^<>\n]*>                                                         # inside a tag
    | \$\$.*?\$\$ | \\\[.{0,999}?\\\] | \\\(.{0,999}?\\\)                          # formula
    | (?<![\\$\w])\$(?=[^\s$])(?=[^$\n]*[\\^_={}])[^$\n]*(?<=[^\s\\])\$(?![\d$])
    | \[(?:[^\[\]\n]|\[[^\[\]\n]*\])*\]\([^()\n]*\)                              # link
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_HEADING = re.compile(
    r"^[ \t]*(?:\#{1,6}[ \t]*)?[*_]{0,3}(?:references?|sources?|bibliography|citations?|footnotes?"
    r"|notes|works[ ]cited|literature|quellen|literatur|références|fuentes|参考文献)[*_]{0,3}"
    r"[ \t]*:?[*_]{0,3}[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_NEXT_HEADING = re.compile(r"^\#{1,6}[ \t]", re.MULTILINE)
_ENTRY = re.compile(r"^[ \t]*(?:[-*+][ \t]+)?(?:\[[^\]\n]{1,20}\]|【[^】\n]{1,20}】)(:?)[ \t]*\S")

# What stands right before or right behind brackets that are no marker.
_INDEX = re.compile(r"(?:[A-Za-z0-9_]|\w\([^()\n]*\)|[^\]]\[|^\[|!)\Z", re.DOTALL)
_WHOLE_LINK = re.compile(r"(?P<closed>(?<=[.!?…。！？]))?!?\[[^\[\]\n]*\]\([^()\n]*\)")
_BARE = re.compile(r"\[[\s\d#^]")  # brackets that may be an index or a link's text
_VALUE = re.compile(
    r"(?:[=<>∈∉⊂+*/]|\w\(|\b(?:intervals?|ranges?|arrays?|lists?|vectors?|tuples?|between))\s*\Z",
    re.IGNORECASE,
)
_LINK = re.compile(r"[({]|:[ \t]*\S+://|\[(?!\s*[#^]?\s*\d|\s*[a-z]+\s*[:#.]?\s*\d)", re.IGNORECASE)
_UNIT = re.compile(
    r"\s*(?:%|‰|°|[µμmkcdn]?(?:g|l|m)\b|[µμ]g|mg|kg|ml|IU\b|mm|cm|km|hours?\b|days?\b|years?\b|€|\$)"
)


class Marker(NamedTuple):
    """Where a marker stands, and the numbers it names.

    :ivar known: whether all of them are numbers of sources; if not, the marker is left in the text.
    """

    span: Span
    numbers: tuple[int, ...]
    known: bool


class MarkedSentence(NamedTuple):
    """A sentence of a text, and the numbers that markers in it or right behind it name.

    :ivar text: the sentence without any markers, on one line.
    :ivar numbers: numbers named, also those that no source has.
    """

    span: Span
    text: str
    numbers: tuple[int, ...]


def find_markers(text: str, sources: Collection[int]) -> list[Marker]:
    """What may be a marker in a text, in order.

    :param sources: the numbers that sources have.
    """
    protected = _protected(text)
    found: list[Marker] = []
    for match in _MARKER.finditer(text):
        span = Span(*match.span())
        numbers = _numbers(match[1] or match[2])
        chained = bool(found) and not text[found[-1].span.end : span.start].strip(" \t")
        if 0 in numbers or any(s < span.end and span.start < e for s, e in protected):
            continue
        if chained or _free(text, span, len(numbers)):
            found.append(Marker(span, numbers, all(number in sources for number in numbers)))
    return found


def marked_sentences(
    text: str, sources: Collection[int], language: str = "en"
) -> list[MarkedSentence]:
    """The sentences of a text; a marker between two of them belongs to the one before it."""
    markers = find_markers(text, sources)
    removals = _removals(text, markers)
    spans = sentence_spans(_WHOLE_LINK.sub(_unsplit, _blanked(text, markers)), language)
    numbers: list[list[int]] = [[] for _ in spans]
    for marker in markers if spans else ():
        started = [i for i, span in enumerate(spans) if span.start <= marker.span.start]
        numbers[started[-1] if started else 0] += marker.numbers
    return [
        MarkedSentence(span, _bare(text, span, removals), tuple(dict.fromkeys(named)))
        for span, named in zip(spans, numbers, strict=True)
    ]


def with_markers(text: str, numbers: Mapping[Span, Sequence[int]], sources: Collection[int]) -> str:
    """The text with these markers in place of its own; nothing else of it is changed.

    A marker goes to the end of its sentence, before the full stop: ``It is so [2][3].``

    :param numbers: for a sentence of :func:`marked_sentences`, the numbers that it cites.
    """
    protected = _protected(text)
    markers = _known(text, sources)
    edits = _removals(text, markers)
    bare = _blanked(text, markers)
    for span, cited in numbers.items():
        at = span.start + len(_CLOSING.sub("", span.of(bare)))
        at = next((end for start, end in protected if start < at < end), at)
        edits.append(
            (Span(at, at), "".join(f" [{number}]" for number in cited).replace("] [", "]["))
        )
    return _edited(text, edits)


def _known(text: str, sources: Collection[int]) -> list[Marker]:
    return [marker for marker in find_markers(text, sources) if marker.known]


def _free(text: str, span: Span, numbers: int) -> bool:
    """Whether brackets are neither an index, a link's text, a value nor a quantity."""
    before, behind = text[max(0, span.start - 80) : span.start], text[span.end : span.end + 40]
    index = _INDEX.search(before) or before.endswith("]")
    if _BARE.match(text, span.start) and (index or _LINK.match(behind)):
        return False
    if _UNIT.match(behind) and not behind.startswith("\n"):
        return False
    return numbers == 1 or not _VALUE.search(before)


def _protected(text: str) -> list[tuple[int, int]]:
    """Code, HTML, formulas, links and lists of references, as ranges of characters."""
    text = text.replace("\r\n", " \n").replace("\r", "\n")  # of the same length
    return [match.span() for match in _APART.finditer(text)] + _references(text)


def _references(text: str) -> list[tuple[int, int]]:
    found = []
    for heading in _HEADING.finditer(text):
        end = _NEXT_HEADING.search(text, heading.end())
        found.append((heading.start(), end.start() if end else len(text)))
    start, entries = 0, []
    for line in text.splitlines(keepends=True):
        entry = _ENTRY.match(line)
        if entry:
            entries.append((start, start + len(line), bool(entry[1])))
        if not entry or start + len(line) == len(text):
            if len(entries) > 1 or any(defines for *_, defines in entries):
                found += [(first, last) for first, last, _ in entries]
            entries = entries if not line.strip() else []
        start += len(line)
    return found


def _bare(text: str, span: Span, removals: Sequence[tuple[Span, str]]) -> str:
    inside = [
        (Span(start - span.start, end - span.start), nothing)
        for (start, end), nothing in removals
        if span.start <= start and end <= span.end
    ]
    return " ".join(_edited(span.of(text), inside).split())


def _blanked(text: str, markers: Sequence[Marker]) -> str:
    """Blanks in place of markers: what is behind them keeps its place."""
    return _edited(text, [(s, " " * (s.end - s.start)) for s, _ in _removals(text, markers)])


def _unsplit(link: re.Match[str]) -> str:
    """A link as the splitter may see it: one word, or nothing where it stands behind a sentence."""
    return (" " if link["closed"] is not None else "X") * len(link.group())


def _removals(text: str, markers: Sequence[Marker]) -> list[tuple[Span, str]]:
    removals: list[tuple[Span, str]] = []
    done = None
    for marker in markers:
        start, end = marker.span
        if done is not None and _BETWEEN.fullmatch(text, done, start):
            start = done
        else:
            start = len(text[:start].rstrip(" \t"))
        removals.append((Span(start, end), ""))
        done = end
    return removals


def _edited(text: str, edits: Sequence[tuple[Span, str]]) -> str:
    pieces, done = [], 0
    for (start, end), replacement in sorted(edits):
        pieces += [text[done:start], replacement]
        done = end
    return "".join([*pieces, text[done:]])


def _numbers(marker: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for first, last in _PART.findall(marker):
        start, stop = int(first), int(last or first)
        if 0 <= stop - start < _LONGEST_RANGE:
            numbers += range(start, stop + 1)
        else:
            numbers += [start, stop]
    return tuple(dict.fromkeys(numbers))
