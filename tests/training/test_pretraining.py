"""Pre-training from another model, in each order, and what it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.training.objective import TokenBatch
from trlm_retrieval.training.pretraining import NextToken, pretrain
from trlm_retrieval.training.shards import pack


@pytest.mark.parametrize(
    ("order", "directions"),
    [("reverse", ["ba"]), ("forward", ["fo"]), ("both", ["ba", "fo"])],
)
def test_a_model_is_saved_with_its_order_and_start_tokens(
    pretrain_tiny, tmp_path, order, directions
):
    run = pretrain_tiny(tmp_path / "run", order, steps=2)
    lm = TimeReversedLM.from_pretrained(run.model_folder)
    assert lm.order == order
    assert lm.start_tokens == {"forward": "<|forward|>", "reverse": "<|reverse|>"}
    for direction in directions:
        [pair] = lm.encode([("query", "passage")], direction)
        start = "<|reverse|>" if direction == "ba" else "<|forward|>"
        assert pair.context[0] == lm.tokenizer.convert_tokens_to_ids(start)


def test_a_forward_model_goes_on_backwards(tiny_lm, tiny_lm_folder, made_up, options, tmp_path):
    pack(made_up(300), tiny_lm.tokenizer, tmp_path / "shards")

    def run(name, **settings):
        return pretrain(
            tmp_path / "shards",
            tmp_path / name,
            options(2, precision=None),
            base=tiny_lm_folder,
            batch_tokens=128,
            device_tokens=128,
            **settings,
        )

    made = run("ba", context=32)
    lm = TimeReversedLM.from_pretrained(made.model_folder)
    assert lm.order == "reverse" and lm.start_tokens["reverse"] == "<|start|>"
    before = load_file(tiny_lm_folder / "model.safetensors")
    after = load_file(made.model_folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert 0 < float((before[name] - after[name]).abs().max()) < 0.1
    assert json.loads((made.folder / "settings.json").read_text())["precision"] in (
        "float32",
        "bfloat16",
    )
    with pytest.raises(ValueError, match="a start token for each"):
        run("both", order="both", context=32)
    with pytest.raises(ValueError, match="longer than the model's context of 512"):
        run("long", context=513)


def test_shards_of_another_tokenizer_are_refused(pretrain_tiny, tiny_lm_folder, tmp_path):
    with pytest.raises(ValueError, match="another tokenizer"):
        pretrain_tiny(tmp_path / "run", preset=None, base=tiny_lm_folder)


@pytest.mark.parametrize("settings", [{"preset": None}, {"preset": "huge"}, {"base": "x"}])
def test_a_size_or_a_base_is_asked_for(pretrain_tiny, tmp_path, settings):
    with pytest.raises(ValueError, match="a size: tiny"):
        pretrain_tiny(tmp_path / "run", **settings)


def test_many_predictions_cost_no_more_memory_and_give_the_same(tiny_lm, monkeypatch):
    from trlm_retrieval.training import objective

    ids = torch.arange(60).view(2, 30)
    batch = TokenBatch({"input_ids": ids}, torch.arange(60), ids.flatten(), {"loss": 60})
    found = []
    for rows in (objective._HEAD_ROWS, 7):
        monkeypatch.setattr(objective, "_HEAD_ROWS", rows)
        tiny_lm.model.zero_grad()
        loss = NextToken(tiny_lm.model)(batch)["loss"]
        loss.backward()
        found.append((float(loss.detach()), tiny_lm.model.lm_head.weight.grad.clone()))
        tiny_lm.model.zero_grad()
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1].allclose(found[1][1], atol=1e-3)
