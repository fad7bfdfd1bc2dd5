"""Retrieval: first stages, their fusion, and what reranking by likelihood makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trlm_retrieval.components.fusion import choose_weight, combine
from trlm_retrieval.errors import DataError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset, own_documents
from ..measures import MAIN_MEASURE, per_query
from ..result import Result, summarise
from ..runs import Run, ranked
from ..sampling import draw
from ..score_cache import Score, ScoreCache
from ..seconds import timed
from .first_stage import FIRST_STAGES, best, given_run, search

SYSTEMS = ("bm25", "dense", "fusion", "forward", "reverse", "default")
RERANKED = ("forward", "reverse", "default")  # those that need a model and the fusion
DEFAULT_RERANK = 20

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
    drawn = draw(sorted(dataset.queries), number, seed)
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
    *,
    top_k: int = 100,
    rerank: int = DEFAULT_RERANK,
    max_passage_tokens: int | None = 512,
    cache_folder: Path = Path(".trlm-eval"),
    first_stage_run: Run | None = None,
    first_stage_weight: float | None = None,
    relevance_level: int = 1,
    show_progress: bool = False,
) -> RetrievalEvaluation:
    """Evaluate systems on a collection.

    :param lm: the model; None where no system needs one.
    :param model: its name, for the result.
    :param systems: names out of :data:`SYSTEMS`; only first stages that they need are searched.
    :param top_k: candidates that the first stages find.
    :param rerank: how many of them are scored by the model; the others keep their order below.
    :param first_stage_run: reranked instead of a search; then ``fusion`` is this run.
    :param first_stage_weight: of the first stage's scores in ``default``; by default the ranker's.
    :param relevance_level: see :func:`~trlm_retrieval.eval.measures.measures`.
    :raises DataError: if a system is unknown or none is named, or the run fits no query.
    """
    _check(systems, lm)
    weight = choose_weight(first_stage_weight, lm.first_stage_weight if lm else None)
    dataset, own = _without_own(dataset)
    warnings = [*dataset.warnings, *_unreachable(dataset, relevance_level)]
    seconds: dict[str, float] = {}
    depth = top_k
    if first_stage_run is not None:
        runs = {"fusion": given_run(first_stage_run, dataset, own, top_k, warnings)}
        depth = min(top_k, max(map(len, first_stage_run.values())))
        first_stage = "given run"
    else:
        fused = bool({"fusion", *RERANKED} & set(systems))
        stages = [name for name in FIRST_STAGES if fused or name in systems]
        runs = search(dataset, stages, own, top_k, cache_folder, seconds, show_progress)
        first_stage = " + ".join(FIRST_STAGES[name] for name in stages)
    candidates = {query: best(found, rerank) for query, found in runs.get("fusion", {}).items()}
    likelihoods: dict[str, Scores] = {}
    counts: dict[str, int] = {}
    if lm is not None:
        cache = ScoreCache(cache_folder / "scores.sqlite")
        for name in _directions(systems):
            with timed(seconds, name):
                likelihoods[name], counts[name] = _score(
                    dataset, lm, name, candidates, max_passage_tokens, cache, show_progress
                )
            warnings += _cut(name, likelihoods[name])
    for name, run in _reranked(likelihoods, candidates, weight).items():
        runs[name] = {query: _above(run[query], runs["fusion"][query]) for query in run}
    runs = _shown(runs, systems)
    found = {
        name: per_query(run, dataset.qrels, depth, relevance_level=relevance_level)
        for name, run in runs.items()
    }
    result = summarise(
        dataset.name,
        model,
        found,
        MAIN_MEASURE,
        [*((name, "fusion") for name in found if name != "fusion"), ("reverse", "forward")],
        seconds,
        {
            "top_k": top_k,
            "rerank": min(rerank, top_k),
            "max_passage_tokens": max_passage_tokens,
            "first_stage_weight": weight,
            "relevance_level": relevance_level,
            "documents": len(dataset.documents),
            "pairs_scored": counts,
            "first_stage": first_stage,
        },
        warnings + _silent(runs, dataset),
    )
    return RetrievalEvaluation(result, runs, dataset, likelihoods)


def _check(systems: Sequence[str], lm: TimeReversedLM | None) -> None:
    there = ", ".join(SYSTEMS)
    if not systems:
        raise DataError(f"no system is asked for; there are {there}")
    if unknown := [name for name in systems if name not in SYSTEMS]:
        raise DataError(f"unknown system {unknown[0]!r}; there are {there}")
    if lm is None and (needs := [name for name in RERANKED if name in systems]):
        raise DataError(f"system {needs[0]!r} needs a model")


def _without_own(dataset: RetrievalDataset) -> tuple[RetrievalDataset, frozenset[str]]:
    """The collection where no query is judged against itself, and the queries that would be."""
    own = own_documents(dataset)
    if not own:
        return dataset, own
    note = (
        f"{len(own)} queries stand in the corpus as documents with their id and text; each is left "
        "out of its own results"
    )
    qrels = {
        query: {
            document: g for document, g in grades.items() if query not in own or document != query
        }
        for query, grades in dataset.qrels.items()
    }
    return replace(dataset, qrels=qrels, warnings=[*dataset.warnings, note]), own


def _unreachable(dataset: RetrievalDataset, level: int) -> list[str]:
    lacking = sum(max(g.values(), default=0) < level for g in dataset.qrels.values())
    if not lacking:
        return []
    return [
        f"{lacking} queries have no document of grade {level} or more and count 0 in all measures "
        "but nDCG"
    ]


def _directions(systems: Sequence[str]) -> list[str]:
    """What has to be scored for the systems."""
    wanted = {"reverse": {"reverse", "default"}, "forward": {"forward"}}
    return [name for name, needing in wanted.items() if needing & set(systems)]


def _score(
    dataset: RetrievalDataset,
    lm: TimeReversedLM,
    name: str,
    candidates: Run,
    max_passage_tokens: int | None,
    cache: ScoreCache,
    show_progress: bool,
) -> tuple[Scores, int]:
    """Scores of each query's candidates, and how many of them had to be computed."""
    texts = {document.id: passage_text(document) for document in dataset.documents}
    pairs = [(query, document) for query, found in candidates.items() for document in found]
    with progress_bar(f"Scoring {name}", len(pairs), show_progress) as advance:
        scores, computed = cache.score(
            lm,
            [(dataset.queries[query], texts[document]) for query, document in pairs],
            lm.template("forward" if name == "forward" else None),
            max_passage_tokens,
            advance,
        )
    by_query: Scores = {query: {} for query in candidates}
    for (query, document), score in zip(pairs, scores, strict=True):
        by_query[query][document] = score
    return by_query, computed


