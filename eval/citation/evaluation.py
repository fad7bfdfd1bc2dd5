"""Citations: which of an answer's passages supports each of its claims.

A method gives every passage of an answer a score for a claim. Right passages are those that a
human judged to support the claim. Where a file holds one source for each answer instead, cut into
sentences, :mod:`~trlm_retrieval.eval.citation.within` takes over.
"""

from collections.abc import Sequence
from pathlib import Path

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.models.embedder import SentenceEmbedder

from ..methods import choose_methods, run_methods
from ..result import Result, summarise
from ..sampling import draw
from ..score_cache import ScoreCache
from .claims import DEFAULT_METHODS, MAIN_MEASURE, METHODS, measure
from .data import holds_sentences, load_claims
from .scorer import Scorer, comparisons
from .within import evaluate_within


def evaluate_citation(
    path: Path,
    lm: TimeReversedLM,
    model: str,
    *,
    methods: Sequence[str] | None = None,
    cross_encoder: CrossEncoder | None = None,
    embedder: SentenceEmbedder | None = None,
    max_passage_tokens: int | None = 512,
    cache_folder: Path = Path(".trlm-eval"),
    answers: int | None = None,
    show_progress: bool = False,
) -> Result:
    """Evaluate methods on a file of answers.

    Precision and recall cite every passage that reaches a threshold; it is the one with the best
    F1 on the other half of the answers. A claim with no citation counts 0 in both.

    :param methods: names out of :data:`METHODS`, or out of
        :data:`~trlm_retrieval.eval.citation.within.METHODS` for a file of that shape. By default
        those that the model can do, without the cross-encoder and the costliest searches.
    :param cross_encoder: for the method of that name.
    :param answers: draw this many of the answers (by a fixed seed).
    :raises DataError: if a method is unknown or lacks its model, or the file is malformed.
    """
    scorer = Scorer(
        lm,
        ScoreCache(cache_folder / "scores.sqlite"),
        embedder or SentenceEmbedder(),
        max_passage_tokens,
        show_progress,
        cross_encoder,
    )
    if holds_sentences(path):
        return evaluate_within(path, scorer, model, methods, answers)
    chosen, notes = choose_methods(
        methods, DEFAULT_METHODS, METHODS, scorer, scorer.template("source")
    )
    claims, warnings = load_claims(path)
    kept = set(draw(sorted({claim.group for claim in claims}), answers))
    claims = [claim for claim in claims if claim.group in kept]
    found, seconds = run_methods(
        chosen, lambda name: measure(claims, METHODS[name](claims, scorer))
    )
    return summarise(
        path.stem,
        model,
        found,
        MAIN_MEASURE,
        comparisons(chosen),
        seconds,
        {"answers": len(kept), "max_passage_tokens": max_passage_tokens},
        [*warnings, *notes, *scorer.warnings],
        "claims",
    )
