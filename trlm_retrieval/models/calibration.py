"""From what a passage gains a query to P(relevant), which compares across queries.

A ranking's scores order the candidates of one query and mean nothing beside those of another. A
model's folder may hold how its gains are read as probabilities, fitted by `trlm eval calibrate`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from trlm_retrieval.errors import ModelError

Weights = tuple[float, float, float]


@dataclass(frozen=True)
class Calibration:
    """A logistic regression on the gain, in nats for each token of the query, and its length.

    With a gain g and n tokens, the log-odds of a relevant passage are
    ``bias + slope * g + length * log(n)``.

    :ivar template: of the likelihoods that it was fitted on, written out.
    :ivar alone: (bias, slope, length) where the likelihood alone ranks.
    :ivar mixed: the same where a first stage is mixed in.
    """

    template: str
    alone: Weights
    mixed: Weights

    def probabilities(self, gains: Sequence[float], tokens: int, *, mixed: bool) -> np.ndarray:
        """P(relevant) of one query's candidates, shape (candidates,), each in 0..1.

        The order of the gains stays.

        :param gains: of each candidate, in nats for each token of the query.
        :param tokens: of the query.
        :param mixed: whether a first stage is mixed in.
        """
        bias, slope, length = self.mixed if mixed else self.alone
        odds = bias + slope * np.asarray(gains, dtype=np.float64) + length * np.log(max(1, tokens))
        found: np.ndarray = 1 / (1 + np.exp(-odds))
        return found

    def settings(self) -> dict[str, Any]:
        """What a model's folder holds of it."""
        return asdict(self)


def read_calibration(settings: Any, where: str) -> Calibration:
    """A calibration from what :meth:`Calibration.settings` gave.

    :param where: the file it is in, for the message.
    :raises ModelError: if it is something else, or its slope would turn the order round.
    """
    try:
        found = Calibration(
            str(settings["template"]), *(_weights(settings[name]) for name in ("alone", "mixed"))
        )
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"{where}: 'calibration' is damaged; run `trlm eval calibrate` for this model again"
        ) from error
    return found


def _weights(values: Any) -> Weights:
    bias, slope, length = map(float, values)
    if not all(map(isfinite, (bias, slope, length))) or slope <= 0:
        raise ValueError("weights must be finite, and the slope positive")
    return bias, slope, length
