"""Query words are marked, snippets hold the part that matters, and nothing steers the terminal."""

import pytest
from haystack import Document
from hypothesis import given
from hypothesis import strategies as st

from trlm_retrieval.pages.display import (
    display_place,
    marked,
    printable,
    query_pattern,
    snippet,
)


def words_marked(query: str, text: str) -> list[str]:
    return [piece for piece, is_match in marked(text, query_pattern(query)) if is_match]


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("how do loops end", "A loop ends; loops end, loopsided", ["loops", "end", "loopsided"]),
        ("enter and exit", "calls __enter__ then __exit__()", ["enter", "exit"]),
        ("is it on", "It is on. This", ["It", "is", "on"]),
        ("c++ (a|b) [x", "x is b, C is not", ["x", "b", "C"]),
        ("größe", "Die GRÖSSE, die Größe", ["Größe"]),
        ("?!", "what?!", []),
    ],
)  # fmt: skip
def test_marks(query: str, text: str, expected: list[str]) -> None:
    assert words_marked(query, text) == expected


@given(st.text(max_size=60), st.text(max_size=200), st.integers(20, 80))
def test_pieces_join_to_the_text_and_snippets_are_bounded(
    query: str, text: str, width: int
) -> None:
    pattern = query_pattern(query)
    assert "".join(piece for piece, _ in marked(text, pattern)) == text
    found = snippet(text, pattern, width)
    assert len(found) <= width + len("…  …")
    assert "\n" not in found


def test_a_snippet_shows_where_most_query_words_are() -> None:
    text = "filler words here. " * 30 + "The generator raises when closed. " + "more filler. " * 30
    found = snippet(text, query_pattern("what does a closed generator raise"), 120)
    assert "generator raises when closed" in found
    assert found.startswith("… ") and found.endswith(" …")


def test_a_short_text_is_shown_whole() -> None:
    assert snippet("one\n  two", query_pattern("three")) == "one two"


def test_what_could_steer_a_terminal_is_made_visible() -> None:
    hostile = "a\x1b[31mred\x07\x00\u202egnp.exe\u2066\ud800 b\tc\nd"
    shown = printable(hostile)
    assert shown == "a�[31mred���gnp.exe�� b\tc\nd"
    shown.encode()


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, ""),
        ({"file_path": "a.md"}, "a.md"),
        ({"file_path": "a.py", "first_line": 3, "last_line": 9}, "a.py:3-9"),
        ({"file_path": "a.pdf", "page_number": 2}, "a.pdf, page 2"),
        ({"page_number": 2}, ""),
    ],
)
def test_places(meta: dict[str, object], expected: str) -> None:
    assert display_place(Document(id="d", content="x", meta=meta)) == expected
