"""Passage states: bounded, keyed by what was read, and exact."""

from threading import Thread

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from trlm_retrieval.lm import PassageStates, TimeReversedLM
from trlm_retrieval.lm.likelihood import target_log_probs
from trlm_retrieval.lm.packing import packed_log_probs
from trlm_retrieval.lm.states import PassageState, StateFormat, state_key

PASSAGES = [f"Passage number {i} speaks of {'many ' * i}things." for i in range(12)]
QUERIES = ["what of things?", "number", "does it speak of many, many things?"]
PAIRS = [(query, passage) for query in QUERIES for passage in PASSAGES]


def sums(likelihoods):
    return [likelihood.sum for likelihood in likelihoods]


def keep(lm, states):
    """The model, which keeps the states of passages there from now on."""
    lm.states = states
    return lm


@pytest.fixture
def tiny_lm(make_tiny_lm):
    return make_tiny_lm("both")


@pytest.fixture
def expected(make_tiny_lm):
    return sums(keep(make_tiny_lm("both"), PassageStates(0)).score(PAIRS, "ba"))


def test_a_passage_is_computed_once_for_all_queries(tiny_lm, expected, monkeypatch):
    read = []
    original = tiny_lm.model.base_model.forward

    def counting(*args, **kwargs):
        read.append(kwargs["input_ids"].numel())
        return original(*args, **kwargs)

    monkeypatch.setattr(tiny_lm.model.base_model, "forward", counting)
    encoded = tiny_lm.encode(PAIRS, "ba")
    stems = sum(len(context) - 1 for context in {pair.context for pair in encoded})
    tails = sum(len(pair.target) for pair in encoded)
    states = PassageStates()
    assert sums(keep(tiny_lm, states).score(PAIRS, "ba")) == pytest.approx(expected, abs=1e-3)
    assert sum(read) == stems + tails
    assert len(states) == len(PASSAGES)
    read.clear()
    again = keep(tiny_lm, states).score(PAIRS[::-1], "ba")
    assert sums(again)[::-1] == pytest.approx(expected, abs=1e-3)
    assert sum(read) == tails


def test_scores_come_from_the_states(tiny_lm, expected):
    states = PassageStates()
    keep(tiny_lm, states).score(PAIRS, "ba")
    with torch.inference_mode():
        for state in states._kept.values():
            state.numbers += 0.5
    found = np.array(sums(keep(tiny_lm, states).score(PAIRS, "ba")))
    assert (abs(found - expected) > 1e-2).all()


def test_keys_tell_models_and_contexts_apart(tiny_lm, make_tiny_lm, expected):
    other = make_tiny_lm("both", seed=7)
    states = PassageStates()
    keep(tiny_lm, states).score(PAIRS, "ba")
    assert sums(keep(other, states).score(PAIRS, "ba")) == pytest.approx(
        sums(keep(other, PassageStates(0)).score(PAIRS, "ba")), abs=1e-3
    )
    assert sums(keep(tiny_lm, states).score(PAIRS, "fo")) == pytest.approx(
        sums(keep(tiny_lm, PassageStates(0)).score(PAIRS, "fo")), abs=1e-3
    )
    assert sums(keep(tiny_lm, states).score(PAIRS, "ba")) == pytest.approx(expected, abs=1e-3)
    keys = {state_key(f, c) for f in ("m", "n") for c in ((1, 2), (1, 2, 3), (12,), (3, 2, 1))}
    assert len(keys) == 8


def test_the_limit_holds_and_scores_stay_exact(tiny_lm, expected):
    one = PassageStates()
    keep(tiny_lm, one).score(PAIRS[:1], "ba")
    states = PassageStates(max_bytes=4 * one.bytes)
    for start in range(0, len(PAIRS), 6):
        found = keep(tiny_lm, states).score(PAIRS[start : start + 6], "ba")
        assert sums(found) == pytest.approx(expected[start : start + 6], abs=1e-3)
        assert 0 < states.bytes <= states.max_bytes
        kept = sum(state.nbytes for state in states._kept.values())
        assert kept == states.bytes
    assert len(states) < len(PASSAGES)


def test_a_limit_of_nothing_keeps_nothing(tiny_lm, expected):
    states = PassageStates(max_bytes=0)
    assert sums(keep(tiny_lm, states).score(PAIRS, "ba")) == pytest.approx(expected, abs=1e-3)
    assert len(states) == 0 and states.bytes == 0
    with pytest.raises(ValueError, match="max_bytes"):
        PassageStates(max_bytes=-1)


def test_the_least_recently_used_goes_first():
    state = PassageState(torch.zeros(2, 2, 1, 3, 4), None)
    states = PassageStates(max_bytes=2 * state.nbytes)
    states.put(b"a", state)
    states.put(b"b", state)
    assert states.get(b"a") is not None
    states.put(b"c", state)
    assert states.get(b"b") is None
    assert states.get(b"a") is not None and states.get(b"c") is not None
    assert (states.hits, states.misses) == (3, 1)


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "int8"])
def test_states_of_another_precision_are_converted(tiny_lm, expected, precision):
    states, exact = PassageStates(form=StateFormat(precision)), PassageStates()
    keep(tiny_lm, exact).score(PAIRS, "ba")
    keep(tiny_lm, states).score(PAIRS, "ba")
    assert all(state.numbers.dtype is getattr(torch, precision) for state in states._kept.values())
    assert states.bytes <= 0.6 * exact.bytes
    found = sums(keep(tiny_lm, states).score(PAIRS, "ba"))
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert found != sums(keep(tiny_lm, exact).score(PAIRS, "ba"))


