"""The whole recipe on a small corpus: it learns, it reads backwards, it prefers true pairs."""

import numpy as np

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.training.check import order_losses


def losses(run):
    return [entry["loss"] for entry in run.entries()]


def test_the_loss_falls(demo):
    for run, least in ((demo.pretraining, 1.0), (demo.finetuning, 1.0)):
        found = losses(run)
        assert np.mean(found[-10:]) < np.mean(found[:3]) - least
    held_out = [e["held_out"] for e in demo.pretraining.entries() if "held_out" in e]
    assert held_out[-1] < held_out[0] - 0.5


def test_text_is_far_likelier_read_backwards(demo):
    assert demo.flip["reverse"] < demo.flip["forward"] - 0.75  # less than half the perplexity


def test_true_pairs_are_preferred_on_held_out_data(demo):
    assert demo.check.pairs > 80
    assert demo.check.low > 0.5 and demo.check.prefers_true > 0.6
    assert demo.check.gain > 0 and demo.check.perplexity < demo.check.random_perplexity


def test_the_model_loads_and_reads_backwards(demo):
    lm = TimeReversedLM.from_pretrained(demo.finetuning.model_folder)
    assert lm.order == "reverse" and lm.default_direction == "ba"
    assert set(order_losses(lm, ["some text"])) == {"forward", "reverse"}


def test_each_model_says_how_it_was_made(demo):
    import json

    history = json.loads((demo.finetuning.model_folder / "training.json").read_text())
    assert [run["task"] for run in history] == ["pre-training", "fine-tuning"]
    assert history[1]["base"] == "pretrained" and history[1]["data"] == ["pairs.jsonl"]
    assert (demo.finetuning.folder / "loss.png").stat().st_size > 5000
