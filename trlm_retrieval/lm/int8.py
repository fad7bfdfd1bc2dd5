"""Int8 arithmetic in the linear layers: several times as fast on CPUs with int8 instructions.

Weights carry one scale per output row, activations one scale per token. A scale per token matters:
language models have a few tokens (the first, above all) with values hundreds of times larger than
the rest, and one scale for the whole tensor would leave nothing of the others.
"""

from typing import Any

import torch

_LEVELS = 127


class Int8Linear(torch.nn.Module):
    """A linear layer with int8 weights and activations, float32 in and out."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax(1, keepdim=True) / _LEVELS).clamp_min(1e-12)
        quantized = (weight / scale).round().to(torch.int8)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", quantized.t().contiguous())  # (in, out)
        self.register_buffer("scale", scale.squeeze(1))
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Shape (…, in) to (…, out)."""
        rows = inputs.reshape(-1, self.in_features)
        scale = (rows.abs().amax(1, keepdim=True) / _LEVELS).clamp_min_(1e-12)
        product = torch._int_mm((rows / scale).round_().to(torch.int8), self.weight)
        output = product.float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            output += self.bias
        return output.reshape(*inputs.shape[:-1], self.out_features)


def quantize_int8(model: Any) -> Any:
    """Replace the linear layers of a float32 model by :class:`Int8Linear`, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(module, name, Int8Linear(child))
    return model
