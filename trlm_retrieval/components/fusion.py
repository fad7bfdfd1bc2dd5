"""One ranking from two: reverse log-likelihoods combined with the first stage's scores.

Query likelihood of a small model is noisy where the first stage is sure, above all for rare
words; every query-likelihood reranker in the literature gained from a mixture with BM25.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from trlm_retrieval.models.loading import check_weight

Normalisation = Literal["zscore", "minmax", "rank"]

DEFAULT_FIRST_STAGE_WEIGHT = 0.45
DEFAULT_NORMALISATION: Normalisation = "zscore"

_RANK_CONSTANT = 60


def choose_weight(asked: float | None, recommended: float | None) -> float:
    """The first stage's weight: what was asked for, else what the model recommends, else 0.45."""
    chosen = recommended if asked is None else asked
    return DEFAULT_FIRST_STAGE_WEIGHT if chosen is None else chosen


def normalise(scores: Sequence[float], how: Normalisation) -> np.ndarray:
    """Scores of one query's candidates on a common scale, shape (candidates,).

    ``zscore``: zero mean and unit deviation; ``minmax``: from 0 to 1; ``rank``: 1 / (60 + rank),
    ranks from 1, ties by position. Equal scores all become 0 under the first two.

    :raises ValueError: for an unknown method, or a score that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("scores to combine must be finite numbers")
    if values.size == 0:
        return values
    if how == "zscore":
        spread = values.std()
        return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
    if how == "minmax":
        spread = values.max() - values.min()
        return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    if how == "rank":
        ranks = np.empty(len(values))
        ranks[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
        return 1.0 / (_RANK_CONSTANT + ranks)
    raise ValueError(f"normalisation must be 'zscore', 'minmax' or 'rank', not {how!r}")


def combine(
    first_stage: Sequence[float],
    log_likelihoods: Sequence[float],
    first_stage_weight: float = DEFAULT_FIRST_STAGE_WEIGHT,
    normalisation: Normalisation = DEFAULT_NORMALISATION,
) -> np.ndarray:
    """Final scores of one query's candidates, shape (candidates,); higher is better.

    The weighted sum ``w * n(first stage) + (1 - w) * n(log-likelihood)``, where n is the
    normalisation over this query's candidates. A weight of 0 gives the log-likelihoods themselves.

    :raises ValueError: if the weight is outside 0..1, lengths differ or scores are not finite.
    """
    check_weight(first_stage_weight)
    if len(first_stage) != len(log_likelihoods):
        raise ValueError(
            f"{len(first_stage)} first-stage scores do not fit {len(log_likelihoods)} likelihoods"
        )
    if first_stage_weight == 0:
        return np.asarray(log_likelihoods, dtype=np.float64)
    return first_stage_weight * normalise(first_stage, normalisation) + (
        1 - first_stage_weight
    ) * normalise(log_likelihoods, normalisation)
