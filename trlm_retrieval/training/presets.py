"""Model sizes, as data. All have few layers, and all but one have one key/value head.

Passage states are what reranking keeps, and their size is layers × key/value heads: 8 layers with
one head of 64 are 2 kB a token in fp16, where SmolLM2-135M takes 23 kB.
"""

from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM


@dataclass(frozen=True)
class Preset:
    """A Llama of one size.

    :ivar learning_rate: peak learning rate that suits the size when trained from scratch.
    :ivar key_heads: key/value heads, which the heads share.
    :ivar tied: whether a token's vector is the same where it is read and where it is predicted.
    """

    width: int
    layers: int
    heads: int
    mlp: int
    learning_rate: float
    key_heads: int = 1
    tied: bool = True

    @property
    def head_size(self) -> int:
        return self.width // self.heads


# Named after their parameters with a vocabulary of 16,384, embeddings (tied) included; ``tiny`` is
# for the demo and for tests.
PRESETS = {
    "tiny": Preset(width=64, layers=2, heads=2, mlp=128, learning_rate=5e-3),
    "2m": Preset(width=96, layers=4, heads=2, mlp=256, learning_rate=4e-3),
    "6m": Preset(width=192, layers=6, heads=3, mlp=512, learning_rate=3e-3),
    "10m": Preset(width=256, layers=8, heads=4, mlp=768, learning_rate=2e-3),
    "19m": Preset(width=384, layers=8, heads=6, mlp=1024, learning_rate=1.5e-3),
    "30m": Preset(width=512, layers=8, heads=8, mlp=1408, learning_rate=1e-3),
}


def new_model(
    preset: Preset, vocabulary: int, end: int, max_context: int, seed: int
) -> LlamaForCausalLM:
    """A model with random weights that are the same for the same seed.

    :param vocabulary: number of tokens; ``end`` is the one that ends a text.
    :param max_context: longest sequence it will take, in tokens.
    """
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=preset.width,
            intermediate_size=preset.mlp,
            num_hidden_layers=preset.layers,
            num_attention_heads=preset.heads,
            num_key_value_heads=preset.key_heads,
            max_position_embeddings=max_context,
            tie_word_embeddings=preset.tied,
            bos_token_id=None,
            eos_token_id=end,
        )
    )
