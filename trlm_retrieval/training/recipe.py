"""One recipe for every run: its settings, and what it makes, measures and saves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from trlm_retrieval.lm.template import Order
from trlm_retrieval.models.loading import Orders, choose_dtype
from trlm_retrieval.training.objective import BatchSource, Objective
from trlm_retrieval.training.schedule import Schedule
from trlm_retrieval.training.workers import Workers

T = TypeVar("T")

READS: dict[Orders, tuple[Order, ...]] = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "both": ("reverse", "forward"),
}
"""The orders in which a model reads in turn."""


@dataclass(frozen=True)
class Options:
    """The settings that every run takes.

    :ivar schedule: how long the run lasts, and its learning rate.
    :ivar workers: the processes that train together.
    :ivar checkpoint_minutes: time between checkpoints; 0 writes one after every step.
    :ivar precision: what matrix products are computed in, ``bfloat16`` or ``float32``; weights stay
        in float32. None takes bfloat16 where the device computes in it.
    :ivar seed: of new weights and of the order of the data.
    :raises ValueError: if the precision is neither of these two.
    """

    schedule: Schedule
    workers: Workers
    checkpoint_minutes: float = 5.0
    precision: str | None = None
    seed: int = 0
    show_progress: bool = False

    def __post_init__(self) -> None:
        product_dtype(self.precision, self.workers.device)

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return product_dtype(self.precision, self.workers.device)


@dataclass(frozen=True)
class Recipe:
    """What one run trains.

    :ivar objective: its model is trained in place; parameters that require no gradient are not.
    :ivar batches: batches in a step, over all processes.
    :ivar measure: figures on held-out data, for the log: ``held_out`` is the loss in nats a token.
        It is called in the first process, without gradients.
    :ivar save: writes the trained model into the folder that it is given.
    :ivar measure_share: share of the run between two measurements.
    :ivar casts: whether matrix products are cast to the options' precision; False where the model
        is in that precision already.
    """

    objective: Objective[Any]
    source: BatchSource[Any]
    batches: int
    measure: Callable[[], dict[str, float]]
    save: Callable[[Path], None]
    measure_share: float = 0.1
    casts: bool = True


def product_dtype(precision: str | None, device: torch.device) -> torch.dtype:
    """What matrix products are computed in, by default bfloat16 where the device computes in it.

    :raises ValueError: if it is neither bfloat16 nor float32.
    """
    found = choose_dtype(precision, device)
    if precision is not None and found not in (torch.float32, torch.bfloat16):
        raise ValueError(f"products are computed in bfloat16 or float32, not in {precision!r}")
    return found if found == torch.bfloat16 else torch.float32


def evenly_spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, from all over the sequence."""
    return list(items[:: max(1, len(items) // most)][:most])
