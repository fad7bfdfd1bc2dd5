"""Weights at one byte a number."""

import numpy as np
import pytest
import torch

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.int8_weights import read_small, write_small
from trlm_retrieval.models.loading import save_pretrained

PAIRS = [("what does with call?", "The with statement calls exit."), ("order", "A dict keeps it.")]


@pytest.mark.parametrize("tied", [False, True])
def test_small_weights_are_near_and_take_a_quarter(make_tiny_lm, tmp_path, tied):
    lm = make_tiny_lm("reverse", tie_word_embeddings=tied)
    save_pretrained(lm.model, lm.tokenizer, "reverse", lm.start_tokens, tmp_path / "large")
    save_pretrained(lm.model, lm.tokenizer, "reverse", lm.start_tokens, tmp_path / "small")
    (tmp_path / "small" / "model.safetensors").unlink()
    write_small(lm.model, tmp_path / "small")
    large = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert (tmp_path / "small" / "model.int8.safetensors").stat().st_size < 0.4 * large
    loaded = TimeReversedLM.from_pretrained(tmp_path / "small", dtype="float32")
    for small, exact in zip(loaded.model.parameters(), lm.model.parameters(), strict=True):
        step = exact.abs().amax(-1, keepdim=True) / 127
        assert torch.all((small - exact).abs() <= 0.52 * step + 1e-6)
    found = [likelihood.mean for likelihood in loaded.score(PAIRS)]
    np.testing.assert_allclose(found, [x.mean for x in lm.score(PAIRS)], atol=0.3)


def test_weights_of_another_configuration_are_refused(make_tiny_lm, tmp_path):
    lm = make_tiny_lm("reverse")
    save_pretrained(lm.model, lm.tokenizer, "reverse", lm.start_tokens, tmp_path)
    config = (tmp_path / "config.json").read_text()
    write_small(lm.model, tmp_path)
    (tmp_path / "config.json").write_text(
        config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    with pytest.raises(RuntimeError, match="differ"):
        read_small(tmp_path, torch.float32)
    with pytest.raises(ModelError, match="cannot load"):
        TimeReversedLM.from_pretrained(tmp_path)
