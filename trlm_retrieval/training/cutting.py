"""A smaller model to start from: some of the layers of a larger one."""

from collections.abc import Sequence
from typing import Any

import torch

from trlm_retrieval.errors import ModelError


def keep_layers(model: Any, layers: Sequence[int]) -> None:
    """Drop all layers of a Llama-like model but these, in place.

    Embeddings and output head stay: what a model knows of single words is mostly there.

    :param layers: numbers of the layers to keep, ascending from 0.
    :raises ValueError: for numbers that are not ascending or not there.
    :raises ModelError: if the model does not keep its layers the way Llama does.
    """
    stack = getattr(model.base_model, "layers", None)
    if not isinstance(stack, torch.nn.ModuleList) or not all(
        hasattr(layer, "self_attn") for layer in stack
    ):
        raise ModelError(f"layers of a {model.config.model_type} model cannot be picked")
    ascending = list(layers) == sorted(set(layers))
    if not layers or not ascending or layers[0] < 0 or layers[-1] >= len(stack):
        raise ValueError(
            f"layers must be ascending numbers from 0 to {len(stack) - 1}, not {list(layers)}"
        )
    kept: list[Any] = [stack[number] for number in layers]
    for number, layer in enumerate(kept):
        layer.self_attn.layer_idx = number  # where its keys and values stand in a cache
    model.base_model.layers = torch.nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in layers]
