"""Sentences are spans of the text as it is, whatever is in it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trlm_retrieval.text.sentences import sentence_spans


def split(text):
    return [span.of(text) for span in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n\t ", []),
        ("12. 13. --", []),
        ("One.", ["One."]),
        ("Dr. Smith ran 3.5 km. He won!  ", ["Dr. Smith ran 3.5 km.", "He won!"]),
        ("1. First thing.\n2. Second thing.", ["1. First thing.", "2. Second thing."]),
        ("\n\n3. Third.", ["3. Third."]),
        ("It is so. 44.", ["It is so. 44."]),
        ("我们在这里。你好吗？", ["我们在这里。", "你好吗？"]),
        ("Это тест. Второе предложение.", ["Это тест.", "Второе предложение."]),
        ("كيف حالك؟ أنا بخير.", ["كيف حالك؟", "أنا بخير."]),
        ("👍🏽 first. Then \ud800 second.", ["👍🏽 first.", "Then \ud800 second."]),
        ("No end and no stop", ["No end and no stop"]),
    ],
)
def test_sentences(text, sentences):
    assert split(text) == sentences


def test_a_sentence_of_5000_words_stays_whole():
    text = "word " * 5000
    assert split(text) == [text.strip()]


@given(st.text(alphabet=st.characters(), max_size=200))
def test_spans_are_ordered_and_lose_no_letter(text):
    spans = sentence_spans(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(first.end <= second.start for first, second in pairwise(spans))
    between = "".join(
        text[start:end]
        for start, end in zip(
            [0, *(s.end for s in spans)], [*(s.start for s in spans), len(text)], strict=True
        )
    )
    if spans:
        assert not any(ch.isalpha() for ch in between)
