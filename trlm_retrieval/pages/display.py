"""Showing a passage to a person: the words it shares with the query, and the part that holds most.

Passages come from anywhere, so what could steer a terminal (escape sequences, direction overrides)
is made visible or dropped here before anything is printed.
"""

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from haystack import Document

# Words that every passage holds; marking them would hide the ones that matter.
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        a an and are as at be been but by can could did do does for from had has have how i if in
        into is it its may me my no not of on or our should so than that the their them then there
        these they this to was we were what when where which who whom whose why will with would
        you your
        """,
    )
)
_DIRECTION = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_LETTER = r"[^\W_]"  # an underscore ends a word: `__enter__` holds "enter"
_STEM = 4  # a query word of this many letters also marks the longer words that begin with it


def query_pattern(query: str) -> re.Pattern[str] | None:
    """Matches the words of a text that the query holds; None if the query holds none to mark.

    Words so common that they say nothing are left out, unless the query holds no others.
    """
    words = list(dict.fromkeys(re.findall(rf"{_LETTER}+", query.lower())))
    telling = [word for word in words if word not in _COMMON] or words
    if not telling:
        return None
    longest_first = sorted(telling, key=len, reverse=True)
    parts = [word + (f"{_LETTER}*" if len(word) >= _STEM else "") for word in longest_first]
    return re.compile(rf"(?<!{_LETTER})(?:{'|'.join(parts)})(?!{_LETTER})", re.IGNORECASE)


def marked(text: str, pattern: re.Pattern[str] | None) -> list[tuple[str, bool]]:
    """Text cut into (piece, is a query word) pairs; the pieces joined give the text."""
    pieces: list[tuple[str, bool]] = []
    end = 0
    for match in pattern.finditer(text) if pattern else ():
        pieces += [(text[end : match.start()], False), (match.group(), True)]
        end = match.end()
    pieces.append((text[end:], False))
    return [(piece, is_match) for piece, is_match in pieces if piece]


def snippet(text: str, pattern: re.Pattern[str] | None, width: int = 240) -> str:
    """About ``width`` characters of the text, on one line, where most distinct query words are.

    What is left out at either end shows as an ellipsis.
    """
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    matches = list(pattern.finditer(line)) if pattern else []
    best_start, best_count = 0, 0
    for i, first in enumerate(matches):
        inside = [m for m in matches[i:] if m.end() <= first.start() + width]
        count = len({m.group().casefold() for m in inside})
        if count > best_count:
            best_start, best_count = first.start(), count
    start = _word_start(line, max(0, min(best_start - width // 8, len(line) - width)))
    end = start + width
    if end < len(line):
        end = line.rfind(" ", start + 1, end) + 1 or end
    head = "… " if start else ""
    tail = " …" if end < len(line) else ""
    return head + line[start:end].strip() + tail


def printable(text: str) -> str:
    """Text that is safe to print: control, surrogate and direction characters become ``�``."""
    return "".join("\ufffd" if _steers(ch) else ch for ch in text)


def _word_start(line: str, start: int) -> int:
    return start if start == 0 else line.find(" ", start) + 1 or start


def _steers(ch: str) -> bool:
    if ch in "\n\t":
        return False
    return unicodedata.category(ch) in ("Cc", "Cs") or ch in _DIRECTION


def display_title(document: "Document") -> str:
    """What to call a passage: its title, else the file it came from, else its id."""
    for field in ("title", "file_path"):
        if value := str(document.meta.get(field) or "").strip():
            return value
    return document.id


def display_place(document: "Document") -> str:
    """Where a passage stands: its file with the lines or the page; empty if that is not known."""
    meta = document.meta
    file = str(meta.get("file_path") or "")
    if file and "first_line" in meta and "last_line" in meta:
        return f"{file}:{meta['first_line']}-{meta['last_line']}"
    return f"{file}, page {meta['page_number']}" if file and "page_number" in meta else file
