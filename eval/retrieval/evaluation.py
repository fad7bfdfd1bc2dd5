"""Retrieval: first stages, their fusion, and what reranking by likelihood makes of it."""

import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock
from haystack import Document
from haystack.components.joiners import DocumentJoiner

from trlm_retrieval.components.fusion import choose_weight, combine
from trlm_retrieval.errors import DataError, PassageIndexError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset
from ..measures import MAIN_MEASURE, PerQuery, per_query
from ..result import Result, summarise
from ..runs import Run
from ..score_cache import Score, ScoreCache

SYSTEMS = ("bm25", "dense", "fusion", "forward", "reverse", "default")
RERANKED = ("forward", "reverse", "default")  # those that need a model and the fusion
EMBEDDER = "minilm"
DEFAULT_RERANK = 20

_FIRST_STAGES = {"bm25": "BM25", "dense": EMBEDDER}

_ROWS = ("bm25", "dense", "fusion", "forward_sum", "forward", "reverse", "default")

Scores = dict[str, dict[str, Score]]


@dataclass
class RetrievalEvaluation:
    """A result with the runs behind it."""

    result: Result
    runs: dict[str, Run]
    dataset: RetrievalDataset
    likelihoods: dict[str, Scores] = field(default_factory=dict)


def sample_queries(dataset: RetrievalDataset, number: int | None, seed: int) -> RetrievalDataset:
    """The collection with ``number`` of its judged queries, drawn without replacement.

    Where there are fewer, all are used and a warning says so.

    :raises DataError: if the number is not positive.
    """
    if number is None:
        return dataset
    if number <= 0:
        raise DataError(f"--queries must be positive, not {number}")
    there = len(dataset.queries)
    if number > there:
        note = f"{number} queries were asked for; there are {there} judged ones, all are used"
        return replace(dataset, warnings=[*dataset.warnings, note])
    drawn = random.Random(seed).sample(sorted(dataset.queries), number)
    return RetrievalDataset(
        dataset.name,
        dataset.documents,
        {query: dataset.queries[query] for query in drawn},
        {query: dataset.qrels[query] for query in drawn},
        list(dataset.warnings),
    )


