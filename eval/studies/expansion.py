"""What predicted queries (doc2query) do for a search, and whether the model can tell the good ones.

    python -m trlm_retrieval.eval.studies.expansion demo path/to/cranfield --model trlm-small

Queries are written for every passage as `trlm index --expand` does, and BM25 counts the words of

- none of them, all of them, or
- the best share of all queries of the collection (Doc2Query--, arXiv 2301.03266), by the
  model's own log P(query | passage), by that of a token, or by the gain over log P(query).

A setting is chosen on half of the queries, for BM25 and for its fusion with dense search: where
the mean nDCG@10 of the collections is highest. The other half is reported.
"""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ir_measures import R, nDCG
from rich.console import Console
from rich.table import Table

from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS
from trlm_retrieval.components.score_joiner import ScoreJoiner
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling
from trlm_retrieval.models.source import DEFAULT_EMBEDDER
from trlm_retrieval.passage_index.bm25 import build_bm25
from trlm_retrieval.passage_index.documents import PREDICTED_QUERIES, counted_text, passage_text
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.text.words import query_words, words

from ..dataset import RetrievalDataset, load_dataset
from ..measures import MAIN_MEASURE, PerQuery, holm, paired_test, values_of
from ..query_cache import QueryCache
from ..result import summarise
from ..retrieval.first_stage import joined, search
from ..runs import Run
from ..score_cache import ScoreCache, priors

SHARES = (0.3, 0.5, 0.7)
MEASURES = (nDCG @ 10, R @ 10, R @ 100)
PLAIN = "no queries"
STAGES = ("BM25", "fusion")

_TOP_K = 100

Written = list[list[str]]
"""Queries of each passage."""
Found = dict[str, dict[str, PerQuery]]
"""Values by stage and setting."""


def part(dataset: RetrievalDataset, passages: int | None) -> RetrievalDataset:
    """So many passages of a collection at random, and the queries that they answer.

    :raises ValueError: if the number is not positive.
    """
    if passages is not None and passages < 1:
        raise ValueError(f"passages must be positive, not {passages}")
    if passages is None or passages >= len(dataset.documents):
        return dataset
    documents = random.Random(0).sample(dataset.documents, len(dataset.documents))[:passages]
    ids = {document.id for document in documents}
    qrels = {
        query: {document: grade for document, grade in grades.items() if document in ids}
        for query, grades in dataset.qrels.items()
    }
    qrels = {query: grades for query, grades in qrels.items() if max(grades.values(), default=0)}
    queries = {query: dataset.queries[query] for query in qrels}
    return RetrievalDataset(dataset.name, documents, queries, qrels)


def best_share(written: Written, scores: Sequence[Sequence[float]], share: float) -> Written:
    """The queries that belong to the best share of all; a passage may keep none."""
    least = np.quantile(np.concatenate([np.asarray(row) for row in scores]), 1 - share)
    return [
        [query for query, score in zip(queries, row, strict=True) if score >= least]
        for queries, row in zip(written, scores, strict=True)
    ]


def write_queries(
    lm: TimeReversedLM, texts: Sequence[str], number: int, cache_folder: Path
) -> tuple[dict[str, Written], str]:
    """The settings of a number of queries a passage, and what writing them took."""
    started = time.process_time()
    steps: list[int] = []
    cache = QueryCache(cache_folder / "queries.jsonl")
    with progress_bar("Writing queries", len(texts)) as advance:

        def progress(done: int) -> None:
            steps.append(done)
            advance(done)

        written = cache.queries(
            lm, texts, number, lm.template(), Sampling(), DEFAULT_MAX_PASSAGE_TOKENS, progress
        )
    fresh = sum(steps[1:])  # the first step is what the cache held
    seconds = (time.process_time() - started) / max(fresh, 1)
    cost = f"{seconds:.2f} s of processor time a passage" if fresh else "all from the cache"
    pairs = [
        (query, text) for text, queries in zip(texts, written, strict=True) for query in queries
    ]
    with progress_bar("Scoring queries", len(pairs)) as advance:
        found, _ = ScoreCache(cache_folder / "scores.sqlite").score(
            lm, pairs, lm.template(), DEFAULT_MAX_PASSAGE_TOKENS, advance
        )
    prior = priors(lm, [query for query, _ in pairs], lm.template())
    ways = {
        "likelihood": [one.sum for one in found],
        "likelihood a token": [one.mean for one in found],
        "gain": [one.sum - before for one, before in zip(found, prior, strict=True)],
    }
    settings = {f"{number} queries": written}
    ends = np.cumsum([len(queries) for queries in written])[:-1]
    for way, scores in ways.items():
        rows = np.split(np.asarray(scores), ends)
        for share in SHARES:
            name = f"{number} queries, best {share:.0%} by {way}"
            settings[name] = best_share(written, [row.tolist() for row in rows], share)
    return settings, f"{number} queries: {cost}"


