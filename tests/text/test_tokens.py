"""Token counts, and texts cut by them."""

import pytest

from trlm_retrieval.text.tokens import count_tokens, leading_tokens

TEXTS = ["", "one two three", "我们在这里", "a \ud800 surrogate", "👍🏽" * 9, "<|start|> of it"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_beginning_has_at_most_that_many_tokens(tiny_lm, text):
    for most in (1, 2, 3, 1000):
        beginning, left_out = leading_tokens(tiny_lm.tokenizer, text, most)
        assert text.startswith(beginning) and len(beginning) + left_out == len(text)
        assert left_out == 0 or most < 1000


def test_what_fits_is_kept(tiny_lm):
    text = "one two three four"
    [tokens] = count_tokens(tiny_lm.tokenizer, [text])
    assert leading_tokens(tiny_lm.tokenizer, text, tokens) == (text, 0)
    beginning, left_out = leading_tokens(tiny_lm.tokenizer, text, tokens - 1)
    assert left_out > 0 and count_tokens(tiny_lm.tokenizer, [beginning]) == [tokens - 1]


def test_a_huge_word_is_not_read_to_its_end(tiny_lm):
    beginning, left_out = leading_tokens(tiny_lm.tokenizer, "x" * 10**7, 5)
    assert len(beginning) <= 500 and left_out >= 10**7 - 500


def test_counts(tiny_lm):
    assert count_tokens(tiny_lm.tokenizer, []) == []
    assert count_tokens(tiny_lm.tokenizer, ["", "\ud800"])[0] == 0
