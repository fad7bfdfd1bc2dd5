"""Fit the support below which a claim counts as unsupported, and measure how often that errs.

    python -m trlm_retrieval.eval.studies.calibrate_citations --expertqa FILE --clapnq FILE

Four tasks, each with texts that their sources support and texts that they do not:

- claims: ExpertQA's claims, judged completely supported, with the passages of their own question;
  against the same claims with the passages of another question. The best passage counts.
- passages: the same claims; a passage judged right against the claim's other passages, which are
  on the same subject.
- answers: the sentences of ClapNQ's answers with their own source, against that of another
  question.
- questions: ClapNQ's questions with a source that answers them, against questions with a source
  that does not; here the question itself is what is scored.

A threshold is fitted on one half of the questions, where it errs least: the mean of the share of
supported texts below it and of unsupported texts above it. The other half reports these shares.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from trlm_retrieval.citation.support import OVERLAP_WEIGHT, UNSUPPORTED_BELOW, SupportScorer
from trlm_retrieval.lm import DIRECTIONS, TimeReversedLM
from trlm_retrieval.models.embedder import SentenceEmbedder

from ..citation.data import Claim, Grounded, halves, load_claims, load_grounded
from ..citation.scorer import Scorer
from ..score_cache import ScoreCache


@dataclass(frozen=True)
class Example:
    """A text with sources, of which the best counts, and whether they support it."""

    group: str
    text: str
    sources: tuple[str, ...]
    supported: bool


@dataclass(frozen=True)
class Errors:
    """Shares of supported texts below a threshold, and of unsupported texts at or above it."""

    missed: float
    wrong: float


def claim_examples(claims: Sequence[Claim]) -> list[Example]:
    """Claims with the passages of their own question, and of the next one in the same half."""
    half_of = halves([claim.group for claim in claims])
    passages = {claim.group: claim.passages for claim in claims}
    following: dict[str, str] = {}
    for half in (0, 1):
        groups = [group for group in half_of if half_of[group] == half]
        following |= dict(zip(groups, [*groups[1:], groups[0]], strict=True))
    return [
        Example(claim.group, claim.text, passages[group], supported)
        for claim in claims
        for group, supported in ((claim.group, True), (following[claim.group], False))
        if supported or group != claim.group
    ]


def passage_examples(claims: Sequence[Claim]) -> list[Example]:
    """Each claim with each of its question's passages alone."""
    return [
        Example(claim.group, claim.text, (passage,), position in claim.sources)
        for claim in claims
        for position, passage in enumerate(claim.passages)
    ]


def answer_examples(answers: Sequence[Grounded]) -> list[Example]:
    """Sentences of answers with their own source, and with the next answer's in the same half."""
    answered = [one for one in answers if one.answer]
    claims = [
        Claim(f"{one.id}.{i}", one.id, text, (one.source,), frozenset({0}))
        for one in answered
        for i, text in enumerate(one.answer)
    ]
    return claim_examples(claims)


def question_examples(answers: Sequence[Grounded]) -> list[Example]:
    """Questions with a source that answers them or does not."""
    return [
        Example(one.id, one.question, (one.source,), bool(one.selected))
        for one in sorted(answers, key=lambda one: bool(one.selected))
    ]


def best_supports(examples: Sequence[Example], scorer: SupportScorer) -> np.ndarray:
    """The support of each text by the best of its sources, shape (examples,)."""
    pairs = [(example.text, source) for example in examples for source in example.sources]
    scores = [support.score for support in scorer.score(pairs)]
    ends = np.cumsum([len(example.sources) for example in examples])
    return np.array([part.max() for part in np.split(np.array(scores), ends[:-1])])


def fit(scores: np.ndarray, supported: np.ndarray) -> float:
    """The threshold with the fewest errors of both kinds on average; midway between two scores."""
    ordered = np.unique(scores)
    candidates = [-np.inf, *(ordered[1:] + ordered[:-1]) / 2]
    return float(min(candidates, key=lambda t: sum(_shares(scores, supported, t))))


def errors(scores: np.ndarray, supported: np.ndarray, threshold: float) -> Errors:
    """How a threshold errs."""
    return Errors(*_shares(scores, supported, threshold))


def _shares(scores: np.ndarray, supported: np.ndarray, threshold: float) -> tuple[float, float]:
    return (
        float((scores[supported] < threshold).mean()),
        float((scores[~supported] >= threshold).mean()),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--expertqa", type=Path, required=True)
    parser.add_argument("--clapnq", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    claims, _ = load_claims(arguments.expertqa)
    answers, _ = load_grounded(arguments.clapnq)
    cache = ScoreCache(arguments.cache_dir / "scores.sqlite")
    scorer = Scorer(lm, cache, SentenceEmbedder(), 512, show_progress=True)
    support = scorer.support("claim", OVERLAP_WEIGHT)
    question = SupportScorer(scorer.likelihoods, DIRECTIONS[lm.default_direction], OVERLAP_WEIGHT)
    table = Table(
        "task",
        "supported",
        "unsupported",
        "ROC AUC",
        "fitted on",
        "threshold",
        "missed",
        "wrong",
        f"missed at {UNSUPPORTED_BELOW}",
        f"wrong at {UNSUPPORTED_BELOW}",
        box=None,
    )
    for name, examples, how in (
        ("claims", claim_examples(claims), support),
        ("passages", passage_examples(claims), support),
        ("answers", answer_examples(answers), support),
        ("questions", question_examples(answers), question),
    ):
        scores = best_supports(examples, how)
        supported = np.array([example.supported for example in examples])
        half_of = halves([example.group for example in examples])
        half = np.array([half_of[example.group] for example in examples])
        for fitted_on in (0, 1):
            here, there = half == fitted_on, half != fitted_on
            threshold = fit(scores[here], supported[here])
            found = errors(scores[there], supported[there], threshold)
            shipped = errors(scores[there], supported[there], UNSUPPORTED_BELOW)
            table.add_row(
                name,
                str(int(supported[there].sum())),
                str(int((~supported[there]).sum())),
                f"{roc_auc_score(supported[there], scores[there]):.3f}",
                ("first half", "second half")[fitted_on],
                f"{threshold:.2f}",
                *(f"{value:.1%}" for value in (found.missed, found.wrong)),
                *(f"{value:.1%}" for value in (shipped.missed, shipped.wrong)),
            )
    Console(width=140).print(table)
    print("Counts, area and shares are those of the half that the threshold was not fitted on.")


if __name__ == "__main__":
    main()
