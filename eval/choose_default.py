"""Compare settings of the combination on several collections; scores come from the cache.

    python -m trlm_retrieval.eval.choose_default demo path/to/cranfield path/to/covidqa

For each normalisation and weight, mean nDCG@10 over the collections, on the half of each
collection's queries by which a setting is chosen and on the other half, which reports it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.combination import (
    DEFAULT_FIRST_STAGE_WEIGHT,
    DEFAULT_NORMALISATION,
    Normalisation,
    combine,
)
from trlm_retrieval.lm import TimeReversedLM

from .dataset import load_dataset
from .measures import MAIN_MEASURE, per_query
from .retrieval import RetrievalEvaluation, evaluate_retrieval, sample_queries
from .runs import Run, read_run

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def halves(queries: list[str]) -> tuple[list[str], list[str]]:
    """Every other query, in order of ids: one half chooses, the other reports."""
    ordered = sorted(queries)
    return ordered[::2], ordered[1::2]


def combined_run(
    evaluation: RetrievalEvaluation, weight: float, normalisation: Normalisation
) -> Run:
    """The run of one setting."""
    fusion, reverse = evaluation.runs["fusion"], evaluation.runs["reverse"]
    return {
        query: dict(
            zip(
                scores,
                combine(
                    [fusion[query][doc] for doc in scores],
                    list(scores.values()),
                    weight,
                    normalisation,
                ).tolist(),
                strict=True,
            )
        )
        for query, scores in reverse.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", nargs="+", help="collections; FOLDER=RUN.trec reranks a given run of one"
    )
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--top-k", type=int, default=20)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    evaluations = []
    for data in arguments.data:
        folder, _, run = data.partition("=")
        evaluations.append(
            evaluate_retrieval(
                sample_queries(load_dataset(folder), arguments.queries, 0),
                lm,
                arguments.model,
                ["reverse"],
                arguments.top_k,
                cache_folder=arguments.cache_dir,
                first_stage_run=read_run(Path(run)) if run else None,
                show_progress=True,
            )
        )

    def mean(make: Callable[[RetrievalEvaluation], Run], half: int) -> list[float]:
        found = []
        for evaluation in evaluations:
            values = per_query(make(evaluation), evaluation.dataset.qrels)[MAIN_MEASURE]
            found.append(float(np.mean([values[q] for q in halves(list(values))[half]])))
        return found

    names = [evaluation.dataset.name for evaluation in evaluations]
    table = Table(
        "normalisation", "first-stage weight", "choosing half", "other half", *names, box=None
    )
    settings = [
        (normalisation, weight) for normalisation in get_args(Normalisation) for weight in WEIGHTS
    ]
    rows = {}
    for normalisation, weight in settings:

        def make(
            evaluation: RetrievalEvaluation,
            weight: float = weight,
            normalisation: Normalisation = normalisation,
        ) -> Run:
            return combined_run(evaluation, weight, normalisation)

        rows[normalisation, weight] = (float(np.mean(mean(make, 0))), mean(make, 1))
    best = max(rows, key=lambda setting: rows[setting][0])
    for (normalisation, weight), (choosing, reporting) in rows.items():
        marks = ["best" if (normalisation, weight) == best else ""]
        if (normalisation, weight) == (DEFAULT_NORMALISATION, DEFAULT_FIRST_STAGE_WEIGHT):
            marks.append("shipped")
        table.add_row(
            f"{normalisation} {' '.join(filter(None, marks))}".strip(),
            f"{weight:.1f}",
            f"{choosing:.3f}",
            f"{np.mean(reporting):.3f}",
            *(f"{value:.3f}" for value in reporting),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
