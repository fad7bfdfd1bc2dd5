"""Ways to score the passages of an answer for a claim, and what they are worth."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from trlm_retrieval.citation.search import SearchName, search
from trlm_retrieval.citation.support import ScoredHalf, SupportScorer
from trlm_retrieval.passage_index.bm25 import RankBM25
from trlm_retrieval.text.words import words

from ..measures import PerQuery
from ..methods import CROSS_ENCODER
from .data import Claim, halves
from .scorer import Scorer

MAIN_MEASURE = "top1"
MEASURES = (MAIN_MEASURE, "MRR", "precision", "recall")

Scores = list[np.ndarray]  # for each claim, one score for each passage of its answer


def _pairs(claims: Sequence[Claim]) -> list[tuple[str, str]]:
    return [(claim.text, passage) for claim in claims for passage in claim.passages]


def _by_claim(claims: Sequence[Claim], values: Sequence[float]) -> Scores:
    ends = np.cumsum([len(claim.passages) for claim in claims])
    return np.split(np.asarray(values, dtype=np.float64), ends[:-1])


def _random(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    generator = random.Random(0)
    return [np.array([generator.random() for _ in claim.passages]) for claim in claims]


def _overlap(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    """Share of the claim's distinct words that stand in the passage."""
    found = []
    for claim in claims:
        wanted = set(words(claim.text))
        share = [len(wanted & set(words(p))) / max(len(wanted), 1) for p in claim.passages]
        found.append(np.array(share))
    return found


def _bm25(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    return [
        np.asarray(RankBM25([Counter(words(p)) for p in c.passages]).scores(words(c.text)))
        for c in claims
    ]


def _dense(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    texts = list(dict.fromkeys(t for c in claims for t in (c.text, *c.passages)))
    vectors = dict(zip(texts, scorer.embedder.embed(texts, scorer.show_progress), strict=True))
    return [np.array([vectors[c.text] @ vectors[p] for p in c.passages]) for c in claims]


def _forward(claims: Sequence[Claim], scorer: Scorer, mean: bool) -> Scores:
    """log P(passage | claim), as a sum or for each token of the passage."""
    found = scorer.likelihoods(_pairs(claims), scorer.template("source"))
    return _by_claim(claims, [score.mean if mean else score.sum for score in found])


def _gain(claims: Sequence[Claim], scorer: Scorer, direction: ScoredHalf) -> Scores:
    """Gain over the prior, in nats for each token of the scored half."""
    found = scorer.support(direction).score(_pairs(claims))
    return _by_claim(claims, [support.gain for support in found])


def _search(
    claims: Sequence[Claim], scorer: Scorer, name: SearchName, direction: ScoredHalf
) -> Scores:
    """A search among the passages as it goes among the sentences of one."""
    tasks = [(claim.text, [f"{passage}\n" for passage in claim.passages]) for claim in claims]
    found = search(name, tasks, scorer.support(direction, whole=True))
    return [np.asarray(one.scores) for one in found]


def _default(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    """What TRLMCitationAttributor ships."""
    found = SupportScorer(scorer.likelihoods, scorer.template("claim")).score(_pairs(claims))
    return _by_claim(claims, [support.score for support in found])


def _cross_encoder(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    return _by_claim(claims, scorer.cross_encoder_scores(_pairs(claims)))


METHODS: dict[str, Callable[[Sequence[Claim], Scorer], Scores]] = {
    "random": _random,
    "overlap": _overlap,
    "bm25": _bm25,
    "dense": _dense,
    "forward_sum": partial(_forward, mean=False),
    "forward": partial(_forward, mean=True),
    "forward_gain": partial(_gain, direction="source"),
    "reverse": partial(_gain, direction="claim"),
    "default": _default,
    CROSS_ENCODER: _cross_encoder,
    "forward_binary": partial(_search, name="binary", direction="source"),
    "forward_exclusion": partial(_search, name="exclusion", direction="source"),
    "reverse_binary": partial(_search, name="binary", direction="claim"),
    "reverse_exclusion": partial(_search, name="exclusion", direction="claim"),
}
# The searches read all passages of an answer in one context: many times the work of the others.
DEFAULT_METHODS = tuple(list(METHODS)[:9])


def measure(claims: Sequence[Claim], scores: Scores) -> PerQuery:
    """Each measure of each claim; equal scores rank by the order of the passages."""
    values: PerQuery = {name: {} for name in MEASURES}
    half_of = halves([claim.group for claim in claims])
    fitted = {}
    for half in (0, 1):
        other = [k for k, claim in enumerate(claims) if half_of[claim.group] != half]
        fitted[half] = best_threshold([claims[k] for k in other], [scores[k] for k in other])
    for claim, row in zip(claims, scores, strict=True):
        ranked = np.argsort(-row, kind="stable").tolist()
        first = next(rank for rank, passage in enumerate(ranked, 1) if passage in claim.sources)
        cited = {i for i, score in enumerate(row) if score >= fitted[half_of[claim.group]]}
        right = len(cited & claim.sources)
        values["top1"][claim.id] = float(first == 1)
        values["MRR"][claim.id] = 1.0 / first
        values["precision"][claim.id] = right / len(cited) if cited else 0.0
        values["recall"][claim.id] = right / len(claim.sources)
    return values


def best_threshold(claims: Sequence[Claim], scores: Scores) -> float:
    """The score from which citing has the best F1 over all (claim, passage) pairs."""
    if not claims:
        return float("-inf")
    flat = np.concatenate(scores)
    right = np.concatenate([np.isin(np.arange(len(c.passages)), list(c.sources)) for c in claims])
    order = np.argsort(-flat, kind="stable")
    hits = np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(flat) + 1) + right.sum())
    descending = flat[order]
    f1[:-1][descending[:-1] == descending[1:]] = -1.0  # equal scores are cited together
    return float(descending[int(np.argmax(f1))])
