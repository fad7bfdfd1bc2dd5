"""Some layers of a model as a smaller one."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.errors import ModelError
from trlm_retrieval.training.cutting import keep_layers


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
