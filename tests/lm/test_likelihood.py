"""Scores are exact: every path gives what a naive one-pair-at-a-time reference gives."""

import math

import numpy as np
import pytest
import torch

from tests.lm.naive import naive_log_probs
from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import DIRECTIONS, PassageStates, Template

PASSAGES = [
    "A generator yields values one at a time.",
    "The with statement calls __enter__ and, whatever happens, __exit__.",
    "Short.",
    "A dictionary keeps insertion order. " * 6,
    "Ein Wörterbuch für Übungen — naïve café, 日本語 🙂.",
]
QUERIES = ["what does with call?", "generator", "is order kept in a dict 🙂?"]
PAIRS = [(query, passage) for passage in PASSAGES for query in QUERIES]


@pytest.mark.parametrize("direction", ["ba", "fo", "forward"])
@pytest.mark.parametrize("keep_states", [False, True])
def test_batched_scores_equal_the_naive_reference(tiny_lm, direction, keep_states):
    states = tiny_lm.states = PassageStates(10**9 if keep_states else 0)
    found = tiny_lm.score(PAIRS, direction)
    again = tiny_lm.score(PAIRS, direction)
    for (query, passage), likelihood, repeated in zip(PAIRS, found, again, strict=True):
        expected = naive_log_probs(tiny_lm, query, passage, direction)
        np.testing.assert_allclose(likelihood.log_probs, expected, atol=1e-4)
        np.testing.assert_allclose(repeated.log_probs, expected, atol=1e-4)
        assert likelihood.sum == pytest.approx(expected.sum(), abs=1e-3)
    if keep_states:
        assert len(states) > 0 and states.hits > 0


def test_scores_do_not_depend_on_batch_size_or_order(make_tiny_lm):
    one_by_one = make_tiny_lm("both", token_budget=1)
    together = make_tiny_lm("both", token_budget=100_000)
    expected = [likelihood.sum for likelihood in one_by_one.score(PAIRS, "ba")]
    shuffled = list(reversed(PAIRS))
    found = [likelihood.sum for likelihood in together.score(shuffled, "ba")][::-1]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_reversal_changes_the_scores_and_is_undone_for_display(tiny_lm):
    [ba] = tiny_lm.score([PAIRS[0]], "ba")
    [fo] = tiny_lm.score([PAIRS[0]], "fo")
    assert not np.allclose(ba.log_probs, fo.log_probs, atol=0.1)
    assert ba.token_ids == fo.token_ids
    assert "".join(tiny_lm.pieces(ba.token_ids)).strip() == PAIRS[0][0]


def test_reversed_encoding_reads_the_passage_from_its_end(tiny_lm):
    [pair] = tiny_lm.encode([("who?", "one two three")], "ba")
    text = tiny_lm.tokenizer.decode(pair.context[:0:-1])
    assert text == " one two three"
    assert pair.context[0] == tiny_lm.tokenizer.bos_token_id
    assert tiny_lm.tokenizer.decode(pair.target[::-1]) == " who?"


def test_sum_mean_bits_perplexity_and_gain(tiny_lm):
    [likelihood] = tiny_lm.score([PAIRS[1]], "fo", prior=True)
    assert likelihood.sum == pytest.approx(likelihood.log_probs.sum(), abs=1e-4)
    assert likelihood.mean == pytest.approx(likelihood.sum / len(likelihood.token_ids))
    assert likelihood.bits == pytest.approx(likelihood.sum / math.log(2))
    assert likelihood.perplexity == pytest.approx(math.exp(-likelihood.mean))
    assert likelihood.gain == pytest.approx(likelihood.token_gains.sum(), abs=1e-4)


@pytest.mark.parametrize("direction", ["ba", "fo", "forward"])
def test_the_prior_is_the_likelihood_after_an_empty_text(tiny_lm, direction):
    query, passage = PAIRS[1]
    [likelihood] = tiny_lm.score([(query, passage)], direction, prior=True)
    empty = ("", passage) if direction == "forward" else (query, "")
    expected = naive_log_probs(tiny_lm, *empty, direction)
    if direction == "fo" or direction == "forward":
        # The naive reference leaves the blank before an empty placeholder; the prior does not.
        template = DIRECTIONS[direction]
        tidy = Template(
            "tidy",
            template.order,
            template.context.replace(" {", "{"),
            template.target,
        )
        [expected_likelihood] = tiny_lm.score([empty], tidy)
        expected = expected_likelihood.log_probs
    if direction == "ba":
        [expected_likelihood] = tiny_lm.score([empty], "ba")
        expected = expected_likelihood.log_probs
    np.testing.assert_allclose(likelihood.prior_log_probs, expected, atol=1e-4)


def test_gain_without_prior_is_an_error(tiny_lm):
    [likelihood] = tiny_lm.score([PAIRS[0]])
    with pytest.raises(ValueError, match="prior=True"):
        _ = likelihood.gain


