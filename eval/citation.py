"""Citations: which of an answer's passages supports each of its claims.

A method gives every passage of an answer a score for a claim. Right passages are those that a
human judged to support the claim. Where a file holds one source for each answer instead, cut into
sentences, :mod:`~trlm_retrieval.eval.citation_within` takes over.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from trlm_retrieval.citation import (
    GainDirection,
    SearchName,
    SupportScorer,
    search,
    support_template,
)
from trlm_retrieval.embedder import SentenceEmbedder
from trlm_retrieval.errors import DataError
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.passage_index.bm25 import RankBM25
from trlm_retrieval.passage_index.text import words
from trlm_retrieval.progress import progress_bar

from .citation_data import Claim, halves, holds_sentences, load_claims
from .measures import PerQuery
from .result import Result, run_methods, summarise
from .score_cache import Score, ScoreCache

MAIN_MEASURE = "top1"
MEASURES = (MAIN_MEASURE, "MRR", "precision", "recall")

Scores = list[np.ndarray]  # for each claim, one score for each passage of its answer


@dataclass
class Scorer:
    """What the methods need: the model, the cache of its scores, the embedder, the progress."""

    lm: TimeReversedLM
    cache: ScoreCache
    embedder: SentenceEmbedder
    max_passage_tokens: int | None
    show_progress: bool

    def likelihoods(
        self, pairs: Sequence[tuple[str, str]], template: Template, whole: bool = False
    ) -> list[Score]:
        """Likelihoods of (claim, source) pairs, from the cache where they are known.

        :param whole: do not cut sources at ``max_passage_tokens``.
        """
        most = None if whole else self.max_passage_tokens
        with progress_bar(f"Scoring {template.name}", len(pairs), self.show_progress) as advance:
            scores, _ = self.cache.score(self.lm, pairs, template, most, advance)
        return scores

    def support(
        self, direction: GainDirection, overlap_weight: float = 0.0, whole: bool = False
    ) -> SupportScorer:
        """A scorer of support in a direction, for pairs of this evaluation."""
        template = support_template(direction, self.lm.default_direction == "ba")
        likelihoods = partial(self.likelihoods, whole=whole)
        return SupportScorer(likelihoods, template, overlap_weight)


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
    found = scorer.likelihoods(_pairs(claims), scorer.support("source").template)
    return _by_claim(claims, [score.mean if mean else score.sum for score in found])


def _gain(claims: Sequence[Claim], scorer: Scorer, direction: GainDirection) -> Scores:
    """Gain over the prior, in nats for each token of the scored half."""
    found = scorer.support(direction).score(_pairs(claims))
    return _by_claim(claims, [support.gain for support in found])


def _search(
    claims: Sequence[Claim], scorer: Scorer, name: SearchName, direction: GainDirection
) -> Scores:
    """A search among the passages as it goes among the sentences of one."""
    tasks = [(claim.text, [f"{passage}\n" for passage in claim.passages]) for claim in claims]
    found = search(name, tasks, scorer.support(direction, whole=True))
    return [np.asarray(one.scores) for one in found]


def _default(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    """What TRLMCitationAttributor ships."""
    template = support_template("claim", scorer.lm.default_direction == "ba")
    found = SupportScorer(scorer.likelihoods, template).score(_pairs(claims))
    return _by_claim(claims, [support.score for support in found])


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
    "forward_binary": partial(_search, name="binary", direction="source"),
    "forward_exclusion": partial(_search, name="exclusion", direction="source"),
    "reverse_binary": partial(_search, name="binary", direction="claim"),
    "reverse_exclusion": partial(_search, name="exclusion", direction="claim"),
}
# The searches read all passages of an answer in one context: many times the work of the others.
DEFAULT_METHODS = tuple(list(METHODS)[:9])


def evaluate_citation(
    path: Path,
    lm: TimeReversedLM,
    model: str,
    methods: Sequence[str] | None = None,
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
        :data:`~trlm_retrieval.eval.citation_within.METHODS` for a file of that shape.
    :param answers: draw this many of the answers (by a fixed seed).
    :raises DataError: if a method is unknown or the file is malformed.
    """
    scorer = Scorer(
        lm,
        ScoreCache(cache_folder / "scores.sqlite"),
        embedder or SentenceEmbedder(),
        max_passage_tokens,
        show_progress,
    )
    if holds_sentences(path):
        from .citation_within import evaluate_within

        return evaluate_within(path, scorer, model, methods, answers)
    methods = known(methods or DEFAULT_METHODS, METHODS)
    claims, warnings = load_claims(path)
    kept = draw(list(dict.fromkeys(claim.group for claim in claims)), answers)
    claims = [claim for claim in claims if claim.group in kept]
    found, seconds = run_methods(
        methods, lambda name: measure(claims, METHODS[name](claims, scorer))
    )
    return summarise(
        path.stem,
        model,
        found,
        MAIN_MEASURE,
        comparisons(methods),
        seconds,
        {"answers": len(kept), "max_passage_tokens": max_passage_tokens},
        warnings,
        "claims",
    )


def comparisons(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Each method with the overlap of words, and each reverse one with its forward twin."""
    pairs = [(name, "overlap") for name in methods]
    pairs += [(name, name.replace("reverse", "forward")) for name in methods]
    return [(one, other) for one, other in pairs if one != other]


def known(methods: Sequence[str], there: Mapping[str, object]) -> Sequence[str]:
    """The methods.

    :raises DataError: if one is unknown.
    """
    unknown = [name for name in methods if name not in there]
    if unknown:
        raise DataError(f"unknown method {unknown[0]!r}; there are {', '.join(there)}")
    return methods


def draw(names: Sequence[str], number: int | None) -> set[str]:
    """All names, or that many of them."""
    if number is None or number >= len(names):
        return set(names)
    return set(random.Random(0).sample(sorted(names), number))


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