def bm25_run(dataset: RetrievalDataset, written: Written) -> Run:
    """What BM25 finds where these queries are counted too, as `PassageIndex` does."""
    expanded = [
        replace(document, meta={**document.meta, PREDICTED_QUERIES: queries})
        for document, queries in zip(dataset.documents, written, strict=True)
    ]
    index = build_bm25([words(counted_text(document)) for document in expanded])
    ids = [document.id for document in expanded]
    run: Run = {}
    for query, text in dataset.queries.items():
        scores = index.scores(query_words(text))
        order = np.argsort(-scores, kind="stable")[:_TOP_K]
        run[query] = {ids[place]: float(scores[place]) for place in order if scores[place] > 0}
    return run


def evaluate_settings(
    dataset: RetrievalDataset, settings: Mapping[str, Written], cache_folder: Path
) -> Found:
    """Each setting with BM25 and with the fusion; dense search is the same in all of them."""
    dense = search(
        dataset, ("dense",), (), _TOP_K, DEFAULT_EMBEDDER, cache_folder, {}, show_progress=True
    )["dense"]
    joiner = ScoreJoiner(top_k=_TOP_K)
    found: Found = {stage: {} for stage in STAGES}
    for name, written in settings.items():
        run = bm25_run(dataset, written)
        found["BM25"][name] = values_of(MEASURES, run, dataset.qrels)
        found["fusion"][name] = values_of(MEASURES, joined([run, dense], joiner), dataset.qrels)
    return found


def half(values: PerQuery, first: bool) -> PerQuery:
    """Every other query."""
    return {
        measure: {query: found[query] for query in sorted(found)[0 if first else 1 :: 2]}
        for measure, found in values.items()
    }


def mean(values: PerQuery) -> float:
    return float(np.mean(list(values[MAIN_MEASURE].values())))


def choose(evaluations: Mapping[str, Found], stage: str) -> str:
    """The setting with queries whose mean over the collections is highest on the first halves."""
    names = [name for name in next(iter(evaluations.values()))[stage] if name != PLAIN]
    return max(
        names,
        key=lambda name: np.mean(
            [mean(half(found[stage][name], True)) for found in evaluations.values()]
        ),
    )


def p_values(
    systems: Mapping[str, PerQuery], pairs: Sequence[tuple[str, str]], measure: str
) -> dict[str, float]:
    """Of each system against the same search without queries, corrected over the table."""
    values = {name: list(found[measure].values()) for name, found in systems.items()}
    return holm({row: paired_test(values[row], values[plain]) for row, plain in pairs})


def show(console: Console, evaluations: Mapping[str, Found], numbers: Sequence[int]) -> None:
    """Print what was chosen on the first halves, and what it gives on the others."""
    titles = [f"{data}, {stage}" for data in evaluations for stage in STAGES]
    table = Table("setting", *titles, title=f"{MAIN_MEASURE}, the half that chooses")
    for name in next(iter(evaluations.values()))["BM25"]:
        values = [mean(half(evaluations[d][s][name], True)) for d in evaluations for s in STAGES]
        table.add_row(name, *(f"{value:.3f}" for value in values))
    console.print(table)
    chosen = {stage: choose(evaluations, stage) for stage in STAGES}
    for data, found in evaluations.items():
        systems: dict[str, PerQuery] = {}
        pairs: list[tuple[str, str]] = []
        for stage in STAGES:
            names = [PLAIN, *(f"{number} queries" for number in numbers), chosen[stage]]
            rows = {name: f"{stage}, {name}" for name in names}
            systems |= {row: half(found[stage][name], False) for name, row in rows.items()}
            pairs += [(row, rows[PLAIN]) for name, row in rows.items() if name != PLAIN]
        result = summarise(data, "", systems, MAIN_MEASURE, [], {}, {}, [])
        table = Table(f"{data}, {result.queries} other queries", *map(str, MEASURES))
        tests = {str(measure): p_values(systems, pairs, str(measure)) for measure in MEASURES}
        for row, estimates in result.systems.items():
            cells = []
            for measure, value in estimates.items():
                p = f", p = {tests[measure][row]:.3f}" if row in tests[measure] else ""
                cells.append(f"{value.mean:.3f} ({value.low:.3f}–{value.high:.3f}{p})")
            table.add_row(row, *cells)
        console.print(table)


def main() -> None:
    """Print a table of all settings and one for each collection."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", default="trlm-small")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--queries", type=int, nargs="+", default=[5], help="for each passage")
    parser.add_argument("--passages", type=int, help="at most so many of each collection")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    given = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(given.model, dtype=given.dtype)
    console = Console(width=180, highlight=False)
    evaluations: dict[str, Found] = {}
    for name in given.data:
        dataset = part(load_dataset(name, judgements="highest"), given.passages)
        texts = [passage_text(document) for document in dataset.documents]
        settings: dict[str, Written] = {PLAIN: [[] for _ in texts]}
        console.print(f"{dataset.name}: {len(texts)} passages, {len(dataset.queries)} queries")
        for number in given.queries:
            made, cost = write_queries(lm, texts, number, given.cache_dir)
            settings |= made
            console.print(f"{dataset.name}, {cost}")
        evaluations[dataset.name] = evaluate_settings(dataset, settings, given.cache_dir)
    show(console, evaluations, given.queries)


if __name__ == "__main__":
    main()
