"""Which text supports a claim, and which sentences of it: scores and searches, without Haystack.

A claim is a sentence of an answer, a source is a text that may support it. How much one tells of
the other is their pointwise mutual information, and a language model reads it in two directions:

========== =================================== ==========================================
direction  gain                                the model reads, then scores
========== =================================== ==========================================
``claim``  log P(claim | source) - log P(claim)    the source, then the claim
``source`` log P(source | claim) - log P(source)   the claim, then the source
========== =================================== ==========================================

Subtracting the prior makes claims and sources of different length and fluency compare; dividing
by the tokens of the scored half does the rest.

Three searches, after algorithms 7 to 9 of *Time-Reversal Provides Unsupervised Feedback to LLMs*
(arXiv 2412.02626), look for the supporting sentences inside one source of N sentences. They are
generators: each yields the texts that it wants scored for its claim and is sent their scores, so
many searches run side by side and share the model's batches (:func:`search`).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from trlm_retrieval.lm.direction import DIRECTIONS, Template
from trlm_retrieval.passage_index.text import words

GainDirection = Literal["claim", "source"]
SearchName = Literal["linear", "binary", "exclusion"]

CLAIM_GIVEN_SOURCE = Template(
    "claim", "forward", "Passage: {passage}\nA statement that this passage supports:", " {query}"
)
SOURCE_GIVEN_CLAIM = Template(
    "source",
    "forward",
    "Statement: {query}\nA passage that supports this statement:",
    " {passage}",
)
SOURCE_GIVEN_CLAIM_REVERSED = Template("source_ba", "reverse", " {query}", " {passage}")

OVERLAP_WEIGHT = 8.0
UNSUPPORTED_BELOW = 2.25
DEFAULT_SEARCH: SearchName = "linear"
_NEAR = 4


class Scored(Protocol):
    """What is needed of a likelihood: nats of the whole target, and per token of it."""

    @property
    def sum(self) -> float: ...

    @property
    def mean(self) -> float: ...


Likelihoods = Callable[[Sequence[tuple[str, str]], Template], Sequence[Scored]]


def support_template(direction: GainDirection, reads_reversed: bool) -> Template:
    """How claim (``{query}``) and source (``{passage}``) are written for a direction.

    :param reads_reversed: whether the model reads tokens last to first.
    :raises ValueError: for an unknown direction.
    """
    if direction == "claim":
        return DIRECTIONS["ba"] if reads_reversed else CLAIM_GIVEN_SOURCE
    if direction == "source":
        return SOURCE_GIVEN_CLAIM_REVERSED if reads_reversed else SOURCE_GIVEN_CLAIM
    raise ValueError(f"direction must be 'claim' or 'source', not {direction!r}")


WordSets = tuple[frozenset[str], frozenset[tuple[str, str]]]


def word_sets(text: str) -> WordSets:
    """The words of a text, and its pairs of near words.

    Words are stems in lower case; a pair are two words of which one follows the other within four
    words, in either order.
    """
    found = words(text)
    pairs = {
        (min(first, second), max(first, second))
        for position, first in enumerate(found)
        for second in found[position + 1 : position + 1 + _NEAR]
    }
    return frozenset(found), frozenset(pairs)


def shared_words(claim: WordSets, source: WordSets) -> float:
    """Share of the claim's words, and of its pairs of near words, that the source holds.

    The mean of both shares, 0 to 1; 0 for a claim without words.
    """
    shares = [
        len(wanted & there) / len(wanted)
        for wanted, there in zip(claim, source, strict=True)
        if wanted
    ]
    return sum(shares) / len(shares) if shares else 0.0


@dataclass(frozen=True)
class Support:
    """How well a source supports a claim.

    :ivar gain: log P(scored half | other half) - log P(scored half), in nats per token of it.
    :ivar shared: see :func:`shared_words`.
    :ivar score: the gain plus the weighted share: one reads meaning, the other rare names exactly.
    """

    gain: float
    shared: float
    score: float


class SupportScorer:
    """Scores (claim, source) pairs and counts what that cost.

    :param likelihoods: scores (claim, source) pairs with a template, such as
        ``TimeReversedLM.score``.
    :param template: see :func:`support_template`.
    :param overlap_weight: what a full share of words is worth, in nats per token; 0 ignores words.
    :ivar calls: pairs that the model has scored; the prior of each half comes on top, once.
    """

    def __init__(
        self,
        likelihoods: Likelihoods,
        template: Template = CLAIM_GIVEN_SOURCE,
        overlap_weight: float = OVERLAP_WEIGHT,
    ) -> None:
        self.template = template
        self.overlap_weight = overlap_weight
        self.calls = 0
        self._likelihoods = likelihoods
        self._priors: dict[str, float] = {}

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Support]:
        """Support of each (claim, source) pair, in input order.

        A source without text supports nothing and costs no call.
        """
        worded = [(claim, source) for claim, source in pairs if claim.strip() and source.strip()]
        self.calls += len(worded)
        means = iter([found.mean for found in self._likelihoods(worded, self.template)])
        self._add_priors(worded)
        sets = {text: word_sets(text) for text in {text for pair in worded for text in pair}}
        supports = []
        for claim, source in pairs:
            if not (claim.strip() and source.strip()):
                supports.append(Support(0.0, 0.0, 0.0))
                continue
            gain = next(means) - self._priors[self._target(claim, source)]
            shared = shared_words(sets[claim], sets[source])
            supports.append(Support(gain, shared, gain + self.overlap_weight * shared))
        return supports

    def _target(self, claim: str, source: str) -> str:
        return claim if self.template.scores_query else source

    def _add_priors(self, pairs: Sequence[tuple[str, str]]) -> None:
        targets = dict.fromkeys(self._target(*pair) for pair in pairs)
        new = [target for target in targets if target not in self._priors]
        alone = [(text, "") if self.template.scores_query else ("", text) for text in new]
        for target, found in zip(new, self._likelihoods(alone, self.template), strict=True):
            self._priors[target] = found.mean


@dataclass(frozen=True)
class Found:
    """What a search found: sentences ``start`` to ``stop`` (exclusive) of a source.

    :ivar scores: how every sentence of the source fares: its own score (linear), the rounds it
        stayed in (binary), by how much the source's score falls without it (exclusion).
    :ivar score: what the search went by in the end: the score of these sentences, or for
        exclusion the fall.
    :ivar calls: texts that were scored to find them.
    """

    start: int
    stop: int
    score: float
    scores: tuple[float, ...]
    calls: int = 0


Search = Generator[list[str], list[float], Found]


def linear(sentences: Sequence[str]) -> Search:
    """The sentence with the highest score. N calls."""
    scores = yield list(sentences)
    best = max(range(len(scores)), key=scores.__getitem__)
    return Found(best, best + 1, scores[best], tuple(scores))


def binary(sentences: Sequence[str]) -> Search:
    """Split in two, keep the better half, and so on down to one sentence.

    The halves share no sentence, and one half of two sentences is one: at most 2 ⌈log2 N⌉ calls
    (1 for a source of one sentence).
    """
    start, stop = 0, len(sentences)
    rounds = [0.0] * stop
    if stop == 1:
        [score] = yield list(sentences)
    while stop - start > 1:
        middle = (start + stop + 1) // 2
        first, second = yield [
            "".join(sentences[start:middle]),
            "".join(sentences[middle:stop]),
        ]
        if first >= second:
            stop, score = middle, first
        else:
            start, score = middle, second
        for kept in range(start, stop):
            rounds[kept] += 1
    return Found(start, stop, score, tuple(rounds))


def exclusion(sentences: Sequence[str]) -> Search:
    """The sentence without which the rest of the source scores lowest. N + 1 calls.

    One call is for the whole source; what is left of a source of one sentence costs none.
    """
    whole, *rests = yield [
        "".join(sentences),
        *("".join([*sentences[:i], *sentences[i + 1 :]]) for i in range(len(sentences))),
    ]
    falls = tuple(whole - rest for rest in rests)
    worst = max(range(len(falls)), key=falls.__getitem__)
    return Found(worst, worst + 1, falls[worst], falls)


SEARCHES: dict[SearchName, Callable[[Sequence[str]], Search]] = {
    "linear": linear,
    "binary": binary,
    "exclusion": exclusion,
}


def search(
    name: SearchName, tasks: Sequence[tuple[str, Sequence[str]]], scorer: SupportScorer
) -> list[Found]:
    """Run one search for each (claim, sentences of a source), all side by side.

    :param tasks: the sentences of a source, joined, are the source: white space between them
        stands in one of them.
    :returns: what was found, in input order.
    :raises ValueError: for an unknown search, or a source without sentences.
    """
    if name not in SEARCHES:
        raise ValueError(f"search must be one of {', '.join(SEARCHES)}, not {name!r}")
    if any(not sentences for _, sentences in tasks):
        raise ValueError("a source without sentences cannot be searched")
    runs = [SEARCHES[name](sentences) for _, sentences in tasks]
    wanted = {number: next(run) for number, run in enumerate(runs)}
    calls = [0] * len(tasks)
    found: dict[int, Found] = {}
    while wanted:
        pairs = [(tasks[number][0], text) for number, texts in wanted.items() for text in texts]
        scores = iter(scorer.score(pairs))
        for number, texts in list(wanted.items()):
            calls[number] += sum(bool(text.strip()) for text in texts)
            try:
                wanted[number] = runs[number].send([next(scores).score for _ in texts])
            except StopIteration as end:
                del wanted[number]
                result: Found = end.value
                found[number] = replace(result, calls=calls[number])
    return [found[number] for number in range(len(tasks))]
