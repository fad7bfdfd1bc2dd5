"""Retrieval: first stages, their fusion, and what reranking by likelihood makes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from trlm_retrieval.components.fusion import choose_weight, combine
from trlm_retrieval.errors import DataError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.models.source import DEFAULT_EMBEDDER
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset, own_documents
from ..measures import MAIN_MEASURE, per_query
from ..methods import CROSS_ENCODER, that_can_run
from ..result import Result, summarise, timed
from ..runs import Run, ranked
from ..sampling import draw
from ..score_cache import Score, ScoreCache, cut_note
from .first_stage import BOTH, best, given_run, named, search

SYSTEMS = ("bm25", "dense", "fusion", "forward", "reverse", "default", CROSS_ENCODER)
NEED_MODEL = ("forward", "reverse", "default")
DEFAULT_RERANK = 20

# Shown beside the system that they are another form of.
_BESIDE = {"forward": "forward_sum", "cross-encoder": "cross-encoder mixed"}
_ROWS = (
    "bm25",
    "dense",
    "fusion",
    "forward_sum",
    "forward",
    "cross-encoder",
    "cross-encoder mixed",
    "reverse",
    "default",
)

Scores = dict[str, dict[str, Score]]
Scoring = Callable[..., tuple[list[Score], int]]  # takes pairs and progress


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
    systems: Sequence[str] | None = None,
    *,
    cross_encoder: CrossEncoder | None = None,
    embedder: str = DEFAULT_EMBEDDER,
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
        None runs all but the cross-encoder, as far as the model can.
    :param cross_encoder: for the system of that name, alone and mixed with the first stage as
        ``default`` is.
    :param embedder: of the dense first stage.
    :param top_k: candidates that the first stages find.
    :param rerank: how many of them are scored by the model; the others keep their order below.
    :param first_stage_run: reranked instead of a search; then ``fusion`` is this run.
    :param first_stage_weight: of the first stage's scores in ``default``; by default the ranker's.
    :param relevance_level: see :func:`~trlm_retrieval.eval.measures.measures`.
    :raises DataError: if a system is unknown or none is named, or the run fits no query.
    :raises ModelError: if the model cannot score forwards, and ``forward`` is named.
    """
    notes: list[str] = []
    if systems is None:
        without_peer = [name for name in SYSTEMS if name != CROSS_ENCODER]
        systems = without_peer
        if lm is not None:
            systems, notes = that_can_run(without_peer, lm, "forward")
    _check(systems, lm, cross_encoder)
    weight = choose_weight(first_stage_weight, lm.first_stage_weight if lm else None)
    dataset, own = _without_own(dataset)
    warnings = [*notes, *dataset.warnings, *_unreachable(dataset, relevance_level)]
    seconds: dict[str, float] = {}
    depth = top_k
    if first_stage_run is not None:
        runs = {"fusion": given_run(first_stage_run, dataset, own, top_k, warnings)}
        depth = min(top_k, max(map(len, first_stage_run.values())))
        first_stage = "given run"
    else:
        fused = not set(BOTH).issuperset(systems)
        stages = [name for name in BOTH if fused or name in systems]
        runs = search(dataset, stages, own, top_k, embedder, cache_folder, seconds, show_progress)
        first_stage = named(stages, embedder)
    candidates = {query: best(found, rerank) for query, found in runs.get("fusion", {}).items()}
    likelihoods: dict[str, Scores] = {}
    counts: dict[str, int] = {}
    for name in _scored(systems):
        cache = ScoreCache(cache_folder / "scores.sqlite")
        compute = _scoring(name, lm, cross_encoder, max_passage_tokens, cache)
        with timed(seconds, name):
            likelihoods[name], counts[name] = score_candidates(
                dataset, name, candidates, compute, show_progress
            )
        scores = [score for of in likelihoods[name].values() for score in of.values()]
        warnings += cut_note(name, [score.cut_tokens > 0 for score in scores])
    for name, run in reranked(likelihoods, candidates, weight).items():
        runs[name] = {query: above(run[query], runs["fusion"][query]) for query in run}
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
        [
            *((name, "fusion") for name in found if name != "fusion"),
            ("reverse", "forward"),
            ("reverse", "cross-encoder"),
            ("default", "cross-encoder"),
            ("default", "cross-encoder mixed"),
        ],
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


