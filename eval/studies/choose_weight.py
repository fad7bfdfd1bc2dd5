"""Choose the first stage's weight that suits a model on half of the queries, and report the rest.

    python -m trlm_retrieval.eval.studies.choose_weight demo path/to/cranfield --model trlm-small

A TREC run stands beside a collection after a colon, and is reranked in place of a search:
``path/to/dl20:path/to/bm25.trec``.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.lm import TimeReversedLM

from ..dataset import load_dataset
from ..measures import MAIN_MEASURE, per_query
from ..retrieval.evaluation import RetrievalEvaluation, above, evaluate_retrieval, sample_queries
from ..retrieval.evaluation import with_first_stage as mixed
from ..retrieval.first_stage import best
from ..runs import read_run

WEIGHTS = (0.0, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)


def halves(evaluation: RetrievalEvaluation, rerank: int, weight: float) -> tuple[float, float]:
    """Mean nDCG@10 of every other query, and of the others, with a weight of the first stage."""
    found = evaluation.runs["fusion"]
    candidates = {query: best(run, rerank) for query, run in found.items()}
    reverse = {
        query: {document: evaluation.runs["reverse"][query][document] for document in chosen}
        for query, chosen in candidates.items()
    }
    run = {
        query: above(scores, found[query])
        for query, scores in mixed(reverse, candidates, weight).items()
    }
    values = per_query(run, evaluation.dataset.qrels)[MAIN_MEASURE]
    ordered = [values[query] for query in sorted(values)]
    return float(np.mean(ordered[::2])), float(np.mean(ordered[1::2]))


def main() -> None:
    """Print a row for each weight, a column for each collection and half."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", default="trlm-small")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rerank", type=int, default=20)
    parser.add_argument("--queries", type=int, help="at most this many of each collection")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    given = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(given.model, dtype=given.dtype)
    evaluations = {}
    for name in given.data:
        folder, _, run = name.partition(":")
        dataset = load_dataset(folder, judgements="highest")
        evaluations[dataset.name] = evaluate_retrieval(
            sample_queries(dataset, given.queries, 0),
            lm,
            given.model,
            ["fusion", "reverse"],
            rerank=given.rerank,
            cache_folder=given.cache_dir,
            first_stage_run=read_run(Path(run)) if run else None,
            show_progress=True,
        )
    table = Table("weight", *evaluations, "mean", title=f"{MAIN_MEASURE}, choosing / other half")
    for weight in WEIGHTS:
        pairs = [halves(found, given.rerank, weight) for found in evaluations.values()]
        pairs.append((float(np.mean([a for a, _ in pairs])), float(np.mean([b for _, b in pairs]))))
        table.add_row(str(weight), *(f"{one:.3f} / {other:.3f}" for one, other in pairs))
    Console().print(table)


if __name__ == "__main__":
    main()
