"""Do examples of passage and question in front of each passage help a forward model to rank?

    python -m trlm_retrieval.eval.studies.few_shot demo path/to/cranfield --queries 30

The examples are judged pairs of queries that are not measured, so that they are the best a user
could bring. They stand in the template, and the model reads them anew with each passage.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.components.fusion import choose_weight
from trlm_retrieval.errors import DataError
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.passage_index.documents import passage_text

from ..dataset import RetrievalDataset, load_dataset
from ..measures import MAIN_MEASURE, estimate, paired_test, per_query
from ..retrieval.evaluation import (
    evaluate_retrieval,
    reranked,
    sample_queries,
    score_candidates,
)
from ..retrieval.first_stage import best
from ..runs import read_run
from ..sampling import draw
from ..score_cache import ScoreCache

_MOST_WORDS = 100  # of an example's passage
_MOST_TOKENS = 512  # of a passage that is scored


def with_examples(template: Template, examples: Sequence[tuple[str, str]]) -> Template:
    """The template with (query, passage) pairs written in front, as it writes them itself."""
    shown = "".join(
        template.context.replace("{passage}", passage)
        + template.target.replace("{query}", query)
        + "\n\n"
        for query, passage in examples
    )
    return replace(template, context=shown + template.context)


def examples_of(
    dataset: RetrievalDataset, measured: RetrievalDataset, number: int
) -> list[tuple[str, str]]:
    """Judged (query, passage) pairs of queries that are not measured.

    :raises DataError: if there are too few.
    """
    texts = {document.id: passage_text(document) for document in dataset.documents}
    found = []
    for query in sorted(dataset.queries.keys() - measured.queries.keys()):
        grades = dataset.qrels[query]
        passage = texts.get(max(grades, key=lambda document: grades[document]), "")
        if max(grades.values()) > 0 and 0 < len(passage.split()) <= _MOST_WORDS:
            found.append((dataset.queries[query], passage))
    if len(found) < number:
        raise DataError(
            f"{dataset.name}: {len(found)} pairs are left for examples; measure fewer queries"
        )
    return [found[n] for n in draw(range(len(found)), number, 0)]


def main() -> None:
    """Print for each collection and number of examples the mean, its interval and a test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", nargs="+", help="a TREC run to rerank may follow a colon")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--examples", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--queries", type=int, default=30, help="of each collection")
    parser.add_argument("--rerank", type=int, default=20)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    given = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(given.model)
    weight = choose_weight(None, lm.first_stage_weight)
    cache = ScoreCache(given.cache_dir / "scores.sqlite")
    table = Table("collection", "examples", "reverse", "default", title=MAIN_MEASURE)
    for name in given.data:
        folder, _, run_file = name.partition(":")
        dataset = load_dataset(folder, judgements="highest")
        measured = sample_queries(dataset, given.queries, 0)
        first = evaluate_retrieval(
            measured,
            None,
            "none",
            ["fusion"],
            cache_folder=given.cache_dir,
            first_stage_run=read_run(Path(run_file)) if run_file else None,
            show_progress=True,
        )
        found = first.runs["fusion"]
        candidates = {query: best(run, given.rerank) for query, run in found.items()}
        zero: dict[str, list[float]] = {}
        for number in [0, *given.examples]:
            template = with_examples(lm.template(), examples_of(dataset, measured, number))
            scoring = partial(cache.score, lm, template=template, max_passage_tokens=_MOST_TOKENS)
            scores, _ = score_candidates(measured, measured.name, candidates, scoring, True)
            row = [measured.name, str(number)]
            for system, run in reranked({"reverse": scores}, candidates, weight).items():
                of = per_query(run, measured.qrels)[MAIN_MEASURE]
                values = [of[query] for query in sorted(of)]
                told = estimate(values)
                row.append(f"{told.mean:.3f} ({told.low:.3f}–{told.high:.3f})")
                if number:
                    p = paired_test(values, zero[system])
                    row[-1] += f" {np.mean(values) - np.mean(zero[system]):+.3f}, p = {p:.2f}"
                else:
                    zero[system] = values
            table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
