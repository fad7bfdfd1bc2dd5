"""Soft prompts: every way of scoring gives what a plain pass over embeddings gives."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import DIRECTIONS, PassageStates, Template
from trlm_retrieval.lm.generation import Sampling, generate_queries
from trlm_retrieval.lm.likelihood import target_log_probs
from trlm_retrieval.lm.soft_prompt import SoftPrompt, base_sample
from trlm_retrieval.lm.state_folder import StateFolder
from trlm_retrieval.lm.state_writing import plan_states, write_states

PASSAGES = ("The with statement calls exit.", "A dict keeps its insertion order.")
PAIRS = [(q, p) for p in PASSAGES for q in ("what does with call?", "order")]
AROUND = Template("soft", "forward", "Passage: {passage}", " {query}")


@pytest.fixture
def vectors():
    return torch.randn(5, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def folder(make_tiny_lm, vectors, tmp_path):
    """A soft prompt beside the model that it belongs to."""
    lm = make_tiny_lm("forward")
    lm.save(tmp_path / "base")
    soft = SoftPrompt(str(tmp_path / "base"), AROUND, vectors, base_sample(lm.model))
    soft.save(tmp_path / "soft")
    return tmp_path / "soft"


def load(folder, **settings):
    return TimeReversedLM.from_pretrained(folder, **{"dtype": "float32", **settings})


@torch.no_grad()
def naive(base: TimeReversedLM, vectors: torch.Tensor, pairs=PAIRS) -> list[np.ndarray]:
    """One pass a pair over embeddings that are put together by hand, nothing shared."""
    found = []
    table = base.model.get_input_embeddings()
    for pair in base.encode(pairs, AROUND):
        rows = [table(torch.tensor(pair.context)), vectors, table(torch.tensor(pair.target))]
        logits = base.model(inputs_embeds=torch.cat(rows)[None]).logits[0].log_softmax(-1)
        start = len(pair.context) + len(vectors) - 1
        ids = torch.tensor(pair.target)[:, None]
        found.append(logits[start : start + len(ids)].gather(1, ids)[:, 0].numpy())
    return found


def assert_equal(likelihoods, expected, atol=1e-4):
    for likelihood, values in zip(likelihoods, expected, strict=True):
        np.testing.assert_allclose(likelihood.log_probs, values, atol=atol)


def test_packed_scores_are_those_of_embeddings(folder, vectors):
    lm, base = load(folder), load(folder.parent / "base")
    assert lm.supports_states
    expected = naive(base, vectors)
    assert_equal(lm.score(PAIRS), expected)
    written = base.score(PAIRS, AROUND)
    assert not np.allclose(written[0].log_probs, expected[0], atol=0.1)


def test_so_are_those_of_padded_batches(folder, vectors):
    lm, base = load(folder), load(folder.parent / "base")
    encoded = [(pair.context, pair.target) for pair in lm.encode(PAIRS)]
    found = target_log_probs(lm.network, encoded, 64)
    for values, expected in zip(found, naive(base, vectors), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_so_are_those_of_states_in_memory_and_on_disk(folder, vectors, tmp_path):
    lm, base = load(folder), load(folder.parent / "base")
    expected = naive(base, vectors)
    for _ in range(2):
        assert_equal(lm.score(PAIRS), expected)
    assert lm.states.hits
    write_states(tmp_path / "states", lm, plan_states(lm, PASSAGES))
    lm.states = PassageStates(0)
    lm.states.read_from(StateFolder(tmp_path / "states", lm))
    assert_equal(lm.score(PAIRS), expected)
    assert lm.states.hits
    with pytest.raises(Exception, match="another model"):
        StateFolder(tmp_path / "states", base, AROUND)


def test_int8_reads_it_with_int8_layers(folder, vectors):
    lm, base = load(folder, dtype="int8"), load(folder.parent / "base", dtype="int8")
    assert_equal(lm.score(PAIRS), naive(base, vectors))


def test_the_prior_reads_it_too(folder, vectors):
    lm, base = load(folder), load(folder.parent / "base")
    [expected] = naive(base, vectors, [("order", "")])
    [found] = lm.score([("order", PASSAGES[0])], prior=True)
    np.testing.assert_allclose(found.prior_log_probs, expected, atol=1e-4)


def test_other_directions_are_what_they_were(folder):
    lm, base = load(folder), load(folder.parent / "base")
    for direction in ("fo", "forward"):
        expected = [found.log_probs for found in base.score(PAIRS, direction)]
        assert_equal(lm.score(PAIRS, direction), expected)


def test_embeddings_of_written_words_are_the_words(make_tiny_lm, tmp_path):
    base = make_tiny_lm("forward")
    fo = DIRECTIONS["fo"]
    before, after = fo.context.split("{passage}")
    ids = base.encoder.encode_prompt(after)
    expected = [found.log_probs for found in base.score(PAIRS, fo)]
    written = base.model.get_input_embeddings()(torch.tensor(ids)).detach()
    soft = SoftPrompt("base", replace(AROUND, context=f"{before}{{passage}}"), written, written)
    lm = TimeReversedLM(base.model, base.tokenizer, soft_prompt=soft)
    assert_equal(lm.score(PAIRS), expected)


def test_it_generates(folder):
    lm = load(folder)
    [queries] = generate_queries(lm, PASSAGES[:1], 3, sampling=Sampling(max_tokens=6))
    scored = lm.score([(query.text, PASSAGES[0]) for query in queries])
    assert [q.likelihood.sum for q in queries] == pytest.approx([s.sum for s in scored], abs=1e-3)


def test_no_text_is_its_tokens(folder):
    lm = load(folder)
    first = lm.template().soft_tokens[0]
    [pair] = lm.encode([("<|soft|> \x00", f"{first} <|start|><|end|>")])
    assert pair.context[-5:] == lm.template().soft_tokens
    assert max(pair.context[:-5] + pair.target) < first


def test_a_long_passage_leaves_room_for_it(folder):
    lm = load(folder)
    [pair] = lm.encode([("order", "word " * 2000)])
    assert pair.cut_tokens > 0
    assert pair.context[-5:] == lm.template().soft_tokens
    assert len(pair.context) + len(pair.target) <= lm.max_context


def test_the_ranker_uses_it_and_survives_a_round_trip(folder, vectors):
    from haystack import Document

    base = str(folder.parent / "base")
    ranker = TRLMRanker(base, soft_prompt=str(folder), first_stage_weight=0.0, dtype="float32")
    again = TRLMRanker.from_dict(ranker.to_dict())
    expected = [values.sum() for values in naive(load(base), vectors, PAIRS[::2])]
    for one in (ranker, again):
        found = one.run(PAIRS[0][0], [Document(content=text) for text in PASSAGES])["documents"]
        scores = {document.content: document.score for document in found}
        assert [scores[text] for text in PASSAGES] == pytest.approx(expected, abs=1e-3)


def test_the_ranker_takes_it_with_a_name_alone(folder):
    with pytest.raises(ValueError, match="leave direction out"):
        TRLMRanker(soft_prompt=str(folder), direction="fo")
    with pytest.raises(ValueError, match="from_pretrained"):
        TRLMRanker(load(folder.parent / "base"), soft_prompt=str(folder))


def test_other_models_are_refused(folder, make_tiny_lm, tmp_path):
    make_tiny_lm("forward", seed=1).save(tmp_path / "other")
    with pytest.raises(ModelError, match="another model"):
        load(tmp_path / "other", soft_prompt=folder)
    make_tiny_lm("reverse").save(tmp_path / "reverse")
    with pytest.raises(ModelError, match="reverse order"):
        load(tmp_path / "reverse", soft_prompt=folder)
    assert load(folder.parent / "base", soft_prompt=folder, dtype="bfloat16").template().soft_tokens


def test_a_second_one_and_a_wrong_width_are_refused(folder, vectors):
    lm = load(folder)
    soft = SoftPrompt.load(folder)
    with pytest.raises(ModelError, match="already"):
        soft.attach(lm.model)
    with pytest.raises(ModelError, match="another model's"):
        replace(soft, vectors=vectors[:, :8]).attach(
            copy.deepcopy(load(folder.parent / "base").model)
        )
    with pytest.raises(ModelError, match="load it without"):
        lm.save(folder.parent / "saved")


@pytest.mark.parametrize("damage", ["cut", "missing", "manifest", "tokens", "nan"])
def test_a_damaged_one_is_named(folder, damage, vectors):
    weights, manifest = folder / "soft_prompt.safetensors", folder / "soft_prompt.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:50])
    elif damage == "missing":
        weights.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "tokens":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"tokens": 4}))
    else:
        soft = SoftPrompt.load(folder)
        replace(soft, vectors=vectors * float("nan")).save(folder)
    with pytest.raises(ModelError, match="no whole soft prompt"):
        load(folder)