def _check(
    systems: Sequence[str], lm: TimeReversedLM | None, cross_encoder: CrossEncoder | None
) -> None:
    there = ", ".join(SYSTEMS)
    if not systems:
        raise DataError(f"no system is asked for; there are {there}")
    if unknown := [name for name in systems if name not in SYSTEMS]:
        raise DataError(f"unknown system {unknown[0]!r}; there are {there}")
    if lm is None and (needs := [name for name in NEED_MODEL if name in systems]):
        raise DataError(f"system {needs[0]!r} needs a model")
    if lm is not None and "forward" in systems:
        lm.template("forward")
    if cross_encoder is None and CROSS_ENCODER in systems:
        raise DataError("system 'cross-encoder' needs a cross-encoder")


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


def _scored(systems: Sequence[str]) -> list[str]:
    """What has to be scored for the systems."""
    wanted = {
        "reverse": {"reverse", "default"},
        "forward": {"forward"},
        "cross-encoder": {"cross-encoder"},
    }
    return [name for name, needing in wanted.items() if needing & set(systems)]


def _scoring(
    name: str,
    lm: TimeReversedLM | None,
    cross_encoder: CrossEncoder | None,
    max_passage_tokens: int | None,
    cache: ScoreCache,
) -> Scoring:
    """How (query, passage) pairs are scored."""
    if name == "cross-encoder":
        assert cross_encoder is not None  # _check has seen to it
        return partial(cache.cross_encoder, cross_encoder)
    assert lm is not None
    template = lm.template("forward" if name == "forward" else None)
    return partial(cache.score, lm, template=template, max_passage_tokens=max_passage_tokens)


def score_candidates(
    dataset: RetrievalDataset, name: str, candidates: Run, compute: Scoring, show_progress: bool
) -> tuple[Scores, int]:
    """Scores of each query's candidates, and how many of them had to be computed."""
    texts = {document.id: passage_text(document) for document in dataset.documents}
    pairs = [(query, document) for query, found in candidates.items() for document in found]
    with progress_bar(f"Scoring {name}", len(pairs), show_progress) as advance:
        scores, computed = compute(
            pairs=[(dataset.queries[query], texts[document]) for query, document in pairs],
            progress=advance,
        )
    by_query: Scores = {query: {} for query in candidates}
    for (query, document), score in zip(pairs, scores, strict=True):
        by_query[query][document] = score
    return by_query, computed


def reranked(likelihoods: Mapping[str, Scores], candidates: Run, weight: float) -> dict[str, Run]:
    """Runs of the scored candidates, from what was scored."""
    runs: dict[str, Run] = {}
    for name, mixed in (("reverse", "default"), ("cross-encoder", "cross-encoder mixed")):
        if scores := likelihoods.get(name):
            runs[name] = {q: {d: s.sum for d, s in found.items()} for q, found in scores.items()}
            runs[mixed] = with_first_stage(runs[name], candidates, weight)
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


def above(reranked: dict[str, float], candidates: dict[str, float]) -> dict[str, float]:
    """Reranked documents, and below them the candidates that were not scored, in their order."""
    rest = [document for document in ranked(candidates) if document not in reranked]
    floor = min(reranked.values(), default=0.0)
    return reranked | {document: floor - rank for rank, document in enumerate(rest, start=1)}


def _shown(runs: Mapping[str, Run], systems: Sequence[str]) -> dict[str, Run]:
    """The runs of the systems asked for, and those they are compared with, in one order."""
    shown = {*systems, "fusion", *(_BESIDE[name] for name in systems if name in _BESIDE)}
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
