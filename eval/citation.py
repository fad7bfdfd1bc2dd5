"""Citations: which of an answer's passages supports each of its claims.

A method gives every passage of an answer a score for a claim. Right passages are those that a
human judged to support the claim.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trlm_retrieval.embedder import SentenceEmbedder
from trlm_retrieval.errors import DataError
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.passage_index.bm25 import RankBM25
from trlm_retrieval.passage_index.text import words
from trlm_retrieval.progress import progress_bar

from .dataset import read_json_lines
from .measures import PerQuery
from .result import Result, summarise
from .score_cache import ScoreCache

MAIN_MEASURE = "top1"
MEASURES = (MAIN_MEASURE, "MRR", "precision", "recall")

CLAIM_GIVEN_PASSAGE = Template(
    "claim", "forward", "Passage: {passage}\nA statement that this passage supports:", " {query}"
)
PASSAGE_GIVEN_CLAIM = Template(
    "support",
    "forward",
    "Statement: {query}\nA passage that supports this statement:",
    " {passage}",
)


@dataclass(frozen=True)
class Claim:
    """A claim of an answer, the answer's passages, and the indices of those that support it."""

    id: str
    answer: int
    text: str
    passages: tuple[str, ...]
    sources: frozenset[int]


Scores = list[np.ndarray]  # for each claim, one score for each passage of its answer


@dataclass
class Scorer:
    """What the methods need: the model, the cache of its scores, the embedder, the progress."""

    lm: TimeReversedLM
    cache: ScoreCache
    embedder: SentenceEmbedder
    max_passage_tokens: int | None
    show_progress: bool

    def log_likelihoods(
        self, claims: Sequence[Claim], template: Template, mean: bool, passages: bool = True
    ) -> Scores:
        """Log-likelihoods of the template's target; without passages, of the claim alone."""
        pairs = [(c.text, p) for c in claims for p in (c.passages if passages else ("",))]
        with progress_bar(f"Scoring {template.name}", len(pairs), self.show_progress) as advance:
            scores, _ = self.cache.score(self.lm, pairs, template, self.max_passage_tokens, advance)
        values = np.array([score.mean if mean else score.sum for score in scores])
        lengths = [len(c.passages) if passages else 1 for c in claims]
        return np.split(values, np.cumsum(lengths)[:-1])


def load_claims(path: Path) -> tuple[list[Claim], list[str]]:
    """Claims of a file of ``{question, claims: [{text, sources}], passages}`` lines, and warnings.

    :raises DataError: if the file is missing, a line is malformed, or nothing is left.
    """
    claims: list[Claim] = []
    bare = 0
    for number, entry in read_json_lines(path):
        try:
            passages = tuple(str(passage) for passage in entry["passages"])
            found = [(c["text"], frozenset(map(int, c["sources"]))) for c in entry["claims"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: needs claims (with text and sources) and passages"
            ) from error
        for position, (text, sources) in enumerate(found):
            if not all(0 <= source < len(passages) for source in sources):
                raise DataError(
                    f"{path}, line {number}: claim {position} cites a passage that is not there"
                )
            if sources:
                claims.append(Claim(f"{number}.{position}", number, text, passages, sources))
            else:
                bare += 1
    if not claims:
        raise DataError(f"{path} holds no claim with a source")
    return claims, [f"{bare} claims have no source and are left out"] if bare else []


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


def _forward(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    return scorer.log_likelihoods(claims, PASSAGE_GIVEN_CLAIM, mean=True)


def _reverse(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    """Gain of the claim over its prior, in nats for each token of the claim."""
    template = CLAIM_GIVEN_PASSAGE
    if scorer.lm.order == "reverse":
        template = scorer.lm.template("ba")
    given = scorer.log_likelihoods(claims, template, mean=True)
    prior = scorer.log_likelihoods(claims, template, mean=True, passages=False)
    return [likelihood - alone for likelihood, alone in zip(given, prior, strict=True)]


def _default(claims: Sequence[Claim], scorer: Scorer) -> Scores:
    """The reverse gain plus the word overlap: one reads meaning, the other rare names exactly."""
    return [
        gain + overlap
        for gain, overlap in zip(_reverse(claims, scorer), _overlap(claims, scorer), strict=True)
    ]


METHODS: dict[str, Callable[[Sequence[Claim], Scorer], Scores]] = {
    "random": _random,
    "overlap": _overlap,
    "bm25": _bm25,
    "dense": _dense,
    "forward": _forward,
    "reverse": _reverse,
    "default": _default,
}


def evaluate_citation(
    path: Path,
    lm: TimeReversedLM,
    model: str,
    methods: Sequence[str] = tuple(METHODS),
    embedder: SentenceEmbedder | None = None,
    max_passage_tokens: int | None = 512,
    cache_folder: Path = Path(".trlm-eval"),
    show_progress: bool = False,
) -> Result:
    """Evaluate methods on a file of claims.

    Precision and recall cite every passage that reaches a threshold; it is the one with the best
    F1 on the other half of the answers. A claim with no citation counts 0 in both.

    :raises DataError: if a method is unknown or the file is malformed.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise DataError(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    claims, warnings = load_claims(path)
    scorer = Scorer(
        lm,
        ScoreCache(cache_folder / "scores.sqlite"),
        embedder or SentenceEmbedder(),
        max_passage_tokens,
        show_progress,
    )
    seconds: dict[str, float] = {}
    found: dict[str, PerQuery] = {}
    for name in methods:
        start = time.perf_counter()
        scores = METHODS[name](claims, scorer)
        seconds[name] = round(time.perf_counter() - start, 3)
        found[name] = measure(claims, scores)
    comparisons = [(name, "overlap") for name in methods if name != "overlap"]
    return summarise(
        path.stem,
        model,
        found,
        MAIN_MEASURE,
        [*comparisons, ("reverse", "forward")],
        seconds,
        {"answers": len({claim.answer for claim in claims})},
        warnings,
    )


def measure(claims: Sequence[Claim], scores: Scores) -> PerQuery:
    """Each measure of each claim; equal scores rank by the order of the passages."""
    values: PerQuery = {name: {} for name in MEASURES}
    answers = sorted({claim.answer for claim in claims})
    half_of = {answer: position % 2 for position, answer in enumerate(answers)}
    fitted = {}
    for half in (0, 1):
        other = [k for k, claim in enumerate(claims) if half_of[claim.answer] != half]
        fitted[half] = best_threshold([claims[k] for k in other], [scores[k] for k in other])
    for claim, row in zip(claims, scores, strict=True):
        ranked = np.argsort(-row, kind="stable").tolist()
        first = next(rank for rank, passage in enumerate(ranked, 1) if passage in claim.sources)
        cited = {i for i, score in enumerate(row) if score >= fitted[half_of[claim.answer]]}
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
