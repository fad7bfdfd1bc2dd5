"""LoRA adapters: what is loaded is what peft computes, and what cannot be added is refused."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.errors import ModelError
from trlm_retrieval.training.adapter import add_adapter, save_adapter

PAIRS = [("what does with call?", "The with statement calls exit."), ("order", "A dict keeps it.")]


@pytest.fixture
def adapted(tiny_lm, tiny_lm_folder, tmp_path):
    """A model with a random adapter, and the adapter's folder."""
    model = copy.deepcopy(tiny_lm.model)
    with_adapter = add_adapter(model, rank=4, seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path / "adapter"
    save_adapter(with_adapter, tiny_lm_folder, "reverse", tiny_lm.start_tokens, folder)
    return TimeReversedLM(
        model, tiny_lm.tokenizer, order="reverse", start_tokens=tiny_lm.start_tokens
    ), folder


def test_a_loaded_adapter_scores_as_peft_does(tiny_lm, adapted):
    lm, folder = adapted
    loaded = TimeReversedLM.from_pretrained(folder, dtype="float32")
    assert loaded.order == "reverse"
    found = [likelihood.sum for likelihood in loaded.score(PAIRS)]
    np.testing.assert_allclose(found, [x.sum for x in lm.score(PAIRS)], atol=1e-3)
    assert not np.allclose(found, [x.sum for x in tiny_lm.score(PAIRS, "ba")], atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"base_model_name_or_path": "nothing-here"}, "unknown model"),
    ],
)
def test_adapters_that_cannot_be_added(adapted, change, message):
    _, folder = adapted
    config: Path = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        TimeReversedLM.from_pretrained(folder)


def test_a_damaged_adapter_is_named(adapted):
    _, folder = adapted
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="adapter"):
        TimeReversedLM.from_pretrained(folder)
