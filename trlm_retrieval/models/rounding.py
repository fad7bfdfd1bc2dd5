"""Int8 numbers that share a scale, so that the largest of them is 127."""

import torch

LEVELS = 127


def int8_scale(values: torch.Tensor, dim: int, smallest: float) -> torch.Tensor:
    """The scale of float32 values that share one along ``dim``, which stays with length 1.

    :param smallest: the least scale, for values that are all zero or nearly so.
    """
    return (values.abs().amax(dim, keepdim=True) / LEVELS).clamp_min(smallest)