def _cut(name: str, likelihoods: Scores) -> list[str]:
    scores = [score for found in likelihoods.values() for score in found.values()]
    cut = sum(score.cut_tokens > 0 for score in scores)
    return [f"{name}: {cut} of {len(scores)} passages were cut to fit"] if cut else []


def _reranked(likelihoods: Mapping[str, Scores], candidates: Run, weight: float) -> dict[str, Run]:
    """Runs of the scored candidates, from what was scored."""
    runs: dict[str, Run] = {}
    if reverse := likelihoods.get("reverse"):
        runs["reverse"] = {q: {d: s.sum for d, s in found.items()} for q, found in reverse.items()}
        runs["default"] = with_first_stage(runs["reverse"], candidates, weight)
    if forward := likelihoods.get("forward"):
        runs["forward"] = {q: {d: s.mean for d, s in found.items()} for q, found in forward.items()}
        runs["forward_sum"] = {
            q: {d: s.sum for d, s in found.items()} for q, found in forward.items()
        }
    return runs


def with_first_stage(scored: Run, candidates: Run, weight: float) -> Run:
    """Scores of the model mixed with those of the first stage, as the ranker mixes them.

    :param scored: for each query the candidates that the model scored, in the candidates' order.
    :param weight: of the first stage.
    """
    mixed: Run = {}
    for query, found in scored.items():
        scores = combine(list(candidates[query].values()), list(found.values()), weight)
        mixed[query] = dict(zip(found, scores.tolist(), strict=True))
    return mixed


def _above(reranked: dict[str, float], candidates: dict[str, float]) -> dict[str, float]:
    """Reranked documents, and below them the candidates that were not scored, in their order."""
    rest = [document for document in ranked(candidates) if document not in reranked]
    floor = min(reranked.values(), default=0.0)
    return reranked | {document: floor - rank for rank, document in enumerate(rest, start=1)}


def _shown(runs: Mapping[str, Run], systems: Sequence[str]) -> dict[str, Run]:
    """The runs of the systems asked for, and those they are compared with, in one order."""
    shown = {*systems, "fusion", *(["forward_sum"] if "forward" in systems else [])}
    return {name: runs[name] for name in _ROWS if name in runs and name in shown}


def _silent(runs: Mapping[str, Run], dataset: RetrievalDataset) -> list[str]:
    """Which runs found nothing for how many queries."""
    silent: dict[int, list[str]] = {}
    for name, run in runs.items():
        silent.setdefault(sum(not run.get(query) for query in dataset.qrels), []).append(name)
    return [
        f"{', '.join(names)}: {number} queries found nothing and count 0"
        for number, names in silent.items()
        if number
    ]
