"""Markers are found, taken out and written, and the rest of the text stays as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trlm_retrieval.citation.markers import (
    find_markers,
    marked_sentences,
    with_markers,
)

NINE = range(1, 10)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("No marker, [a], [], [1234], [-1].", []),
        ("One [1].", [(1,)]),
        ("Two [1][ 2 ].", [(1,), (2,)]),
        ("More [1, 3; 5].", [(1, 3, 5)]),
        ("Several [2-4] and [1–2].", [(2, 3, 4), (1, 2)]),
        ("Odd [1-900] [3-1].", [(1, 900), (3, 1)]),
        ("Not in `code[1]` nor\n```\nx[2]\n```\nbut [3].", [(3,)]),
        ("Nowhere [0] [999].", [(999,)]),
        ("So【1】and [^2] and [Source 3] and [Sources 1, 2].", [(1,), (2,), (3,), (1, 2)]),
        ("So 【4†source】 and [#5] and [doc 2].", [(4,), (5,), (2,)]),
        ("这是事实[1]。", [(1,)]),
        ("这是事实［1］。", [(1,)]),
        ("So [citation:3] and [Citation 4].", [(3,), (4,)]),
        ("```\r\nx[1]\r\n```\r\nBut [2].\r\n\r\n## References\r\n[1] Smith\r\n", [(2,)]),
        ("It costs $5 [1] and not $6 [2].", [(1,), (2,)]),
    ],
)
def test_found(text, numbers):
    assert [marker.numbers for marker in find_markers(text, NINE)] == numbers


def test_taken_out():
    assert with_markers("It is [1][2]. So. [3] Yes [4, 5]", {}, NINE) == "It is. So. Yes"
    assert with_markers("It is [1], [2]; [3]. So [4]–[5], yes.", {}, NINE) == "It is. So, yes."


def test_sentences_know_their_markers():
    text = 'First [1]. He said "no." [3] Then [2][4]\nleft.[5] [6]'
    sentences = marked_sentences(text, NINE)
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
        ("It is [4], [5]. Next [6] - [7]?", [[1], [2]], "It is [1]. Next [2]?"),
        ("Nothing cited.", [[]], "Nothing cited."),
    ],
)
def test_written(text, cited, expected):
    numbers = {s.span: c for s, c in zip(marked_sentences(text, NINE), cited, strict=True)}
    assert with_markers(text, numbers, NINE) == expected
    again = {s.span: c for s, c in zip(marked_sentences(expected, NINE), cited, strict=True)}
    assert with_markers(expected, again, NINE) == expected


UNTOUCHED = [
    "The dose is [10] mg for adults.",
    "The dose is [2] mg.",
    "Read items[0] first, then items[1] and rows[0][1] and f(x)[2].",
    "The range [0, 1] applies, and the interval [1, 2] too.",
    "Set x = [1, 2] and call f([1, 3]).",
    "It is large.[1](https://example.org/a) See [[2]](b) and ![1](c) and [1][home].",
    "[1]: https://example.org/a\n",
    "`a [1]` and ``b ` [1]`` and <code>c [1]</code> and <a href='[2]'>[1]</a>.",
    "~~~\nx [1]\n~~~\n",
    "Text:\n\n    x = y [1]\n",
    "<pre>\n[2]\n</pre> <!-- [1] -->",
    "## References\n\n[1] Smith, 2001.\n\n[2] Jones, 2002.\n",
    "[1] Smith, 2001.\n[2] Jones, 2002.\n",
    "[^1]: Smith, 2001.\n",
    "See [the [1] page](https://example.org/a) and ![plate [2]](b.png).",
    "The vector $x_{[1]}$, \\([2]\\) and \\[ y = [3] \\] and [1]{.small}.",
    "Text:\r\n\r\n    x = y [1]\r\n\r\n```\r\nz [1]\r\n```\r\n",
    "So.\r\n\r\n**Sources:**\r\n\r\n1. Smith [1]\r\n",
    "So.\r\r## References\r[1] Smith\r",
    "Nine sources, and [12] is none of them. [1, 12] neither.",
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_citation_stays_to_the_letter(text):
    assert with_markers(text, {}, NINE) == text


def test_a_number_that_no_source_has_is_told_and_left():
    [sentence] = marked_sentences("It is so [7].", range(1, 3))
    assert sentence.numbers == (7,) and sentence.text == "It is so."
    assert with_markers("It is so [7].", {}, range(1, 3)) == "It is so [7]."


@given(
    st.text(alphabet=st.sampled_from("ab .[]1,2`\n!?\"'é。\ud800 Z") | st.characters(), max_size=80)
)
def test_writing_changes_nothing_but_markers(text):
    sentences = marked_sentences(text, NINE)
    written = with_markers(text, {s.span: [i + 1] for i, s in enumerate(sentences)}, NINE)
    for number in range(1, len(sentences) + 1):
        assert f"[{number}]" in written
    gone = with_markers(text, {}, NINE)
    assert not set(gone) - set(text) and len(gone) <= len(text)


@pytest.mark.parametrize("link", ["[1](https://example.org/a)", "[Wiki](https://x.org/a. b)"])
def test_a_marker_never_stands_inside_a_link(link):
    text = f"It is large.{link} It is old."
    marked = marked_sentences(text, NINE)
    assert [sentence.text for sentence in marked] == ["It is large.", "It is old."]
    written = with_markers(text, {sentence.span: [2] for sentence in marked}, NINE)
    assert written == f"It is large [2].{link} It is old [2]."