def test_long_passages_are_cut_from_the_end_and_counted(make_tiny_lm):
    lm = make_tiny_lm("both", max_context=64)
    passage = "one two three four five six seven eight nine ten " * 20
    total = len(lm.tokenizer.encode(" " + passage, add_special_tokens=False))
    for direction in ("ba", "fo", "forward"):
        template = lm.template(direction)
        short = Template(
            "short",
            template.order,
            *(
                ("C: {passage}", " {query}")
                if template.scores_query
                else ("C: {query}", " {passage}")
            ),
        )
        [pair] = lm.encode([("who?", passage)], short)
        kept = total - pair.cut_tokens
        assert 0 < kept < total
        assert len(pair.context) + len(pair.target) <= 64
    [pair] = lm.encode([("who?", passage)], "ba", max_passage_tokens=5)
    assert pair.cut_tokens == total - 5
    assert passage.startswith(lm.tokenizer.decode(pair.context[:0:-1]).strip())


def test_a_cut_passage_has_the_same_context_for_every_short_query(make_tiny_lm):
    lm = make_tiny_lm("reverse", max_context=64)
    passage = "word " * 200
    contexts = {pair.context for pair in lm.encode([(q, passage) for q in ("a", "a b c")], "ba")}
    assert len(contexts) == 1


def test_a_query_that_leaves_no_room_is_an_error(make_tiny_lm):
    lm = make_tiny_lm("reverse", max_context=32)
    with pytest.raises(ValueError, match="shorten the query"):
        lm.score([("why " * 50, "because")])


def test_special_tokens_in_user_text_are_plain_text(tiny_lm):
    [pair] = tiny_lm.encode([("who?", "a <|end|> b <|start|>")], "fo")
    assert tiny_lm.tokenizer.eos_token_id not in pair.context
    assert pair.context.count(tiny_lm.tokenizer.bos_token_id) == 1
    assert "<|end|>" in tiny_lm.tokenizer.decode(pair.context)


@pytest.mark.parametrize(
    "text", ["", "   ", "\x00\x01", "\ud800 lone", "שלום עולם", "\u202eabc", "🙂" * 50]
)
def test_hostile_text_scores_finite(tiny_lm, text):
    kept_states = PassageStates()
    for pair in ((text, "a passage"), ("a query", text)):
        for direction in ("ba", "fo", "forward"):
            tiny_lm.states = PassageStates(0)
            plain = tiny_lm.score([pair], direction)[0]
            tiny_lm.states = kept_states
            kept = tiny_lm.score([pair], direction)[0]
            assert math.isfinite(plain.sum)
            assert kept.sum == pytest.approx(plain.sum, abs=1e-3)


def test_no_pairs_give_no_scores(tiny_lm):
    assert tiny_lm.score([]) == []


def test_progress_counts_every_pair(tiny_lm):
    for states in (PassageStates(0), PassageStates()):
        counted, tiny_lm.states = [], states
        tiny_lm.score([*PAIRS, PAIRS[0]], progress=counted.append)
        assert sum(counted) == len(PAIRS) + 1


def test_a_direction_that_does_not_fit_the_model_is_an_error(make_tiny_lm):
    with pytest.raises(ModelError, match="direction='fo'"):
        make_tiny_lm("forward").score([PAIRS[0]], "ba")
    with pytest.raises(ModelError, match="direction='ba'"):
        make_tiny_lm("reverse").score([PAIRS[0]], "fo")
    with pytest.raises(ValueError, match="direction must be one of"):
        make_tiny_lm("reverse").score([PAIRS[0]], "sideways")


def test_default_direction_follows_the_reading_order(make_tiny_lm):
    assert [make_tiny_lm(order).default_direction for order in ("forward", "reverse", "both")] == [
        "fo",
        "ba",
        "ba",
    ]


def test_lower_precision_stays_close(make_tiny_lm, tiny_lm):
    lowered = make_tiny_lm("both")
    lowered.model.to(torch.bfloat16)
    expected = [likelihood.mean for likelihood in tiny_lm.score(PAIRS, "fo")]
    found = [likelihood.mean for likelihood in lowered.score(PAIRS, "fo")]
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize(
    ("context", "target"),
    [("no placeholder", "{query}"), ("{query}", "{query}"), ("{passage} {query}", "{query}")],
)
def test_templates_need_one_placeholder_each(context, target):
    with pytest.raises(ValueError, match="one placeholder each"):
        Template("bad", "forward", context, target)


def test_logits_that_are_not_the_plain_head_fall_back_to_the_whole_model(tiny_lm, make_tiny_lm):
    class Scaled(type(tiny_lm.model)):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 0.5
            return output

    plain = make_tiny_lm("both")
    model = plain.model
    model.__class__ = Scaled
    lm = type(plain)(model, plain.tokenizer, order="both")
    assert not lm.network.head_splits and tiny_lm.network.head_splits
    found = lm.score(PAIRS[:3], "fo")
    for (query, passage), likelihood in zip(PAIRS[:3], found, strict=True):
        expected = naive_log_probs(lm, query, passage, "fo")
        np.testing.assert_allclose(likelihood.log_probs, expected, atol=1e-4)
