"""How many tokens a second a model of some size trains at, on this machine."""

from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch

from trlm_retrieval.training.loop import autocast, choose_precision, make_optimizer
from trlm_retrieval.training.objective import Batch
from trlm_retrieval.training.presets import PRESETS, new_model
from trlm_retrieval.training.pretraining import NextToken


@dataclass(frozen=True)
class Speed:
    """Tokens a second in whole training steps (forward, backward, optimizer)."""

    preset: str
    parameters: int
    precision: str
    tokens_per_second: float


def measure_speed(
    preset: str,
    vocabulary: int,
    context: int,
    device_tokens: int,
    seconds: float,
    device: torch.device,
    precision: str | None = None,
) -> Speed:
    """Train on random tokens for about so many seconds, after one step to warm up.

    :raises ValueError: if there is no such preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"there is no size {preset!r}; choose one of {', '.join(PRESETS)}")
    kind = choose_precision(precision, device)
    model: Any = new_model(PRESETS[preset], vocabulary, 0, context, seed=0)
    model = model.to(device)
    objective, optimizer = NextToken(model), make_optimizer(model, 1e-4)
    rows = max(1, device_tokens // context)
    ids = torch.randint(vocabulary, (rows, context))
    count = rows * context
    batch = Batch({"input_ids": ids}, torch.arange(count), ids.flatten(), {"loss": count})
    steps, begun = -1, monotonic()
    while steps < 1 or monotonic() - begun < seconds:
        with autocast(device, kind):
            loss = objective(batch)["loss"] / count
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        float(loss.detach())  # waits for the device
        steps += 1
        if steps == 0:
            begun = monotonic()
    return Speed(
        preset,
        sum(parameter.numel() for parameter in model.parameters()),
        str(kind).removeprefix("torch."),
        steps * count / (monotonic() - begun),
    )
