"""Citations within one source: which of its sentences an answer rests on.

Every sentence of an answer searches the source for its support; what they find together is
compared with the sentences that annotators selected.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trlm_retrieval.citation.search import DEFAULT_SEARCH, SEARCHES, SearchName, search
from trlm_retrieval.citation.support import OVERLAP_WEIGHT, ScoredHalf, shared_words, word_sets
from trlm_retrieval.errors import DataError

from ..measures import PerQuery
from ..methods import CROSS_ENCODER, choose_methods, run_methods
from ..result import Result, summarise
from ..sampling import draw
from .data import Grounded, load_grounded
from .scorer import SCORED_HALVES, Scorer, comparisons

MAIN_MEASURE = "F1"

Cited = list[tuple[set[int], int]]  # for each answer, the sentences found and the model calls


def _everything(answers: Sequence[Grounded], scorer: Scorer) -> Cited:
    return [(set(range(len(one.sentences))), 0) for one in answers]


def _first(answers: Sequence[Grounded], scorer: Scorer) -> Cited:
    """As many sentences from the beginning as the answer has."""
    return [(set(range(min(len(one.answer), len(one.sentences)))), 0) for one in answers]


def _overlap(answers: Sequence[Grounded], scorer: Scorer) -> Cited:
    """For each sentence of the answer the one that shares most words with it."""
    found: Cited = []
    for one in answers:
        there = [word_sets(sentence) for sentence in one.sentences]
        rows = [[shared_words(word_sets(claim), s) for s in there] for claim in one.answer]
        found.append(({row.index(max(row)) for row in rows}, 0))
    return found


def _search(
    answers: Sequence[Grounded],
    scorer: Scorer,
    name: SearchName,
    direction: ScoredHalf,
    overlap_weight: float = 0.0,
) -> Cited:
    tasks = [
        (claim, [f"{sentence} " for sentence in one.sentences])
        for one in answers
        for claim in one.answer
    ]
    results = iter(search(name, tasks, scorer.support(direction, overlap_weight)))
    found: Cited = []
    for one in answers:
        parts = [next(results) for _ in one.answer]
        cited = {i for part in parts for i in range(part.start, part.stop)}
        found.append((cited, sum(part.calls for part in parts)))
    return found


def _cross_encoder(answers: Sequence[Grounded], scorer: Scorer) -> Cited:
    """For each sentence of the answer the one that the cross-encoder scores highest."""
    pairs = [
        (claim, sentence) for one in answers for claim in one.answer for sentence in one.sentences
    ]
    scores = iter(scorer.cross_encoder_scores(pairs))
    found: Cited = []
    for one in answers:
        rows = [[next(scores) for _ in one.sentences] for _ in one.answer]
        cited = {row.index(max(row)) for row in rows}
        found.append((cited, len(one.answer) * len(one.sentences)))
    return found


METHODS: dict[str, Callable[[Sequence[Grounded], Scorer], Cited]] = {
    "everything": _everything,
    "first": _first,
    "overlap": _overlap,
    **{
        f"{order}_{name}": partial(_search, name=name, direction=direction)
        for order, direction in SCORED_HALVES
        for name in SEARCHES
    },
    **{
        f"default_{name}": partial(
            _search, name=name, direction="claim", overlap_weight=OVERLAP_WEIGHT
        )
        for name in SEARCHES
        if name != DEFAULT_SEARCH
    },
    "default": partial(
        _search, name=DEFAULT_SEARCH, direction="claim", overlap_weight=OVERLAP_WEIGHT
    ),
    CROSS_ENCODER: _cross_encoder,
}
DEFAULT_METHODS = tuple(name for name in METHODS if name != CROSS_ENCODER)


def evaluate_within(
    path: Path, scorer: Scorer, model: str, methods: Sequence[str] | None, number: int | None
) -> Result:
    """Evaluate searches on a file of answers with one source each.

    ``calls`` is the mean number of model calls for an answer. Answers without a selected sentence
    have nothing to be found and are left out.

    :param methods: names out of :data:`METHODS`; by default all that the model can do, without
        the cross-encoder.
    :param number: draw this many of the answers.
    :raises DataError: if a method is unknown or lacks its model, or the file is malformed.
    """
    chosen, notes = choose_methods(
        methods, DEFAULT_METHODS, METHODS, scorer, scorer.template("source")
    )
    loaded, warnings = load_grounded(path)
    answers = [one for one in loaded if one.selected and one.answer]
    if not answers:
        raise DataError(f"{path} holds no answer with a selected sentence")
    left_out = len(loaded) - len(answers)
    if left_out:
        warnings.append(f"{left_out} answers have no selected sentence and are left out")
    kept = set(draw(sorted(one.id for one in answers), number))
    answers = [one for one in answers if one.id in kept]
    found, seconds = run_methods(
        chosen, lambda name: measure(answers, METHODS[name](answers, scorer))
    )
    return summarise(
        path.stem,
        model,
        found,
        MAIN_MEASURE,
        comparisons(chosen),
        seconds,
        {"answers": len(answers), "sentences": sum(len(one.sentences) for one in answers)},
        [*warnings, *notes, *scorer.warnings],
        "answers",
    )


def measure(answers: Sequence[Grounded], cited: Cited) -> PerQuery:
    """Precision, recall and F1 of the sentences found, and the model calls, for each answer."""
    values: PerQuery = {name: {} for name in (MAIN_MEASURE, "precision", "recall", "calls")}
    for one, (found, calls) in zip(answers, cited, strict=True):
        right = len(found & one.selected)
        values["F1"][one.id] = 2 * right / (len(found) + len(one.selected))
        values["precision"][one.id] = right / len(found) if found else 0.0
        values["recall"][one.id] = right / len(one.selected)
        values["calls"][one.id] = float(calls)
    return values
