"""Prompt search: it raises the likelihood, by text alone, and the gradient is worth following."""

import numpy as np
import pytest
import torch

from trlm_retrieval.prompts import search as module
from trlm_retrieval.prompts.search import (
    _evaluate,
    _slopes,
    _Tokens,
    least_fluent,
    passage_slot,
    prompt_slots,
    search,
    strengthen,
    with_addition,
    with_words,
)

QUERY = "how does with call exit"
PASSAGE = "A generator yields values one at a time."
PAIRS = [(QUERY, PASSAGE), ("what is insertion order", "The with statement wraps a block.")]


@pytest.fixture(scope="module", params=["forward", "reverse"])
def lm(request, make_tiny_lm):
    return make_tiny_lm(request.param, initializer_range=0.1)


def test_the_slot_of_a_passage_is_where_its_text_stands(lm):
    template = lm.template()
    slot = passage_slot(lm, QUERY, PASSAGE, template)
    free = _Tokens(lm).ids(" generator value")
    changed = with_addition(PASSAGE, " generator value", template)
    [pair] = lm.encode([(QUERY, changed)], template)
    assert (*slot.before, *free, *slot.after) == pair.context and slot.target == pair.target


def test_a_hostile_passage_rises_by_what_the_search_says(lm):
    done = []
    found = strengthen(lm, QUERY, PASSAGE, length=5, steps=6, progress=done.append)
    assert sum(done) == 6
    assert found.after.sum > found.before.sum
    assert found.passage == with_addition(PASSAGE, found.addition, lm.template())
    slot = passage_slot(lm, QUERY, PASSAGE, lm.template())
    searched = search(lm, [slot], 5, 6)
    assert searched.text == found.addition
    assert searched.log_likelihoods[-1] == pytest.approx(found.after.sum, abs=1e-3)
    assert list(searched.log_likelihoods) == sorted(searched.log_likelihoods)
    won = found.after.gain - found.before.gain
    assert won == pytest.approx(found.after.sum - found.before.sum, abs=1e-3)
    assert found.fluency_before == pytest.approx(least_fluent(lm, PASSAGE))
    assert found.fluency_after == pytest.approx(least_fluent(lm, found.passage))


def test_words_for_a_prompt(lm):
    template = lm.template()
    found = search(lm, prompt_slots(lm, PAIRS, template), 4, 5)
    scored = lm.score(PAIRS, with_words(template, found.text))
    mean = float(np.mean([one.sum for one in scored]))
    assert found.log_likelihoods[-1] == pytest.approx(mean, abs=1e-3)
    assert found.log_likelihoods[-1] > found.log_likelihoods[0]


def test_the_gradient_tells_which_exchanges_are_worth_trying(lm):
    tokens, [slot] = _Tokens(lm), prompt_slots(lm, PAIRS[:1], lm.template())
    free = tokens.ids(" generator value")
    others = torch.nonzero(tokens.allowed)[:, 0].tolist()
    exchanges = [(token, *free[1:]) for token in others]
    exact = np.array(_evaluate(lm, [slot], exchanges))
    slopes = _slopes(lm, [slot], free)[0, others].numpy()
    assert np.corrcoef(slopes, exact)[0, 1] > 0.3


def test_a_search_without_the_gradient_finds_less(lm, monkeypatch):
    slot = passage_slot(lm, QUERY, PASSAGE, lm.template())

    def reached():
        runs = [search(lm, [slot], 5, 5, tries=8, promising=16, seed=seed) for seed in range(3)]
        return np.mean([run.log_likelihoods[-1] for run in runs])

    guided = reached()
    monkeypatch.setattr(module, "_slopes", lambda *a: -_slopes(*a))
    assert guided > reached()


def test_what_is_found_is_legal_text(lm):
    found = search(lm, [passage_slot(lm, QUERY, PASSAGE, lm.template())], 4, 4)
    assert found.text.isascii() and found.text.isprintable() and found.text[0] == " "
    assert len(_Tokens(lm).ids(found.text)) == 4


def test_the_least_fluent_tokens(lm):
    ids = _Tokens.of(lm, PASSAGE)
    order = ids if lm.order == "forward" else ids[::-1]
    [log_probs] = lm.log_probs([((0,), tuple(order))])
    windows = [log_probs[i : i + 8].mean() for i in range(len(ids) - 7)]
    assert least_fluent(lm, PASSAGE) == pytest.approx(min(windows), abs=1e-4)
    assert least_fluent(lm, "") == 0.0


def test_long_passages_and_bad_input(lm):
    found = strengthen(lm, QUERY, "word " * 2000, length=2, steps=1)
    assert found.after.cut_tokens == 0 and found.cut_characters > 5000
    slot = passage_slot(lm, QUERY, PASSAGE, lm.template())
    for settings in ({"length": 0}, {"steps": 0}, {"tries": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            search(lm, [slot], **settings)
    with pytest.raises(ValueError, match="query is empty"):
        strengthen(lm, "", PASSAGE)
    with pytest.raises(ValueError, match="nothing to make likely"):
        search(lm, [])
