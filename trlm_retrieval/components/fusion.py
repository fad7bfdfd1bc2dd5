"""One ranking from two: reverse log-likelihoods combined with the first stage's scores.

Query likelihood of a small model is noisy where the first stage is sure, above all for rare
words; every query-likelihood reranker in the literature gained from a mixture with BM25.
"""

from collections.abc import Sequence

import numpy as np

from trlm_retrieval.models.loading import check_weight

DEFAULT_FIRST_STAGE_WEIGHT = 0.45


def choose_weight(asked: float | None, recommended: float | None) -> float:
    """The first stage's weight: what was asked for, else what the model recommends, else 0.45."""
    chosen = recommended if asked is None else asked
    return DEFAULT_FIRST_STAGE_WEIGHT if chosen is None else chosen


def standardised(scores: Sequence[float]) -> np.ndarray:
    """Scores of one query's candidates with zero mean and unit deviation, shape (candidates,).

    Equal scores all become 0.

    :raises ValueError: if a score is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("scores to combine must be finite numbers")
    spread = values.std() if values.size else 0.0
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def mixture(
    first_stage: Sequence[float],
    log_likelihoods: Sequence[float],
    first_stage_weight: float = DEFAULT_FIRST_STAGE_WEIGHT,
) -> tuple[np.ndarray, np.ndarray]:
    """The two parts of the final scores of one query's candidates, shape (candidates,) each.

    ``w * z(first stage)`` and ``(1 - w) * z(log-likelihood)``, with z-scores over this query's
    candidates. A weight of 0 gives zeros and the log-likelihoods themselves.

    :raises ValueError: if the weight is outside 0..1, lengths differ or scores are not finite.
    """
    check_weight(first_stage_weight)
    if len(first_stage) != len(log_likelihoods):
        raise ValueError(
            f"{len(first_stage)} first-stage scores do not fit {len(log_likelihoods)} likelihoods"
        )
    if first_stage_weight == 0:
        return np.zeros(len(first_stage)), np.asarray(log_likelihoods, dtype=np.float64)
    return (
        first_stage_weight * standardised(first_stage),
        (1 - first_stage_weight) * standardised(log_likelihoods),
    )


def combine(
    first_stage: Sequence[float],
    log_likelihoods: Sequence[float],
    first_stage_weight: float = DEFAULT_FIRST_STAGE_WEIGHT,
) -> np.ndarray:
    """Final scores of one query's candidates, shape (candidates,); higher is better.

    The sum of the parts that :func:`mixture` gives.

    :raises ValueError: if the weight is outside 0..1, lengths differ or scores are not finite.
    """
    first, second = mixture(first_stage, log_likelihoods, first_stage_weight)
    return first + second


def mixed_gains(
    gains: Sequence[float], first_stage: Sequence[float], first_stage_weight: float
) -> np.ndarray:
    """What the first stage makes of the gains of one query's candidates, shape (candidates,).

    They are ordered as :func:`combine` orders, and stay in the unit of the gains: the first stage
    adds the share that it has in the mixture, zero on average. One candidate keeps its gain.

    :param gains: log-likelihoods less the prior, in nats for each token of the query.
    :raises ValueError: if the weight is outside 0..1, or 1, which leaves nothing of the gains.
    """
    check_weight(first_stage_weight)
    if first_stage_weight == 1:
        raise ValueError("first_stage_weight=1 leaves the likelihood out: no gain can be told")
    values = np.asarray(gains, dtype=np.float64)
    spread = values.std() if values.size else 0.0
    odds = first_stage_weight / (1 - first_stage_weight)
    return values + odds * spread * standardised(first_stage)
