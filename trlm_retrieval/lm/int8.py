"""Int8 arithmetic in the linear layers: several times as fast on CPUs with int8 instructions.

CPUs without such instructions (VNNI on x86) add products in 16 bits, which are too few: large sums
are cut off. Or they multiply one number at a time, which takes tens of times as long as float32. On
these the same integers are multiplied in float32, which is right, and slower than float32 itself.

Weights carry one scale per output row, activations one scale per token. A scale per token matters:
language models have a few tokens (the first, above all) with values hundreds of times larger than
the rest, and one scale for the whole tensor would leave nothing of the others. A few channels are
as extreme in every token; these are divided by a factor that their weights are multiplied with, so
that activations and weights share the strain (SmoothQuant, arXiv 2211.10438). The factors are read
off a run over random tokens, which is enough to tell such channels and needs no text.
"""

import timeit
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from trlm_retrieval.models.findings import kept
from trlm_retrieval.models.rounding import int8_scale

_PROBE_TOKENS = 512
_TRIED, _TRIES = 256, 5  # rows and columns of a product that is tried, and how often it is timed
_SMALLEST, _SMALLEST_SCALE = 1e-5, 1e-12


class Int8Linear(torch.nn.Module):
    """A linear layer with int8 weights and activations, float32 in and out.

    :param linear: the layer.
    :param largest: the largest absolute value seen in each input channel, shape (in,); None
        divides no channel.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    divisor: torch.Tensor

    def __init__(self, linear: torch.nn.Linear, largest: torch.Tensor | None = None) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        divisor = torch.ones(linear.in_features)
        if largest is not None:
            divisor = (
                largest.clamp_min(_SMALLEST) / weight.abs().amax(0).clamp_min(_SMALLEST)
            ).sqrt()
        weight = weight * divisor
        scale = int8_scale(weight, 1, _SMALLEST_SCALE)
        quantized = (weight / scale).round().to(torch.int8)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", quantized.t().contiguous())  # (in, out)
        self.register_buffer("scale", scale.squeeze(1))
        self.register_buffer("divisor", divisor)
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Shape (…, in) to (…, out)."""
        rows = inputs.reshape(-1, self.in_features) / self.divisor
        scale = int8_scale(rows, 1, _SMALLEST_SCALE)
        rows = rows.div_(scale).round_()
        if multiplies_int8():
            product = torch._int_mm(rows.to(torch.int8), self.weight).float()
        else:
            product = rows @ self.weight.float()
        output = product.mul_(scale).mul_(self.scale)
        if self.bias is not None:
            output += self.bias
        return output.reshape(*inputs.shape[:-1], self.out_features)


@cache
def multiplies_int8() -> bool:
    """Whether this processor's int8 products are exact and faster than float32, tried once.

    They are tried on the largest numbers there are.
    """
    largest = torch.iinfo(torch.int8).max
    rows = torch.full((_TRIED, _TRIED), largest, dtype=torch.int8)
    numbers = rows.float()
    if not (torch._int_mm(rows, rows) == _TRIED * largest**2).all():
        return False
    return _seconds(lambda: torch._int_mm(rows, rows)) < _seconds(lambda: numbers @ numbers)


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of a few tries."""
    return min(timeit.repeat(work, number=1, repeat=_TRIES))


def quantize_int8(model: Any) -> Any:
    """Replace the linear layers of a float32 model by :class:`Int8Linear`, in place.

    Layers that a module names in its ``factors`` stay: it uses their weights by themselves.
    """
    largest = kept("largest inputs", model, __file__, lambda: _largest_inputs(model))
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and name not in getattr(module, "factors", ()):
                setattr(module, name, Int8Linear(child, largest.get(f"{path}.{name}".lstrip("."))))
    return model


@torch.inference_mode()
def _largest_inputs(model: Any) -> dict[str, torch.Tensor]:
    """For each linear layer the largest absolute input of each channel, over random tokens."""
    largest: dict[str, torch.Tensor] = {}
    names: dict[torch.nn.Module, str] = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = inputs[0].reshape(-1, inputs[0].shape[-1])
        largest[names[module]] = rows.abs().amax(0).clone()

    hooks = [module.register_forward_pre_hook(note) for module in names]
    config = model.config.get_text_config(decoder=True)
    length = min(_PROBE_TOKENS, getattr(config, "max_position_embeddings", _PROBE_TOKENS))
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(config.vocab_size, (1, length), generator=random)
    decoded = {"decoder_input_ids": tokens[:, :16]} if model.config.is_encoder_decoder else {}
    try:
        model(input_ids=tokens, **decoded)
    finally:
        for hook in hooks:
            hook.remove()
    return largest
