"""Choose how BM25 and dense search are fused on half of the queries, and report the rest.

    python -m trlm_retrieval.eval.studies.choose_fusion demo path/to/cranfield

Compared are Haystack's fusions by reciprocal ranks and by the distribution of the scores, which
keeps the higher one, with ScoreJoiner, which takes the mean of both.
"""

import argparse
from pathlib import Path

import numpy as np
from haystack.components.joiners import DocumentJoiner
from rich.console import Console
from rich.table import Table

from trlm_retrieval.components.score_joiner import ScoreJoiner
from trlm_retrieval.models.source import DEFAULT_EMBEDDER

from ..dataset import load_dataset
from ..measures import MAIN_MEASURE, holm, paired_test, per_query
from ..retrieval.evaluation import sample_queries
from ..retrieval.first_stage import BOTH, joined, search

_TOP_K = 100
RANKS = "reciprocal ranks"
EQUAL = "mean of scores"
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def joiners() -> dict[str, DocumentJoiner | ScoreJoiner]:
    """The fusions compared, by name."""
    found: dict[str, DocumentJoiner | ScoreJoiner] = {
        RANKS: DocumentJoiner("reciprocal_rank_fusion", top_k=_TOP_K),
        "higher of scores": DocumentJoiner("distribution_based_rank_fusion", top_k=_TOP_K),
    }
    for share in SHARES:
        name = EQUAL if share == 0.5 else f"{EQUAL}, {share} of BM25"
        found[name] = ScoreJoiner(weights=[share, 1 - share], top_k=_TOP_K)
    return found


def main() -> None:
    """Print a row for each fusion, a column for each collection and half."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--embedder", default=DEFAULT_EMBEDDER)
    parser.add_argument("--queries", type=int, help="at most this many of each collection")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    given = parser.parse_args()
    compared = joiners()
    values: dict[str, dict[str, list[float]]] = {name: {} for name in compared}
    for folder in given.data:
        dataset = sample_queries(load_dataset(folder, judgements="highest"), given.queries, 0)
        runs = search(
            dataset, BOTH, (), _TOP_K, given.embedder, given.cache_dir, {}, show_progress=True
        )
        for name, joiner in compared.items():
            run = joined([runs[stage] for stage in BOTH], joiner)
            found = per_query(run, dataset.qrels)[MAIN_MEASURE]
            values[name][dataset.name] = [found[query] for query in sorted(found)]
    collections = list(values[RANKS])
    table = Table("fusion", *collections, "mean", title=f"{MAIN_MEASURE}, choosing / other half")
    for name, of in values.items():
        pairs = [(np.mean(of[one][::2]), np.mean(of[one][1::2])) for one in collections]
        pairs.append((np.mean([a for a, _ in pairs]), np.mean([b for _, b in pairs])))
        table.add_row(name, *(f"{one:.3f} / {other:.3f}" for one, other in pairs))
    console = Console()
    console.print(table)
    tests = holm({one: paired_test(values[EQUAL][one], values[RANKS][one]) for one in collections})
    for one, p in tests.items():
        gain = np.mean(values[EQUAL][one]) - np.mean(values[RANKS][one])
        console.print(f"{one}: {EQUAL} less {RANKS} {gain:+.3f}, p = {p:.4f}")


if __name__ == "__main__":
    main()
