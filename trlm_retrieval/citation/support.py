"""How well a text supports a claim.

A claim is a sentence of an answer, a source is a text that may support it. How much one tells of
the other is their pointwise mutual information, and a language model can score either half:

========== =================================== ==========================================
scored     gain                                the model reads, then scores
========== =================================== ==========================================
``claim``  log P(claim | source) - log P(claim)    the source, then the claim
``source`` log P(source | claim) - log P(source)   the claim, then the source
========== =================================== ==========================================

Subtracting the prior makes claims and sources of different length and fluency compare; dividing
by the tokens of the scored half does the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trlm_retrieval.lm.template import DIRECTIONS, Template
from trlm_retrieval.text.words import words

ScoredHalf = Literal["claim", "source"]

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
_NEAR = 4


class Scored(Protocol):
    """What is needed of a likelihood: nats of the whole target, and per token of it."""

    @property
    def sum(self) -> float: ...

    @property
    def mean(self) -> float: ...


Likelihoods = Callable[[Sequence[tuple[str, str]], Template], Sequence[Scored]]


def support_template(scored: ScoredHalf, reads_reversed: bool) -> Template:
    """How claim (``{query}``) and source (``{passage}``) are written.

    :param scored: the half that is scored, given the other.
    :param reads_reversed: whether the model reads tokens last to first.
    :raises ValueError: if it is neither half.
    """
    if scored == "claim":
        return DIRECTIONS["ba"] if reads_reversed else CLAIM_GIVEN_SOURCE
    if scored == "source":
        return SOURCE_GIVEN_CLAIM_REVERSED if reads_reversed else SOURCE_GIVEN_CLAIM
    raise ValueError(f"scored must be 'claim' or 'source', not {scored!r}")


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
