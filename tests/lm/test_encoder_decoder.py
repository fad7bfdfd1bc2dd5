"""Encoder-decoders score, keep states, generate and load as decoders do."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from tests.lm.encoder_decoders import KINDS, model, naive, tiny, tokenizer
from trlm_retrieval.errors import ModelError, StatesError
from trlm_retrieval.lm import PassageStates, TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries
from trlm_retrieval.lm.state_folder import StateFolder
from trlm_retrieval.lm.state_writing import plan_states, write_states
from trlm_retrieval.lm.states import StateFormat
from trlm_retrieval.lm.template import DIRECTIONS
from trlm_retrieval.models.int8_weights import write_small
from trlm_retrieval.models.loading import save_settings

PASSAGES = [f"Passage number {i} of {'many ' * i}things." for i in range(6)]
QUERIES = ["what is the passage?", "many things", "exit"]
PAIRS = [(query, passage) for passage in PASSAGES for query in QUERIES]
CASES = [("pointer", "both", "ba"), ("pointer", "both", "fo")]
CASES += [(kind, "forward", None) for kind in KINDS]


def sums(likelihoods):
    return [likelihood.sum for likelihood in likelihoods]


@pytest.mark.parametrize(("kind", "order", "direction"), CASES)
@pytest.mark.parametrize("budget", [1, 4096])
def test_scores_are_those_of_one_pair_at_a_time(kind, order, direction, budget):
    lm = tiny(kind, order, budget)
    expected = naive(lm, PAIRS, direction)
    for states in (PassageStates(0), PassageStates()):
        lm.states = states
        for _ in range(2):
            for found, one in zip(lm.score(PAIRS, direction), expected, strict=True):
                np.testing.assert_allclose(found.log_probs, one, atol=1e-3)
    assert lm.states.hits == lm.states.misses == len(lm.states) == len(PASSAGES)


def test_only_the_target_is_reversed():
    lm = tiny("pointer", "both")
    [ba], [fo] = (lm.encode([("what is", "many things")], name) for name in ("ba", "fo"))
    tokens = lm.tokenizer.convert_ids_to_tokens
    assert tokens(list(ba.context)) == ["[CLS]", "many", "things", "[SEP]", "[SEP]"]
    assert tokens(list(fo.context)) == ["[CLS]", "many", "things", "[SEP]", "[CLS]"]
    assert (tokens(list(ba.target)), tokens(list(fo.target))) == (["is", "what"], ["what", "is"])


def test_a_tokenizer_that_pads_adds_nothing_to_a_passage():
    """Sentence embedders' `tokenizer.json` pads and cuts every text to a length of its own."""
    padding = tokenizer()
    padding.backend_tokenizer.enable_padding(length=32)
    padding.backend_tokenizer.enable_truncation(32)
    lm = TimeReversedLM(model("pointer"), padding)
    assert (lm.encoder.frame.before, lm.encoder.frame.after) == ((2,), (3,))
    assert lm.encode(PAIRS)[0] == tiny("pointer").encode(PAIRS)[0]


def test_others_read_the_published_prompt_of_upr():
    lm = tiny("t5")
    [pair] = lm.encode([("what is", "many things")])
    text = "Passage: many things. Please write a question based on this passage."
    assert lm.tokenizer.decode(list(pair.context[:-1])) == lm.tokenizer.decode(
        lm.tokenizer(text)["input_ids"]
    )
    assert pair.context[-1] == 0 and lm.default_direction == "fo"


@pytest.mark.parametrize("kind", KINDS)
def test_gains_are_over_the_frame_with_nothing_in_it(kind):
    lm = tiny(kind)
    found = lm.score(PAIRS[:4], prior=True)
    expected = naive(lm, PAIRS[:4])
    before = naive(lm, [(query, "") for query, _ in PAIRS[:4]])
    for one, with_passage, without in zip(found, expected, before, strict=True):
        np.testing.assert_allclose(one.token_gains, with_passage - without, atol=1e-3)


@pytest.mark.parametrize("kind", ["pointer", "t5"])
@pytest.mark.parametrize(
    ("form", "most", "bytes_a_token"),
    [
        (StateFormat("float32"), 1e-3, 128),
        (StateFormat("bfloat16"), 0.3, 64),
        (StateFormat("float16"), 0.05, 64),
        (StateFormat("int8"), 0.3, 34),
    ],
)
def test_smaller_states_deviate_by_so_much(kind, form, most, bytes_a_token):
    lm = tiny(kind)
    expected = sums(lm.score(PAIRS))
    lm.states = PassageStates(form=form)
    first, second = sums(lm.score(PAIRS)), sums(lm.score(PAIRS))
    assert first == pytest.approx(second, abs=1e-4)  # read off states the first time as well
    assert np.abs(np.subtract(first, expected)).max() < most
    tokens = {pair.context: len(pair.context) - 1 for pair in lm.encode(PAIRS)}
    assert lm.states.bytes == bytes_a_token * sum(tokens.values())


