"""What a run is worth: ir_measures for each query, bootstrap intervals, paired tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import ir_measures
import numpy as np
from ir_measures import AP, RR, P, R, nDCG

from .judgements import Qrels
from .runs import Run, ranked

MAIN_MEASURE = "nDCG@10"
RECALL_DEPTH = 100

_RESAMPLES = 10_000
_CHUNK = 500
_SEED = 0

PerQuery = dict[str, dict[str, float]]  # measure -> query -> value


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with the 95 % percentile interval of 10,000 bootstrap resamples."""

    mean: float
    low: float
    high: float


def measures(
    depth: int = RECALL_DEPTH, relevance_level: int = 1
) -> tuple[ir_measures.measures.Measure, ...]:
    """What is measured of runs that hold ``depth`` documents a query.

    Recall is taken at 100, or at the end of the runs where that comes first.

    :param relevance_level: the grade from which a document counts as relevant, as ``trec_eval -l``;
        nDCG takes the grades as they are.
    """
    cut = min(depth, RECALL_DEPTH)
    if relevance_level == 1:
        return nDCG @ 10, RR @ 10, AP, R @ cut, P @ 5
    level = {"rel": relevance_level}
    return nDCG @ 10, RR(**level) @ 10, AP(**level), R(**level) @ cut, P(**level) @ 5


def per_query(
    run: Run, qrels: Qrels, depth: int = RECALL_DEPTH, *, relevance_level: int = 1
) -> PerQuery:
    """Each measure of each judged query; a query without results counts 0.

    :param depth: documents a query that the run was cut to.
    :param relevance_level: see :func:`measures`.
    """
    return values_of(measures(depth, relevance_level), run, qrels)


def values_of(wanted: Sequence[ir_measures.measures.Measure], run: Run, qrels: Qrels) -> PerQuery:
    """These measures of each judged query; a query without results counts 0.

    All measures see one order, that of :func:`~trlm_retrieval.eval.runs.ranked`: the libraries
    behind them break ties each in its own way, so they are given ranks in place of scores.
    """
    values: PerQuery = {str(measure): dict.fromkeys(qrels, 0.0) for measure in wanted}
    judged = {
        query: {document: -float(rank) for rank, document in enumerate(ranked(scores))}
        for query, scores in run.items()
        if query in qrels and scores
    }
    for metric in ir_measures.iter_calc(list(wanted), qrels, judged):
        values[str(metric.measure)][metric.query_id] = metric.value
    return values


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval of one measure over queries."""
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(_SEED)
    means = np.concatenate(
        [
            array[generator.integers(len(array), size=(_CHUNK, len(array)))].mean(axis=1)
            for _ in range(_RESAMPLES // _CHUNK)
        ]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high))


def paired_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of a paired randomisation test: signs of the differences are flipped.

    10,000 random flips; the smallest value it can give is 1 / 10,001.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    observed = abs(differences.mean())
    generator = np.random.default_rng(_SEED)
    extreme = 0
    for _ in range(_RESAMPLES // _CHUNK):
        signs = generator.choice((-1.0, 1.0), size=(_CHUNK, len(differences)))
        extreme += int((abs(signs @ differences) / len(differences) >= observed - 1e-12).sum())
    return (extreme + 1) / (_RESAMPLES + 1)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's step-down correction of a family of p-values."""
    corrected: dict[str, float] = {}
    largest = 0.0
    for position, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - position)))
        corrected[name] = largest
    return corrected
