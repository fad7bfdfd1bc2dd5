"""Training soft prompts: it begins as the written prompt, learns, and leaves the model alone."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.killing import Killed, killed_after
from trlm_retrieval import TimeReversedLM
from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import DIRECTIONS, PassageStates
from trlm_retrieval.lm.soft_prompt import add_soft_tokens
from trlm_retrieval.training.check import check
from trlm_retrieval.training.corpus import read_pairs
from trlm_retrieval.training.run import RunError
from trlm_retrieval.training.soft_prompt import SoftPromptLikelihood, TailBatches, train_soft_prompt


@pytest.fixture
def train_tiny(tiny_lm_folder, pair_file, options, tmp_path):
    """Trains a soft prompt for a tiny model: ``train_tiny("name", steps=4)``."""

    def train(name, steps=4, tokens=8, **settings):
        return train_soft_prompt(
            tiny_lm_folder,
            [pair_file],
            tmp_path / name,
            options(steps, **{"learning_rate": 0.05, **settings}),
            tokens=tokens,
            batch_pairs=8,
        )

    return train


def test_it_learns_and_the_model_does_not_change(train_tiny, tiny_lm, pair_file):
    run = train_tiny("soft", steps=40)
    lm = TimeReversedLM.from_pretrained(run.model_folder, dtype="float32")
    held_out = read_pairs([pair_file], held_out=True)
    learned, written = check(lm, held_out), check(tiny_lm, held_out, "fo")
    assert learned.perplexity < 0.8 * written.perplexity
    assert run.entries()[-1]["held_out"] == pytest.approx(np.log(learned.perplexity), abs=1e-3)
    assert check(lm, held_out, "fo").perplexity == pytest.approx(written.perplexity, rel=1e-4)
    kept = sum(file.stat().st_size for file in run.model_folder.iterdir())
    assert kept < 20_000 and not (run.model_folder / "config.json").exists()
    manifest = json.loads((run.model_folder / "soft_prompt.json").read_text())
    assert manifest["tokens"] == 8 and manifest["template"]["context"] == "Passage: {passage}"


def test_the_loss_is_what_scoring_reports(make_tiny_lm, pair_file):
    """Of a soft prompt that is the written instruction, word for word."""
    lm = make_tiny_lm("forward")
    pairs = read_pairs([pair_file], held_out=False)[:5]
    expected = lm.score(pairs, "fo")
    before, after = DIRECTIONS["fo"].context.split("{passage}")
    ids = lm.encoder.encode_prompt(after)
    around = DIRECTIONS["fo"].__class__("soft", "forward", before + "{passage}", " {query}")
    soft = add_soft_tokens(lm.model, lm.model.get_input_embeddings()(torch.tensor(ids)).detach())
    source = TailBatches(lm.encode(pairs, around), soft, end=1, size=5, seed=0)
    states = PassageStates()
    objective = SoftPromptLikelihood(lm.model.requires_grad_(False), states, 64)
    lm.model.get_input_embeddings().soft.requires_grad_(True)
    for _ in range(2):  # the second time from kept states
        terms = objective(source.batch(0))
        assert float(terms["loss"].detach()) == pytest.approx(
            -sum(e.sum for e in expected), rel=1e-4
        )
    assert states.hits
    terms["loss"].backward()
    assert all(row.any() for row in lm.model.get_input_embeddings().soft.grad)


def test_every_pair_comes_once_before_any_comes_again(make_tiny_lm, pair_file):
    lm = make_tiny_lm("forward")
    pairs = lm.encode(read_pairs([pair_file], held_out=False)[:12], "fo")
    source = TailBatches(pairs, (400,), end=1, size=4, seed=0)
    epochs = [
        [context for n in range(3) for context, _ in source.batch(3 * epoch + n).sequences]
        for epoch in range(2)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(pair.context for pair in pairs)
    assert epochs[0] != epochs[1]


def test_a_killed_run_goes_on_with_the_same_vectors(train_tiny, monkeypatch):
    whole = train_tiny("whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            train_tiny("cut", checkpoint_minutes=0)
    resumed = train_tiny("cut")
    one, other = (load_file(r.model_folder / "soft_prompt.safetensors") for r in (whole, resumed))
    assert one["vectors"].equal(other["vectors"])
    assert train_tiny("seeded", seed=1).entries()[0]["loss"] != whole.entries()[0]["loss"]
    with pytest.raises(RunError, match="soft_tokens"):
        train_tiny("whole", tokens=4)


def test_models_that_read_backwards_are_refused(make_tiny_lm, pair_file, options, tmp_path):
    make_tiny_lm("reverse").save(tmp_path / "ba")
    with pytest.raises(ModelError, match="reverse order"):
        train_soft_prompt(tmp_path / "ba", [pair_file], tmp_path / "x", options(1))
    make_tiny_lm("forward").save(tmp_path / "fo")
    bare = DIRECTIONS["fo"].__class__("bare", "forward", "{passage}", " {query}")
    with pytest.raises(ModelError, match="no instruction"):
        train_soft_prompt(tmp_path / "fo", [pair_file], tmp_path / "x", options(1), template=bare)
