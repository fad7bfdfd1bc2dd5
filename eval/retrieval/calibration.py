"""Fit how gains are read as P(relevant) on half of the queries, and tell how far off the rest is.

The judged candidates of several collections are the examples, those without a judgement count as
not relevant. Each collection weighs the same, whatever its size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from trlm_retrieval.components.fusion import mixed_gains
from trlm_retrieval.errors import DataError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.calibration import Calibration, Weights

from ..score_cache import priors
from .evaluation import RetrievalEvaluation

BINS = 10


class Query(NamedTuple):
    """The candidates of one query.

    :ivar alone: gains, in nats for each token of the query, shape (candidates,).
    :ivar mixed: the same with the first stage mixed in.
    :ivar relevant: booleans, shape (candidates,).
    """

    tokens: int
    alone: np.ndarray
    mixed: np.ndarray
    relevant: np.ndarray


@dataclass(frozen=True)
class Bin:
    """Candidates of nearly the same probability.

    :ivar share: of all candidates.
    :ivar predicted: mean probability.
    :ivar observed: share of relevant ones.
    """

    share: float
    predicted: float
    observed: float


@dataclass(frozen=True)
class Reliability:
    """How far probabilities are from what is found.

    :ivar error: expected calibration error, over ten bins of equal width.
    :ivar base_rate: share of relevant candidates.
    :ivar precision: share of relevant ones among candidates of 0.5 or more; None if there are none.
    :ivar recall: share of the relevant candidates that have 0.5 or more.
    """

    error: float
    base_rate: float
    precision: float | None
    recall: float
    bins: tuple[Bin, ...]


def examples(
    evaluation: RetrievalEvaluation, lm: TimeReversedLM, first_stage_weight: float
) -> dict[str, Query]:
    """Gains and judgements of each query's scored candidates; any grade above 0 is relevant.

    :param evaluation: of the system ``reverse``, with the same model.
    """
    dataset, runs = evaluation.dataset, evaluation.runs
    scored = {query: found for query, found in evaluation.likelihoods["reverse"].items() if found}
    at_rest = priors(lm, [dataset.queries[query] for query in scored], lm.template())
    examples: dict[str, Query] = {}
    for (query, scores), prior in zip(scored.items(), at_rest.tolist(), strict=True):
        tokens = max(1, next(iter(scores.values())).tokens)
        alone = np.array([(score.sum - prior) / tokens for score in scores.values()])
        first = [runs["fusion"][query][document] for document in scores]
        relevant = np.array([dataset.qrels[query].get(document, 0) > 0 for document in scores])
        mixed = mixed_gains(alone.tolist(), first, first_stage_weight)
        examples[query] = Query(tokens, alone, mixed, relevant)
    return examples


def halves(queries: Mapping[str, Query]) -> tuple[list[Query], list[Query]]:
    """Every other query, by name: those to fit on, and those to report on."""
    ordered = [queries[name] for name in sorted(queries)]
    return ordered[::2], ordered[1::2]


def fit(lm: TimeReversedLM, collections: Sequence[Sequence[Query]]) -> Calibration:
    """The calibration that fits the collections best, each of them with the same weight.

    :raises DataError: if all or none of the candidates are relevant, or the model's gains do not
        tell the relevant ones from the others.
    """
    return Calibration(
        str(lm.default_template),
        _fit(collections, lambda query: query.alone),
        _fit(collections, lambda query: query.mixed),
    )


def reliability(
    calibration: Calibration, collections: Sequence[Sequence[Query]], *, mixed: bool
) -> Reliability:
    """How far the probabilities of the collections' candidates are off, each of the same weight."""
    predicted, relevant, weight = [], [], []
    for queries in collections:
        total = sum(len(query.relevant) for query in queries)
        for query in queries:
            gains = query.mixed if mixed else query.alone
            predicted.append(calibration.probabilities(gains.tolist(), query.tokens, mixed=mixed))
            relevant.append(query.relevant)
            weight.append(np.full(len(gains), 1 / total / len(collections)))
    return _reliability(*map(np.concatenate, (predicted, relevant, weight)))


def draw(results: Mapping[str, Mapping[str, Reliability]], path: Path) -> None:
    """Draw reliability diagrams: the share of relevant candidates over what was predicted.

    :param results: for each diagram its title, and a line for each name.
    :raises OSError: if the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(results), 5.5), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(panels, results.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for name, found in lines.items():
            points = [(one.predicted, one.observed) for one in found.bins]
            label = f"{name}: {found.error:.3f}"
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
        axes.set(title=title, xlabel="P(relevant) as predicted", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(title="calibration error", loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2)
    panels[0].set_ylabel("share of relevant candidates")
    figure.savefig(path, dpi=120)


def _reliability(predicted: np.ndarray, relevant: np.ndarray, weight: np.ndarray) -> Reliability:
    places = np.minimum((predicted * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        share = weight[inside].sum()
        means = (weight[inside] @ values[inside] / share for values in (predicted, relevant))
        bins.append(Bin(float(share), *map(float, means)))
    kept = predicted >= 0.5
    right = float(weight[kept & relevant].sum())
    return Reliability(
        error=sum(one.share * abs(one.predicted - one.observed) for one in bins),
        base_rate=float(weight @ relevant),
        precision=right / float(weight[kept].sum()) if kept.any() else None,
        recall=right / float(weight[relevant].sum()) if relevant.any() else 0.0,
        bins=tuple(bins),
    )


def _fit(collections: Sequence[Sequence[Query]], gains: Callable[[Query], np.ndarray]) -> Weights:
    features, relevant, weight = [], [], []
    for queries in collections:
        total = sum(len(query.relevant) for query in queries)
        for query in queries:
            lengths = np.full(len(query.relevant), np.log(query.tokens))
            features.append(np.column_stack([gains(query), lengths]))
            relevant.append(query.relevant)
            weight.append(np.full(len(query.relevant), 1 / total))
    labels = np.concatenate(relevant) if relevant else np.array([], dtype=bool)
    if len(set(labels.tolist())) < 2:
        raise DataError(
            "a calibration needs relevant candidates and others on the half that it is fitted on; "
            "give more queries or --rerank more of them"
        )
    shares = np.concatenate(weight)
    model = LogisticRegression(C=np.inf, max_iter=1000)
    model.fit(np.concatenate(features), labels, sample_weight=shares * len(labels) / shares.sum())
    (slope, length), bias = map(float, model.coef_[0]), float(model.intercept_[0])
    if slope <= 0:
        raise DataError(
            "passages that the model gives a greater gain are no more often relevant here: there "
            "is nothing to calibrate"
        )
    return bias, slope, length