@pytest.mark.parametrize("pool", [2, 4])
def test_pooled_states_are_means_and_each_token_can_be_copied(pool):
    lm = tiny("pointer")
    lm.states = PassageStates(form=StateFormat(pool=pool))
    found = lm.score(PAIRS)
    [pair] = lm.encode([PAIRS[7]])
    *context, start = pair.context
    net = lm.model
    with torch.inference_mode():
        whole = net.encode(torch.tensor([context]), torch.ones(1, len(context)))
        parts = [part.mean(0) for part in whole.states[0].split(pool)]
        assert len(parts) == -(-len(context) // pool)
        # The same by hand: a mean stands once for each token of its pool.
        states = torch.stack(parts)[None]
        passages = type(whole)(states, whole.ids, torch.ones(1, len(parts), dtype=torch.bool))
        hidden = net.decode(passages, torch.tensor([[[start, *pair.target[:-1]]]]))[:, 0]
        attention = net._copying(hidden, passages)[0]
        copied = torch.zeros(len(pair.target), len(lm.tokenizer))
        for position, ids in enumerate(torch.tensor(context).split(pool)):
            for token in ids.tolist():
                copied[:, token] += attention[:, position] / len(ids)
        written = net.vocabulary.all_log_probs(hidden)[0]
        expected = net._mixed(hidden[0][:, None], copied, written)
        chosen = expected[range(len(pair.target)), list(pair.target)]
    np.testing.assert_allclose(found[7].log_probs, chosen.numpy(), atol=1e-3)


def test_decoders_refuse_pools(make_tiny_lm):
    lm = make_tiny_lm()
    with pytest.raises(ValueError, match="decoder cannot be pooled"):
        lm.states = PassageStates(form=StateFormat(pool=2))
    with pytest.raises(ValueError, match="decoder cannot be pooled"):
        plan_states(lm, PASSAGES, form=StateFormat(pool=2))
    with pytest.raises(ValueError, match="pool must be 1, 2 or 4"):
        StateFormat(pool=3)


@pytest.mark.parametrize("kind", ["pointer", "bart"])
@pytest.mark.parametrize("form", [StateFormat(), StateFormat("int8", pool=2)])
def test_states_on_disk_serve_the_scores(kind, form, tmp_path):
    lm = tiny(kind)
    lm.states = PassageStates(form=form)
    expected = sums(lm.score(PAIRS))
    plan = plan_states(lm, PASSAGES, form=form)
    write_states(tmp_path / "states", lm, plan)
    folder = StateFolder(tmp_path / "states", lm)
    assert folder.form == form
    assert plan.bytes == folder.nbytes == lm.states.bytes
    lm.states = PassageStates(0)
    lm.states.read_from(folder)
    assert sums(lm.score(PAIRS)) == pytest.approx(expected, abs=1e-3)
    assert (lm.states.hits, lm.states.misses) == (len(PASSAGES), 0)
    with pytest.raises(StatesError, match="another model"):
        StateFolder(tmp_path / "states", tiny("t5"))


def test_states_of_another_pool_leave_memory_when_a_folder_is_read(tmp_path):
    lm = tiny("pointer")
    lm.score(PAIRS)
    write_states(tmp_path / "states", lm, plan_states(lm, PASSAGES[:3], form=StateFormat(pool=2)))
    lm.states.read_from(StateFolder(tmp_path / "states", lm))
    assert len(lm.states) == lm.states.bytes == 0
    lm.score(PAIRS)
    assert len(lm.states) == 3 and all(state.pool == 2 for state in lm.states._kept.values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_generated_goes_by_what_the_model_gives(kind):
    lm = tiny(kind)
    [pair] = lm.encode([("", PASSAGES[2])])
    states = lm.context_states([pair.context])
    [(rows, going)] = lm.network.continuations([pair.context], states, [0, 0, 0])
    assert rows == [0, 1, 2]
    *context, start = pair.context
    with torch.inference_mode():
        going.first()
        steps = torch.tensor([[start], [start], [start]])
        for tokens in ([5, 6, 7], [8, 9, 5]):
            logits = going.advance(torch.tensor(tokens))
            steps = torch.cat([steps, torch.tensor(tokens)[:, None]], 1)
            expected = lm.model(
                input_ids=torch.tensor([context] * 3), decoder_input_ids=steps
            ).logits[:, -1]
            np.testing.assert_allclose(
                logits.float().log_softmax(-1), expected.float().log_softmax(-1), atol=1e-3
            )
        going.keep(torch.tensor([2, 0]))
        logits = going.advance(torch.tensor([5, 5]))
        steps = torch.cat([steps[[2, 0]], torch.tensor([[5], [5]])], 1)
        expected = lm.model(input_ids=torch.tensor([context] * 2), decoder_input_ids=steps).logits[
            :, -1
        ]
    np.testing.assert_allclose(
        logits.float().log_softmax(-1), expected.float().log_softmax(-1), atol=1e-3
    )


@pytest.mark.parametrize(("kind", "order"), [("pointer", "both"), ("t5", "forward")])
def test_generated_queries_carry_their_scores_whatever_else_is_asked(kind, order):
    lm = tiny(kind, order, token_budget=4096)
    sampling = Sampling(max_tokens=6)
    found = generate_queries(lm, PASSAGES[:2], 3, sampling=sampling)
    alone = generate_queries(lm, PASSAGES[1:2], 3, sampling=sampling)
    assert [query.text for query in found[1]] == [query.text for query in alone[0]]
    for passage, queries in zip(PASSAGES, found, strict=False):
        assert queries
        scored = lm.score([(query.text, passage) for query in queries])
        assert sums(scored) == pytest.approx([q.likelihood.sum for q in queries], abs=1e-3)


def test_long_passages_are_cut_and_counted():
    lm = tiny("pointer")
    found = lm.score([("what is", "many " * 100), ("what is", "many " * 62)])
    assert [one.cut_tokens for one in found] == [38, 0]  # 64 positions, two of them the frame
    assert found[0].sum == pytest.approx(found[1].sum, abs=1e-4)
    assert lm.score([("what is", "")])[0].sum < 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_loaded_without_remote_code(kind, tmp_path):
    lm = tiny(kind)
    lm.save(tmp_path)
    loaded = TimeReversedLM.from_pretrained(tmp_path, dtype="float32")
    assert sums(loaded.score(PAIRS)) == pytest.approx(sums(lm.score(PAIRS)), abs=1e-3)
    assert type(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)) is type(lm.model)


@pytest.mark.parametrize("kind", ["pointer", "bart"])
def test_int8_weights_and_int8_arithmetic(kind, tmp_path):
    lm = tiny(kind)
    if kind == "pointer":  # classes are no longer in the order of the tokens
        assert (lm.model.vocabulary.place_of.diff() != 1).any()
    lm.model.config.folder = {"_name_or_path": "/home/somebody/minilm", "width": 3}
    write_small(lm.model, tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert settings["folder"] == {"width": 3}  # nothing of the machine that wrote it
    lm.tokenizer.save_pretrained(tmp_path)
    save_settings(lm.order, lm.start_tokens, tmp_path)
    small = TimeReversedLM.from_pretrained(tmp_path, dtype="float32")
    expected = sums(lm.score(PAIRS))
    np.testing.assert_allclose(sums(small.score(PAIRS)), expected, rtol=0.1)
    rough = TimeReversedLM.from_pretrained(tmp_path, dtype="int8")
    np.testing.assert_allclose(sums(rough.score(PAIRS)), expected, rtol=0.2)
    if kind == "pointer":
        assert torch.equal(small.model.vocabulary.place_of, lm.model.vocabulary.place_of)


def test_bad_input_is_named():
    lm = tiny("pointer")
    with pytest.raises(ValueError, match="query has 40 tokens and the model's decoder takes 32"):
        lm.score([("many " * 40, "things")])
    with pytest.raises(ModelError, match=r"scores the passage.*use direction='fo', or a decoder"):
        lm.score(PAIRS, "forward")
    with pytest.raises(ModelError, match="direction 'ba' reads tokens in reverse order"):
        tiny("t5").score(PAIRS, DIRECTIONS["ba"])
    with pytest.raises(ValueError, match="max_tokens must be at most 32"):
        generate_queries(lm, PASSAGES, 1, sampling=Sampling(max_tokens=33))
    with pytest.raises(ModelError, match="this needs a decoder"):
        _ = lm.decoder
    nameless = model("t5", decoder_start_token_id=None)
    nameless.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="set decoder_start_token_id in its config"):
        TimeReversedLM(nameless, tokenizer(False))
    named = TimeReversedLM(nameless, tokenizer(False), start_tokens={"forward": "[PAD]"})
    assert named.score(PAIRS[:1])[0].sum < 0
