"""Model sizes, as data. All have few layers and one key/value head.

Passage states are what reranking keeps, and their size is layers × key/value heads: 8 layers with
one head of 64 are 2 kB a token in fp16, where SmolLM2-135M takes 23 kB.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trlm_retrieval.training.tokenizer import end_id


@dataclass(frozen=True)
class Preset:
    """A Llama of one size.

    :ivar learning_rate: peak learning rate that suits the size when trained from scratch.
    """

    width: int
    layers: int
    heads: int
    mlp: int
    learning_rate: float


# Named after their parameters with a vocabulary of 16,384, embeddings (tied) included.
PRESETS = {
    "2m": Preset(width=96, layers=4, heads=2, mlp=256, learning_rate=4e-3),
    "6m": Preset(width=192, layers=6, heads=3, mlp=512, learning_rate=3e-3),
    "10m": Preset(width=256, layers=8, heads=4, mlp=768, learning_rate=2e-3),
    "19m": Preset(width=384, layers=8, heads=6, mlp=1024, learning_rate=1.5e-3),
    "30m": Preset(width=512, layers=8, heads=8, mlp=1408, learning_rate=1e-3),
}


def new_model(preset: Preset, tokenizer: Any, max_context: int, seed: int) -> LlamaForCausalLM:
    """A model with random weights that are the same for the same seed.

    :param max_context: longest sequence it will take, in tokens.
    """
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=preset.width,
            intermediate_size=preset.mlp,
            num_hidden_layers=preset.layers,
            num_attention_heads=preset.heads,
            num_key_value_heads=1,
            max_position_embeddings=max_context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end_id(tokenizer),
        )
    )
