"""How long a run lasts, and its learning rate on the way."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

_COOLING = 0.2  # the last part of a warm-up, stable, decay schedule


@dataclass(frozen=True)
class Schedule:
    """A run of so many steps, or of so many minutes; exactly one of them is given.

    A run of steps gives the same weights each time; one of minutes depends on the machine.

    :ivar learning_rate: its peak.
    :ivar warmup: share of the run in which it rises to the peak.
    :ivar decay: ``cosine`` falls to zero from there; ``wsd`` stays, and falls in the last fifth.
    :raises ValueError: if the values make no schedule.
    """

    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 1e-3
    warmup: float = 0.02
    decay: Literal["cosine", "wsd"] = "cosine"

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give a number of steps or of minutes, one of them")
        if (self.steps or self.minutes or 0) <= 0 or self.learning_rate <= 0:
            raise ValueError("steps, minutes and learning rate must be positive")
        if not 0 <= self.warmup < 1 or self.decay not in ("cosine", "wsd"):
            raise ValueError("warmup is a share below 1, and decay is 'cosine' or 'wsd'")

    def done(self, steps: int, seconds: float) -> float:
        """Share of the run that is over after so many steps and seconds, at most 1."""
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / 60 / self.minutes)

    def rate(self, steps: int, seconds: float) -> float:
        """Learning rate of the step that comes after so many steps and seconds."""
        done = self.done(steps, seconds)
        if done < self.warmup:
            # The first step of a run of steps already moves a little.
            begun = self.done(steps + 1, seconds) if self.steps else max(done, self.warmup / 100)
            return self.learning_rate * min(1.0, begun / self.warmup)
        if self.decay == "wsd":
            return self.learning_rate * min(1.0, (1 - done) / _COOLING)
        return self.learning_rate * (1 + cos(pi * (done - self.warmup) / (1 - self.warmup))) / 2
