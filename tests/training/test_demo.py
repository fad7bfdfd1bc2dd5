"""The whole recipe on an easy corpus: it learns, it reads backwards, it prefers true pairs.

The bounds are far from what is reached (in brackets), so that they hold on every processor.
"""

from random import Random

import numpy as np

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.training.check import order_losses
from trlm_retrieval.training.corpus import Section


def losses(run):
    return [entry["loss"] for entry in run.entries()]


def test_the_loss_falls(demo):
    for run in (demo.pretraining, demo.finetuning):
        found = losses(run)
        assert np.mean(found[-10:]) < np.mean(found[:3]) - 1.0  # (3.2 and 2.7)
    held_out = [e["held_out"] for e in demo.pretraining.entries() if "held_out" in e]
    assert held_out[-1] < held_out[0] - 0.5  # (2.0)


def test_text_is_far_likelier_read_backwards(demo):
    assert demo.flip["reverse"] < demo.flip["forward"] - 0.75  # (2.9)


def test_true_pairs_are_preferred_on_held_out_data(demo):
    assert demo.check.pairs > 60
    assert demo.check.learned and demo.check.prefers_true > 0.9  # (1.0)
    assert demo.check.gain > 3 and demo.check.perplexity < demo.check.random_perplexity / 3  # (10)


def test_nothing_is_preferred_after_training_on_pairs_that_do_not_belong_together(
    easy_sections, train_easy, tmp_path
):
    headings = [section.heading for section in easy_sections]
    Random(0).shuffle(headings)
    texts = [section.text for section in easy_sections]
    found = train_easy(list(map(Section, headings, texts)), tmp_path).check
    assert not found.learned and found.prefers_true < 0.75 and abs(found.gain) < 1


def test_the_model_loads_and_reads_backwards(demo):
    lm = TimeReversedLM.from_pretrained(demo.finetuning.model_folder)
    assert lm.order == "reverse" and lm.default_direction == "ba"
    assert set(order_losses(lm, ["some text"])) == {"forward", "reverse"}


def test_each_model_says_how_it_was_made(demo):
    import json

    history = json.loads((demo.finetuning.model_folder / "training.json").read_text())
    assert [run["task"] for run in history] == ["pre-training", "fine-tuning"]
    assert history[1]["base"] == "pretrained" and history[1]["data"] == ["groups.jsonl"]
    assert (demo.finetuning.folder / "loss.png").stat().st_size > 5000
