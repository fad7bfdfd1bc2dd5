"""A killed run goes on, with the weights that it would have had."""

import json

import pytest
from safetensors.torch import load_file

from tests.training.killing import Killed, killed_after
from trlm_retrieval.training.finetuning import finetune
from trlm_retrieval.training.run import RunError


def weights(run):
    return load_file(run.model_folder / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def steady(run):
    """The log without what the clock says."""
    clocks = ("seconds", "tokens_per_second")
    return [{k: v for k, v in entry.items() if k not in clocks} for entry in run.entries()]


@pytest.mark.parametrize("order", ["reverse", "both"])
def test_pretraining_goes_on_with_the_same_weights(pretrain_tiny, tmp_path, monkeypatch, order):
    whole = pretrain_tiny(tmp_path / "whole", order)
    with monkeypatch.context() as patch:
        killed_after(patch, 4)
        with pytest.raises(Killed):
            pretrain_tiny(tmp_path / "cut", order, checkpoint_minutes=0)
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "cut" / "model").exists()
    resumed = pretrain_tiny(tmp_path / "cut", order)
    assert same(weights(whole), weights(resumed)) and steady(whole) == steady(resumed)
    assert not (tmp_path / "cut" / "checkpoint.safetensors").exists()
    before = (resumed.folder / "log.jsonl").read_bytes()
    pretrain_tiny(tmp_path / "cut", order)  # finished: nothing is done again
    assert (resumed.folder / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize("rank", [None, 2])
def test_finetuning_goes_on_with_the_same_weights(
    tiny_lm_folder, pair_file, options, tmp_path, monkeypatch, rank
):
    def run(name, **settings):
        return finetune(
            tiny_lm_folder,
            [pair_file],
            tmp_path / name,
            options(4, **settings),
            direction="fo",
            adapter_rank=rank,
            batch_tokens=1024,
            device_tokens=512,
        )

    whole = run("whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            run("cut", checkpoint_minutes=0)
    resumed = run("cut")
    file = "model.safetensors" if rank is None else "adapter_model.safetensors"
    one, other = (load_file(r.model_folder / file) for r in (whole, resumed))
    assert same(one, other) and steady(whole) == steady(resumed)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(pretrain_tiny, tmp_path, monkeypatch):
    whole = pretrain_tiny(tmp_path / "whole")
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(Killed):
            pretrain_tiny(tmp_path / "cut")
    assert steady(pretrain_tiny(tmp_path / "cut")) == steady(whole)


def test_how_a_step_is_divided_changes_nothing_but_rounding(pretrain_tiny, tmp_path):
    one = weights(pretrain_tiny(tmp_path / "one", steps=2, device_tokens=512))
    four = weights(pretrain_tiny(tmp_path / "four", steps=2, device_tokens=128))
    assert all(one[name].allclose(four[name], atol=2e-4) for name in one)


def test_another_run_in_the_same_folder_is_refused(pretrain_tiny, tmp_path):
    pretrain_tiny(tmp_path / "run", steps=1)
    with pytest.raises(RunError, match="another order, seed"):
        pretrain_tiny(tmp_path / "run", "both", steps=1, seed=1)


def test_a_damaged_checkpoint_is_named(pretrain_tiny, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            pretrain_tiny(tmp_path, checkpoint_minutes=0)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors is damaged.*delete it"):
        pretrain_tiny(tmp_path)


def test_another_seed_gives_other_weights(pretrain_tiny, tmp_path):
    runs = [pretrain_tiny(tmp_path / str(seed), steps=1, seed=seed) for seed in (0, 1)]
    assert not same(*map(weights, runs))
    assert json.loads((runs[1].folder / "settings.json").read_text())["seed"] == 1
