"""Some layers of a model as a smaller one, or left as they are."""

import json
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.errors import ModelError
from trlm_retrieval.training.export import export_run
from trlm_retrieval.training.finetuning import finetune
from trlm_retrieval.training.layers import freeze, keep_layers
from trlm_retrieval.training.pretraining import pretrain
from trlm_retrieval.training.run import HISTORY
from trlm_retrieval.training.schedule import Schedule
from trlm_retrieval.training.shards import pack


def test_the_kept_layers_compute_what_they_computed(make_tiny_lm, tmp_path):
    lm = make_tiny_lm("reverse", seed=1)
    model = lm.model
    last = len(model.model.layers) - 1
    ids = torch.arange(5)[None]
    with torch.no_grad():
        hidden = model.model.embed_tokens(ids)
        positions = model.model.rotary_emb(hidden, torch.arange(5)[None])
        expected = model.lm_head(
            model.model.norm(
                model.model.layers[last](
                    hidden,
                    position_embeddings=positions,
                    attention_mask=torch.full((5, 5), -torch.inf).triu(1)[None, None],
                )
            )
        )
        keep_layers(model, [last])
        assert model(ids, use_cache=False).logits.allclose(expected, atol=1e-5)
        # Keys and values are cached under the new numbers.
        begun = model(ids[:, :3], use_cache=True)
        rest = model(ids[:, 3:], past_key_values=begun.past_key_values)
        assert rest.logits.allclose(expected[:, 3:], atol=1e-5)
    lm.save(tmp_path / "cut")
    again = TimeReversedLM.from_pretrained(tmp_path / "cut", dtype="float32")
    assert again.score([("a", "b")])[0].sum == pytest.approx(lm.score([("a", "b")])[0].sum)


@pytest.mark.parametrize("layers", [[], [1, 0], [0, 0], [-1], [0, 99]])
def test_layers_that_are_not_there_are_refused(make_tiny_lm, layers):
    with pytest.raises(ValueError, match="ascending numbers from 0 to"):
        keep_layers(make_tiny_lm("reverse", seed=1).model, layers)


def test_a_model_without_such_layers_is_refused():
    other = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=16))
    with pytest.raises(ModelError, match="gpt2"):
        keep_layers(other, [0])


@pytest.mark.parametrize("layers", [-1, 99])
def test_one_layer_at_least_is_trained(make_tiny_lm, layers):
    with pytest.raises(ValueError, match="layers can be frozen"):
        freeze(make_tiny_lm("reverse", seed=1).model, layers)


def test_what_is_frozen_stays_and_the_rest_learns(
    tiny_lm_folder, tiny_lm, made_up, pair_file, alone, tmp_path
):
    pack(made_up(300), tiny_lm.tokenizer, tmp_path / "shards")
    sizes = {"batch_tokens": 512, "device_tokens": 512, "frozen_layers": 1}
    schedule = Schedule(steps=2, learning_rate=1e-2)
    first = pretrain(
        tmp_path / "shards",
        tmp_path / "first",
        "reverse",
        schedule,
        alone,
        base=tiny_lm_folder,
        context=32,
        **sizes,
    )
    second = finetune(
        first.model_folder, [pair_file], tmp_path / "second", schedule, alone, contrast=1.0, **sizes
    )
    folders = (tiny_lm_folder, first.model_folder, second.model_folder)
    models = [load_file(folder / "model.safetensors") for folder in folders]
    for before, after in pairwise(models):
        frozen = {name for name in before if before[name].equal(after[name])}
        expected = {n for n in before if "embed" in n or "lm_head" in n or "layers.0." in n}
        assert frozen == expected and expected < before.keys()
    history = json.loads((second.model_folder / HISTORY).read_text())
    assert [run["frozen_layers"] for run in history] == [1, 1]
    export_run(second.folder, tmp_path / "out", "x", "MIT", "int8")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.count("embeddings, head and first 1 layer frozen |") == 2


def test_what_is_refused_leaves_no_run_behind(tiny_lm_folder, pair_file, alone, tmp_path):
    with pytest.raises(ValueError, match="layers can be frozen"):
        finetune(tiny_lm_folder, [pair_file], tmp_path, Schedule(steps=1), alone, frozen_layers=99)
    assert not any(tmp_path.iterdir())


def test_frozen_layers_and_an_adapter_exclude_each_other(tiny_lm_folder, alone, tmp_path):
    with pytest.raises(ValueError, match="leave frozen_layers out"):
        finetune(
            tiny_lm_folder, [], tmp_path, Schedule(steps=1), alone, adapter_rank=2, frozen_layers=1
        )