def test_an_odd_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of"):
        StateFormat("int4")


def test_many_queries_of_one_passage_do_not_see_each_other(tiny_lm):
    queries = [f"query {i} with {'more ' * (i % 9)}words" for i in range(80)]
    pairs = [(query, PASSAGES[5]) for query in queries]
    found = keep(tiny_lm, PassageStates()).score(pairs, "fo")
    assert sums(found) == pytest.approx(
        sums(keep(tiny_lm, PassageStates(0)).score(pairs, "fo")), abs=1e-3
    )


def test_a_context_of_one_token_has_no_state(tiny_lm):
    sequences = [((0,), (5, 6, 7)), ((0, 9), (5,)), ((0,), ())]
    expected = target_log_probs(tiny_lm.network, sequences, 64)
    found = packed_log_probs(tiny_lm.network, sequences, 64, PassageStates(), tiny_lm.fingerprint)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("order", ["ba", "fo"])
@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_packed_scores_are_those_of_padded_batches(tiny_lm, order, budget):
    sequences = [(pair.context, pair.target) for pair in tiny_lm.encode(PAIRS, order)]
    expected = target_log_probs(tiny_lm.network, sequences, 4096)
    states = PassageStates()
    for kept in (PassageStates(0), states, states):
        found = packed_log_probs(tiny_lm.network, sequences, budget, kept)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", ["sliding", "unequal"])
def test_models_that_cannot_be_packed_take_the_plain_path(
    make_tiny_lm, kind, monkeypatch, tmp_path
):
    plain = make_tiny_lm("both")
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path))  # where no verdict on this model is kept yet
    if kind == "sliding":
        plain.model.config.layer_types = ["sliding_attention", "full_attention"]
    else:
        monkeypatch.setattr("trlm_retrieval.lm.packing._Pass.attend", lambda *_: _[2] * 0)
    lm = TimeReversedLM(plain.model, plain.tokenizer, order="both")
    assert plain.supports_states and not lm.supports_states
    monkeypatch.undo()
    states = PassageStates()
    expected = make_tiny_lm("both").score(PAIRS[:4], "ba")
    assert sums(keep(lm, states).score(PAIRS[:4], "ba")) == pytest.approx(sums(expected), abs=1e-3)
    assert len(states) == 0


def test_threads_share_one_store(tiny_lm, expected):
    one = PassageStates()
    keep(tiny_lm, one).score(PAIRS[:1], "ba")
    states = PassageStates(max_bytes=5 * one.bytes)
    keep(tiny_lm, states)
    found = []
    threads = [
        Thread(target=lambda: found.append(sums(tiny_lm.score(PAIRS, "ba")))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for scores in found:
        assert scores == pytest.approx(expected, abs=1e-3)
    assert states.bytes <= states.max_bytes


def test_memory_stays_bounded_while_ten_thousand_passages_are_scored(make_tiny_lm, monkeypatch):
    lm = make_tiny_lm("both", token_budget=4096)
    states = PassageStates(max_bytes=200_000)
    most = []
    put = PassageStates.put
    monkeypatch.setattr(
        PassageStates, "put", lambda self, *kept: put(self, *kept) or most.append(self.bytes)
    )
    pairs = [("what?", f"Passage {i} of many things.") for i in range(10_000)]
    found = keep(lm, states).score(pairs, "ba")
    assert len(found) == len(most) == 10_000
    assert 0 < max(most) <= states.max_bytes
    kept = {state.numbers.untyped_storage().data_ptr() for state in states._kept.values()}
    assert len(kept) == len(states) < 100  # each its own memory: none is a view of a larger batch
    assert sum(s.numbers.untyped_storage().nbytes() for s in states._kept.values()) <= 200_000


@pytest.mark.parametrize(
    ("kind", "settings", "packed"),
    [
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 16}, True),
        ("gpt_neox", {}, True),  # as of the public reversed Pythia
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, True),  # learned positions
        ("gpt2", {}, True),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": None}, True),
        ("qwen2", {"num_key_value_heads": 2}, True),
        ("gemma", {"num_key_value_heads": 1, "head_dim": 8}, True),
        ("phi", {}, True),
        ("olmo2", {"num_key_value_heads": 2}, True),
        ("granite", {"num_key_value_heads": 2}, True),
        ("starcoder2", {"num_key_value_heads": 2, "sliding_window": None}, True),
        ("mistral", {"num_key_value_heads": 2, "sliding_window": 16}, False),
        ("gemma2", {"num_key_value_heads": 2, "head_dim": 8}, False),  # caps its scores
        ("bloom", {"n_layer": 2, "n_head": 4}, False),  # has no positions to give
    ],
)
def test_other_architectures_are_packed_or_left_alone(kind, settings, packed, tiny_lm):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        **{
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "initializer_range": 0.3,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
            **settings,
        },
    )
    lm = TimeReversedLM(AutoModelForCausalLM.from_config(config), tiny_lm.tokenizer)
    assert lm.supports_states is packed
    pairs = PAIRS[:14]
    sequences = [(pair.context, pair.target) for pair in lm.encode(pairs)]
    expected = [row.sum() for row in target_log_probs(lm.network, sequences, 1)]
    states = PassageStates()
    for _ in range(2):
        assert sums(keep(lm, states).score(pairs)) == pytest.approx(expected, abs=1e-3)
    assert len(states) == (12 if packed else 0)
