"""Passage states: bounded, keyed by what was read, and exact."""

from threading import Thread

import numpy as np
import pytest
import torch

from trlm_retrieval.lm import PassageStates
from trlm_retrieval.lm.likelihood import target_log_probs
from trlm_retrieval.lm.states import state_key, target_log_probs_with_states

PASSAGES = [f"Passage number {i} speaks of {'many ' * i}things." for i in range(12)]
QUERIES = ["what of things?", "number", "does it speak of many, many things?"]
PAIRS = [(query, passage) for query in QUERIES for passage in PASSAGES]


def sums(likelihoods):
    return [likelihood.sum for likelihood in likelihoods]


@pytest.fixture
def expected(tiny_lm):
    return sums(tiny_lm.score(PAIRS, "ba"))


def test_a_passage_is_computed_once_for_all_queries(tiny_lm, expected, monkeypatch):
    computed = []
    original = tiny_lm.model.base_model.forward

    def counting(*args, **kwargs):
        ids = kwargs["input_ids"]
        computed.append(ids.shape[0] if kwargs.get("position_ids") is None else 0)
        return original(*args, **kwargs)

    monkeypatch.setattr(tiny_lm.model.base_model, "forward", counting)
    states = PassageStates()
    assert sums(tiny_lm.score(PAIRS, "ba", states=states)) == pytest.approx(expected, abs=1e-3)
    assert sum(computed) == len(PASSAGES) == len(states)
    computed.clear()
    again = tiny_lm.score(PAIRS[::-1], "ba", states=states)
    assert sums(again)[::-1] == pytest.approx(expected, abs=1e-3)
    assert sum(computed) == 0


def test_scores_come_from_the_states(tiny_lm, expected):
    states = PassageStates()
    tiny_lm.score(PAIRS, "ba", states=states)
    with torch.inference_mode():
        for state in states._kept.values():
            state += 0.5
    found = np.array(sums(tiny_lm.score(PAIRS, "ba", states=states)))
    assert (abs(found - expected) > 1e-2).all()


def test_keys_tell_models_and_contexts_apart(tiny_lm, make_tiny_lm, expected):
    other = make_tiny_lm("both", seed=7)
    states = PassageStates()
    tiny_lm.score(PAIRS, "ba", states=states)
    assert sums(other.score(PAIRS, "ba", states=states)) == pytest.approx(
        sums(other.score(PAIRS, "ba")), abs=1e-3
    )
    assert sums(tiny_lm.score(PAIRS, "fo", states=states)) == pytest.approx(
        sums(tiny_lm.score(PAIRS, "fo")), abs=1e-3
    )
    assert sums(tiny_lm.score(PAIRS, "ba", states=states)) == pytest.approx(expected, abs=1e-3)
    keys = {state_key(f, c) for f in ("m", "n") for c in ((1, 2), (1, 2, 3), (12,), (3, 2, 1))}
    assert len(keys) == 8


def test_the_limit_holds_and_scores_stay_exact(tiny_lm, expected):
    one = PassageStates()
    tiny_lm.score(PAIRS[:1], "ba", states=one)
    states = PassageStates(max_bytes=4 * one.bytes)
    for start in range(0, len(PAIRS), 6):
        found = tiny_lm.score(PAIRS[start : start + 6], "ba", states=states)
        assert sums(found) == pytest.approx(expected[start : start + 6], abs=1e-3)
        assert 0 < states.bytes <= states.max_bytes
        kept = sum(state.numel() * state.element_size() for state in states._kept.values())
        assert kept == states.bytes
    assert len(states) < len(PASSAGES)


def test_a_limit_of_nothing_keeps_nothing(tiny_lm, expected):
    states = PassageStates(max_bytes=0)
    assert sums(tiny_lm.score(PAIRS, "ba", states=states)) == pytest.approx(expected, abs=1e-3)
    assert len(states) == 0 and states.bytes == 0
    with pytest.raises(ValueError, match="max_bytes"):
        PassageStates(max_bytes=-1)


def test_the_least_recently_used_goes_first():
    state = torch.zeros(2, 2, 1, 3, 4)
    states = PassageStates(max_bytes=2 * state.numel() * state.element_size())
    states.put(b"a", state)
    states.put(b"b", state)
    assert states.get(b"a") is not None
    states.put(b"c", state)
    assert states.get(b"b") is None
    assert states.get(b"a") is not None and states.get(b"c") is not None
    assert (states.hits, states.misses) == (3, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_of_another_precision_are_converted(tiny_lm, expected, dtype):
    states = PassageStates(dtype=dtype)
    tiny_lm.score(PAIRS, "ba", states=states)
    assert all(state.dtype is dtype for state in states._kept.values())
    found = sums(tiny_lm.score(PAIRS, "ba", states=states))
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_many_queries_of_one_passage_do_not_see_each_other(tiny_lm):
    queries = [f"query {i} with {'more ' * (i % 9)}words" for i in range(80)]
    pairs = [(query, PASSAGES[5]) for query in queries]
    found = tiny_lm.score(pairs, "fo", states=PassageStates())
    assert sums(found) == pytest.approx(sums(tiny_lm.score(pairs, "fo")), abs=1e-3)


def test_a_context_of_one_token_has_no_state(tiny_lm):
    sequences = [((0,), (5, 6, 7)), ((0, 9), (5,)), ((0,), ())]
    expected = target_log_probs(tiny_lm.network, sequences, 64)
    found = target_log_probs_with_states(
        tiny_lm.network, sequences, 64, PassageStates(), tiny_lm.fingerprint
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_models_without_plain_states_take_the_plain_path(make_tiny_lm):
    lm = make_tiny_lm("both")
    lm.model.config.layer_types = ["sliding_attention", "full_attention"]
    assert not lm.supports_states
    states = PassageStates()
    plain = make_tiny_lm("both").score(PAIRS[:4], "ba")
    assert sums(lm.score(PAIRS[:4], "ba", states=states)) == pytest.approx(sums(plain), abs=1e-3)
    assert len(states) == 0


def test_threads_share_one_store(tiny_lm, expected):
    one = PassageStates()
    tiny_lm.score(PAIRS[:1], "ba", states=one)
    states = PassageStates(max_bytes=5 * one.bytes)
    found = []
    threads = [
        Thread(target=lambda: found.append(sums(tiny_lm.score(PAIRS, "ba", states=states))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for scores in found:
        assert scores == pytest.approx(expected, abs=1e-3)
    assert states.bytes <= states.max_bytes
