"""Markers are found, taken out and written, and the rest of the text stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trlm_retrieval.citation.markers import (
    find_markers,
    marked_sentences,
    with_markers,
    without_markers,
)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("No marker, [a], [], [1234], [-1].", []),
        ("One [1].", [(1,)]),
        ("Two [1][ 2 ].", [(1,), (2,)]),
        ("More [1, 3; 5].", [(1, 3, 5)]),
        ("A range [2-4] and [1–2].", [(2, 3, 4), (1, 2)]),
        ("Odd ranges [1-900] [3-1].", [(1, 900), (3, 1)]),
        ("Not in `code[1]` nor ```\nx[2]\n``` but [3].", [(3,)]),
        ("Nowhere [0] [999].", [(0,), (999,)]),
    ],
)
def test_found(text, numbers):
    assert [marker.numbers for marker in find_markers(text)] == numbers


def test_taken_out():
    assert without_markers("It is [1][2]. So. [3] Yes [4, 5]") == "It is. So. Yes"


def test_sentences_know_their_markers():
    text = 'First [1]. He said "no." [3] Then [2][4]\nleft.[5] [6]'
    sentences = marked_sentences(text)
    assert [s.text for s in sentences] == ["First.", 'He said "no."', "Then left."]
    assert [s.numbers for s in sentences] == [(1,), (3,), (2, 4, 5, 6)]
    assert [s.span.of(text) for s in sentences] == [
        "First [1].",
        'He said "no."',
        "Then [2][4]\nleft.",
    ]


@pytest.mark.parametrize(
    ("text", "cited", "expected"),
    [
        ("It is so. It is not.", [[1], [2, 3]], "It is so [1]. It is not [2][3]."),
        ("It is so [7]. It is not [1].", [[1], []], "It is so [1]. It is not."),
        ("It is so. [1] Next", [[2], [1]], "It is so [2]. Next [1]"),
        ("真的吗？是。", [[1], [2]], "真的吗 [1]？是 [2]。"),
        ("See `a[1]`. Then `b.", [[1], []], "See `a[1]` [1]. Then `b."),
        ("Nothing cited.", [[]], "Nothing cited."),
    ],
)
def test_written(text, cited, expected):
    numbers = {s.span: c for s, c in zip(marked_sentences(text), cited, strict=True)}
    assert with_markers(text, numbers) == expected
    again = {s.span: c for s, c in zip(marked_sentences(expected), cited, strict=True)}
    assert with_markers(expected, again) == expected


@given(
    st.text(alphabet=st.sampled_from("ab .[]1,2`\n!?\"'é。\ud800 Z") | st.characters(), max_size=80)
)
def test_writing_changes_nothing_but_markers(text):
    sentences = marked_sentences(text)
    written = with_markers(text, {s.span: [i + 1] for i, s in enumerate(sentences)})
    assert without_markers(written) == without_markers(text)
    assert all(f"[{i + 1}]" in written for i in range(len(sentences)))
