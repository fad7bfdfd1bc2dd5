"""What predicted queries (doc2query) do for BM25: the same search with and without them.

    python -m trlm_retrieval.eval.studies.expansion --data FOLDER_OR_HUB_ID --passages 240

A draw of the collection is indexed: the relevant documents of queries drawn by a fixed seed, up to
half of the passages, and for the rest documents relevant to none of them. All of them get queries.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from haystack import Document
from ir_measures import RR, R, nDCG
from rich.console import Console
from rich.table import Table

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.documents import PREDICTED_QUERIES, passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset, load_dataset
from ..measures import PerQuery, values_of
from ..query_cache import QueryCache
from ..result import Result, summarise

MEASURES = (R @ 5, R @ 10, nDCG @ 10, RR @ 10)


def draw(dataset: RetrievalDataset, passages: int, seed: int = 0) -> RetrievalDataset:
    """A smaller collection: some queries, all that is relevant to them, and other documents."""
    generator = random.Random(seed)
    by_id = {document.id: document for document in dataset.documents}
    kept: dict[str, Document] = {}
    queries: dict[str, str] = {}
    for query in generator.sample(sorted(dataset.queries), len(dataset.queries)):
        relevant = {d for d, grade in dataset.qrels[query].items() if grade > 0 and d in by_id}
        if relevant and len(kept.keys() | relevant) <= max(passages // 2, len(relevant)):
            kept |= {document: by_id[document] for document in sorted(relevant)}
            queries[query] = dataset.queries[query]
    judged = {document for query in queries for document in dataset.qrels[query]}
    others = sorted(by_id.keys() - kept.keys() - judged)
    for document in generator.sample(others, min(len(others), max(0, passages - len(kept)))):
        kept[document] = by_id[document]
    qrels = {query: dataset.qrels[query] for query in queries}
    return RetrievalDataset(dataset.name, list(kept.values()), queries, qrels)


def evaluate_expansion(
    dataset: RetrievalDataset,
    lm: TimeReversedLM,
    model: str,
    numbers: Sequence[int],
    cache_folder: Path = Path(".trlm-eval"),
    max_passage_tokens: int = 256,
    show_progress: bool = False,
) -> Result:
    """BM25 over the passages alone, and with so many predicted queries each.

    :param numbers: of queries; they are the first of those that the largest number gives.
    """
    texts = [passage_text(document) for document in dataset.documents]
    cache = QueryCache(cache_folder / "queries.jsonl")
    with progress_bar("Writing queries", len(texts), show_progress) as advance:
        predicted = cache.queries(
            lm, texts, max(numbers), lm.template(), Sampling(), max_passage_tokens, advance
        )
    found: dict[str, PerQuery] = {"bm25": _search(dataset.documents, dataset)}
    for number in numbers:
        expanded = [
            replace(document, meta={**document.meta, PREDICTED_QUERIES: queries[:number]})
            for document, queries in zip(dataset.documents, predicted, strict=True)
        ]
        found[f"bm25 + {number} queries"] = _search(expanded, dataset)
    return summarise(
        dataset.name,
        model,
        found,
        "R@10",
        [(name, "bm25") for name in found if name != "bm25"],
        {},
        {"passages": len(texts), "max_passage_tokens": max_passage_tokens},
        [],
    )


def _search(documents: Sequence[Document], dataset: RetrievalDataset) -> PerQuery:
    with TemporaryDirectory() as folder:
        index = PassageIndex.build(Path(folder) / "index", documents, embedder=None)
        run = {
            query: {found.id: found.score or 0.0 for found in index.search_bm25(text, top_k=10)}
            for query, text in dataset.queries.items()
        }
    return values_of(MEASURES, run, dataset.qrels)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="BEIR folder or hub id")
    parser.add_argument("--passages", type=int, default=240, help="draw so many")
    parser.add_argument("--queries", type=int, nargs="+", default=[2, 5], help="for each passage")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    dataset = draw(load_dataset(arguments.data, "test"), arguments.passages)
    result = evaluate_expansion(
        dataset,
        lm,
        arguments.model,
        arguments.queries,
        arguments.cache_dir,
        show_progress=True,
    )
    table = Table("system", *map(str, MEASURES))
    for name, values in result.systems.items():
        cells = [f"{v.mean:.3f} ({v.low:.3f}–{v.high:.3f})" for v in values.values()]
        table.add_row(name, *cells)
    console = Console()
    console.print(
        f"{dataset.name}: {len(dataset.queries)} queries, {len(dataset.documents)} passages"
    )
    console.print(table)
    for name, test in result.tests.items():
        console.print(f"{name}: {test.measure} {test.difference:+.3f}, p = {test.p:.4f}")
    if arguments.json:
        result.write_json(arguments.json)


if __name__ == "__main__":
    main()
