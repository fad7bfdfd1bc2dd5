"""Shipped models: small, described, and loaded by name without a network."""

import json
import socket
from functools import partial

import numpy as np
import pytest
import torch

from trlm_retrieval import TimeReversedLM, weights
from trlm_retrieval.models.adapter import adapter_base, is_adapter
from trlm_retrieval.models.store import is_pulled
from trlm_retrieval.training.export import export_run
from trlm_retrieval.training.finetuning import finetune
from trlm_retrieval.training.run import RunError

exported = partial(export_run, name="x", licence="MIT", precision="int8")

PAIRS = [("the with statement", "The with statement wraps a block."), ("loops", "A for loop.")]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(("precision", "near"), [("int8", 0.1), ("float16", 0.01)])
def test_a_packaged_model_scores_by_name(demo, tmp_path, monkeypatch, no_network, precision, near):
    folder = tmp_path / "trlm-test"
    figures = tmp_path / "held-out.json"
    figures.write_text(json.dumps({"prefers_true": 0.875, "pairs": 1200, "name": "x"}))
    ranked = tmp_path / "ranking.json"
    fusion = {"nDCG@10": {"mean": 0.5, "low": 0.25, "high": 0.75}}
    ranked.write_text(
        json.dumps(
            {"measure": "nDCG@10", "unit": "queries", "queries": 83, "systems": {"fusion": fusion}}
        )
    )
    size = export_run(
        demo.finetuning.folder,
        folder,
        name="trlm-test",
        licence="Apache-2.0",
        precision=precision,
        figures=[figures, ranked],
    )
    assert size == sum(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(weights, "HOME", tmp_path)
    assert weights.packaged() == ["trlm-test"]
    lm = TimeReversedLM.from_pretrained("trlm-test", dtype="float32")
    assert lm.order == "reverse"
    exact = TimeReversedLM.from_pretrained(demo.finetuning.model_folder, dtype="float32")
    found, expected = ([x.mean for x in m.score(PAIRS)] for m in (lm, exact))
    np.testing.assert_allclose(found, expected, atol=near)
    card = (folder / "README.md").read_text()
    vocabulary = f"{len(lm.tokenizer):,}"
    for words in ("trlm-test", "last to first", "groups.jsonl", "1,200", "0.875", vocabulary):
        assert words in card, words
    assert "| queries | 83 |\n| nDCG@10, fusion | 0.500 (0.250–0.750) |" in card
    assert "{{" not in card
    for file in folder.glob("*.[jm]*"):
        text = file.read_text(errors="replace")
        assert str(tmp_path) not in text and str(demo.finetuning.folder) not in text, file.name


def test_int8_takes_a_quarter(demo, tmp_path):
    sizes = {}
    for precision in ("int8", "float16"):
        folder = tmp_path / precision
        exported(demo.finetuning.folder, folder, precision=precision)
        sizes[precision] = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    whole = (demo.finetuning.model_folder / "model.safetensors").stat().st_size
    assert sizes["int8"] < 0.3 * whole and sizes["float16"] < 0.6 * whole
    # written over each other, only the latest weights are left
    exported(demo.finetuning.folder, tmp_path / "int8", precision="float16")
    assert [p.name for p in (tmp_path / "int8").glob("*.safetensors")] == ["model.safetensors"]


def test_an_adapter_ships_without_its_base(
    pair_file, tiny_lm_folder, options, tmp_path, monkeypatch, no_network
):
    run = finetune(
        tiny_lm_folder,
        [pair_file],
        tmp_path / "run",
        options(2),
        adapter_rank=2,
        batch_tokens=256,
        device_tokens=256,
    )
    folder = tmp_path / "trlm-test"
    size = export_run(run.folder, folder, name="trlm-test", licence="Apache-2.0", precision="int8")
    assert not (folder / "config.json").exists()
    assert size < (tiny_lm_folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(weights, "HOME", tmp_path)
    assert "trlm-test" in weights.packaged()
    lm = TimeReversedLM.from_pretrained("trlm-test", dtype="float32")
    exact = TimeReversedLM.from_pretrained(run.model_folder, dtype="float32")
    found, expected = ([x.mean for x in m.score(PAIRS)] for m in (lm, exact))
    np.testing.assert_allclose(found, expected, atol=0.01)
    card = (folder / "README.md").read_text()
    assert "| adapter | LoRA, added to" in card and "adapter of rank 2 |" in card
    export_run(
        run.folder, folder, name="trlm-test", licence="Apache-2.0", precision="float16", merge=True
    )
    assert (folder / "config.json").exists()
    merged = TimeReversedLM.from_pretrained(folder, dtype="float32")
    np.testing.assert_allclose([x.mean for x in merged.score(PAIRS)], expected, atol=0.01)


def _weights(folder):
    return TimeReversedLM.from_pretrained(folder, dtype="float32").model.state_dict()


def test_a_share_of_the_base_is_the_average_of_the_weights(demo, tmp_path):
    before = _weights(demo.pretraining.model_folder)
    after = _weights(demo.finetuning.model_folder)
    exported(demo.finetuning.folder, tmp_path, precision="float16", base_share=0.25)
    for name, found in _weights(tmp_path).items():
        expected = 0.25 * before[name] + 0.75 * after[name]
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert "0.25 of the weights before it and 0.75" in (tmp_path / "README.md").read_text()
    with pytest.raises(RunError, match="began with random weights"):
        exported(demo.pretraining.folder, tmp_path, base_share=0.5)
    for share in (-0.1, 1):
        with pytest.raises(ValueError, match="below 1"):
            exported(demo.finetuning.folder, tmp_path, base_share=share)


def test_a_share_of_the_base_weakens_an_adapter(pair_file, tiny_lm_folder, options, tmp_path):
    run = finetune(
        tiny_lm_folder,
        [pair_file],
        tmp_path / "run",
        options(2, learning_rate=0.01),
        adapter_rank=2,
        batch_tokens=256,
        device_tokens=256,
    )
    before, after = _weights(tiny_lm_folder), _weights(run.model_folder)
    for merge in (False, True):
        folder = tmp_path / f"{merge}"
        exported(run.folder, folder, precision="float16", merge=merge, base_share=0.25)
        found = _weights(folder)
        changed = 0
        for name, weight in found.items():
            expected = 0.25 * before[name] + 0.75 * after[name]
            torch.testing.assert_close(weight, expected, atol=1e-3, rtol=1e-3)
            changed += not torch.allclose(expected, after[name], atol=2e-3)
        assert changed


def test_a_base_of_another_shape_has_no_average(pretrain_tiny, make_tiny_lm, tmp_path):
    run = pretrain_tiny(tmp_path / "run", steps=1)
    make_tiny_lm("reverse", num_hidden_layers=1).save(tmp_path / "other")
    settings = json.loads((run.folder / "settings.json").read_text())
    settings["base"] = str(tmp_path / "other")
    (run.folder / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(RunError, match="differ in shape"):
        exported(run.folder, tmp_path / "out", base_share=0.5)
    assert not (tmp_path / "out").exists()


def test_a_recommended_weight_ships_with_the_model(demo, tmp_path):
    exported(demo.finetuning.folder, tmp_path, first_stage_weight=0.8)
    assert TimeReversedLM.from_pretrained(tmp_path).first_stage_weight == 0.8
    assert "| weight of the first stage | 0.8," in (tmp_path / "README.md").read_text()
    exported(demo.finetuning.folder, tmp_path)
    assert TimeReversedLM.from_pretrained(tmp_path).first_stage_weight is None
    assert "weight of the first stage" not in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
        exported(demo.finetuning.folder, tmp_path, first_stage_weight=2)


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(RunError, match="no finished run"):
        exported(tmp_path, tmp_path / "out")


def test_packaged_models_are_whole():
    for name in weights.packaged():
        folder = weights.HOME / name
        if is_adapter(folder) and not is_pulled(adapter_base(folder)):
            continue
        lm = TimeReversedLM.from_pretrained(name)
        assert all(np.isfinite(x.sum) for x in lm.score(PAIRS))
        assert (weights.HOME / name / "README.md").is_file()
