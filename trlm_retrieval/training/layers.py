"""Some layers of a model: to start from them alone, or to leave them as they are."""

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
    stack = _layers(model)
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


def freeze(model: Any, layers: int) -> None:
    """Leave the embeddings, the output head and the first layers of a Llama-like model untrained.

    :param layers: how many layers; the others and the last norm are trained.
    :raises ValueError: if that leaves no layer to train.
    :raises ModelError: if the model does not keep its layers the way Llama does.
    """
    stack = _layers(model)
    if not 0 <= layers < len(stack):
        raise ValueError(
            f"0 to {len(stack) - 1} of {len(stack)} layers can be frozen, not {layers}"
        )
    for part in (model.get_input_embeddings(), model.get_output_embeddings(), *stack[:layers]):
        part.requires_grad_(False)


def _layers(model: Any) -> torch.nn.ModuleList:
    stack = getattr(model.base_model, "layers", None)
    if not isinstance(stack, torch.nn.ModuleList) or not all(
        hasattr(layer, "self_attn") for layer in stack
    ):
        raise ModelError(f"layers of a {model.config.model_type} model cannot be picked")
    return stack