def evaluate_retrieval(
    dataset: RetrievalDataset,
    lm: TimeReversedLM | None,
    model: str,
    systems: Sequence[str] = SYSTEMS,
    top_k: int = 100,
    rerank: int = DEFAULT_RERANK,
    max_passage_tokens: int | None = 512,
    cache_folder: Path = Path(".trlm-eval"),
    first_stage_run: Run | None = None,
    first_stage_weight: float | None = None,
    show_progress: bool = False,
) -> RetrievalEvaluation:
    """Evaluate systems on a collection.

    :param lm: the model; None where no system needs one.
    :param model: its name, for the result.
    :param systems: names out of :data:`SYSTEMS`; only the first stages that they need are
        searched.
    :param top_k: candidates that the first stages find.
    :param rerank: how many of them are scored by the model; the others keep their order below.
    :param first_stage_run: reranked instead of a search; then ``fusion`` is this run.
    :param first_stage_weight: of the first stage's scores in ``default``; by default the ranker's.
    :raises DataError: if a system is unknown or none is named, or the run fits no query.
    """
    if not systems:
        raise DataError(f"no system is asked for; there are {', '.join(SYSTEMS)}")
    unknown = [name for name in systems if name not in SYSTEMS]
    if unknown:
        raise DataError(f"unknown system {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    first_stage_weight = choose_weight(first_stage_weight, lm.first_stage_weight if lm else None)
    warnings = list(dataset.warnings)
    seconds: dict[str, float] = {}
    runs: dict[str, Run] = {}
    depth = top_k
    texts = {document.id: passage_text(document) for document in dataset.documents}
    if first_stage_run is not None:
        runs["fusion"] = _given_run(first_stage_run, dataset, texts, top_k, warnings)
        depth = min(top_k, max(map(len, first_stage_run.values())))
        first_stage = "given run"
    else:
        fused = bool({"fusion", *RERANKED} & set(systems))
        stages = [name for name in _FIRST_STAGES if fused or name in systems]
        runs.update(_search(dataset, stages, top_k, cache_folder, seconds, show_progress))
        first_stage = " + ".join(_FIRST_STAGES[name] for name in stages)
    candidates = {query: _first(found, rerank) for query, found in runs.get("fusion", {}).items()}
    evaluation_scores: dict[str, Scores] = {}
    counts: dict[str, int] = {}
    for name, direction in (("reverse", None), ("forward", "forward")):
        wanted = {"reverse", "default"} if name == "reverse" else {"forward"}
        if not wanted & set(systems):
            continue
        if lm is None:
            raise DataError(f"system {name!r} needs a model")
        template = lm.template(direction)
        pairs = [(query, doc) for query, found in candidates.items() for doc in found]
        cache = ScoreCache(cache_folder / "scores.sqlite")
        with (
            _timed(seconds, name),
            progress_bar(f"Scoring {name}", len(pairs), show_progress) as advance,
        ):
            scores, computed = cache.score(
                lm,
                [(dataset.queries[query], texts[doc]) for query, doc in pairs],
                template,
                max_passage_tokens,
                advance,
            )
        counts[name] = computed
        by_query: Scores = {query: {} for query in candidates}
        for (query, doc), score in zip(pairs, scores, strict=True):
            by_query[query][doc] = score
        evaluation_scores[name] = by_query
        cut = sum(score.cut_tokens > 0 for score in scores)
        if cut:
            warnings.append(f"{name}: {cut} of {len(scores)} passages were cut to fit")
    if "reverse" in evaluation_scores:
        reverse = evaluation_scores["reverse"]
        runs["reverse"] = {q: {d: s.sum for d, s in found.items()} for q, found in reverse.items()}
        runs["default"] = {
            query: dict(
                zip(
                    found,
                    combine(
                        list(candidates[query].values()),
                        [score.sum for score in found.values()],
                        first_stage_weight,
                    ).tolist(),
                    strict=True,
                )
            )
            for query, found in reverse.items()
        }
    if "forward" in evaluation_scores:
        forward = evaluation_scores["forward"]
        runs["forward"] = {q: {d: s.mean for d, s in found.items()} for q, found in forward.items()}
        runs["forward_sum"] = {
            q: {d: s.sum for d, s in found.items()} for q, found in forward.items()
        }
    for name in runs.keys() & {"reverse", "default", "forward", "forward_sum"}:
        runs[name] = {q: _above(found, runs["fusion"][q]) for q, found in runs[name].items()}
    shown = {*systems, "fusion", *(["forward_sum"] if "forward" in systems else [])}
    runs = {name: runs[name] for name in _ROWS if name in runs and name in shown}
    found: dict[str, PerQuery] = {
        name: per_query(run, dataset.qrels, depth) for name, run in runs.items()
    }
    silent: dict[int, list[str]] = {}
    for name, run in runs.items():
        silent.setdefault(sum(not run.get(query) for query in dataset.qrels), []).append(name)
    warnings += [
        f"{', '.join(names)}: {number} queries found nothing and count 0"
        for number, names in silent.items()
        if number
    ]
    comparisons = [(name, "fusion") for name in found if name != "fusion"]
    result = summarise(
        dataset.name,
        model,
        found,
        MAIN_MEASURE,
        [*comparisons, ("reverse", "forward")],
        {name: round(value, 3) for name, value in seconds.items()},
        {
            "top_k": top_k,
            "rerank": min(rerank, top_k),
            "max_passage_tokens": max_passage_tokens,
            "first_stage_weight": first_stage_weight,
            "documents": len(dataset.documents),
            "pairs_scored": counts,
            "first_stage": first_stage,
        },
        warnings,
    )
    return RetrievalEvaluation(result, runs, dataset, evaluation_scores)


def _first(run: dict[str, float], number: int) -> dict[str, float]:
    """The documents with the highest scores, best first."""
    return dict(sorted(run.items(), key=lambda item: -item[1])[:number])


def _above(reranked: dict[str, float], candidates: dict[str, float]) -> dict[str, float]:
    """Reranked documents, and below them the candidates that were not scored, in their order."""
    rest = [
        document for document in _first(candidates, len(candidates)) if document not in reranked
    ]
    floor = min(reranked.values(), default=0.0)
    return reranked | {document: floor - rank for rank, document in enumerate(rest, start=1)}


def _given_run(
    given: Run,
    dataset: RetrievalDataset,
    texts: dict[str, str],
    top_k: int,
    warnings: list[str],
) -> Run:
    run: Run = {}
    unknown = 0
    for query in dataset.queries:
        found = given.get(query, {})
        known = {doc: score for doc, score in found.items() if doc in texts}
        unknown += len(found) - len(known)
        if known:
            run[query] = _first(known, top_k)
    if not run:
        raise DataError(
            "the run holds no query of this collection with a document of its corpus; is it for "
            "another one?"
        )
    if unknown:
        warnings.append(f"{unknown} documents of the run are not in the corpus and are left out")
    lacking = len(dataset.queries) - len(run)
    if lacking:
        warnings.append(f"the run lacks {lacking} of {len(dataset.queries)} queries")
    return run


def _search(
    dataset: RetrievalDataset,
    stages: Sequence[str],
    top_k: int,
    cache_folder: Path,
    seconds: dict[str, float],
    show_progress: bool,
) -> dict[str, Run]:
    """Runs of the first stages named, and of their fusion where both are."""
    with _timed(seconds, "index"):
        embedder = EMBEDDER if "dense" in stages else None
        index = _open_index(dataset, embedder, cache_folder, show_progress)
    found: dict[str, dict[str, list[Document]]] = {}
    for name in stages:
        search = index.search_bm25 if name == "bm25" else index.search_dense
        with (
            _timed(seconds, name),
            progress_bar(f"Searching {name}", len(dataset.queries), show_progress) as advance,
        ):
            found[name] = {}
            for query, text in dataset.queries.items():
                found[name][query] = search(text, top_k=top_k)
                advance(1)
    if len(stages) > 1:
        joiner = DocumentJoiner(join_mode="reciprocal_rank_fusion", top_k=top_k)
        with _timed(seconds, "fusion"):
            found["fusion"] = {
                query: joiner.run([found[name][query] for name in stages])["documents"]
                for query in dataset.queries
            }
    return {
        name: {
            query: {document.id: document.score or 0.0 for document in documents}
            for query, documents in by_query.items()
            if documents
        }
        for name, by_query in found.items()
    }


def _open_index(
    dataset: RetrievalDataset, embedder: str | None, cache_folder: Path, show_progress: bool
) -> PassageIndex:
    """The index of the collection out of the cache; without an embedder, of its words alone."""
    digest = hashlib.sha256((embedder or "").encode())
    for document in dataset.documents:
        text = f"\0{document.id}\0{passage_text(document)}"
        digest.update(text.encode("utf-8", "surrogatepass"))
    folder = cache_folder / "indexes" / digest.hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with progress_bar("Waiting for the index", enabled=show_progress):
        alone = FileLock(f"{folder}.lock").acquire()  # another evaluation may be building it
    with alone:
        try:
            return PassageIndex.open(folder)
        except PassageIndexError:  # not built yet, or its building was killed
            return PassageIndex.build(
                folder, dataset.documents, embedder=embedder, show_progress=show_progress
            )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
