"""What the methods of both evaluations of citations need."""

from collections.abc import Sequence
from functools import partial

from trlm_retrieval.citation.support import ScoredHalf, SupportScorer, support_template
from trlm_retrieval.lm import Template

from ..methods import CROSS_ENCODER
from ..score_cache import CachedScorer

SCORED_HALVES: tuple[tuple[str, ScoredHalf], ...] = (("forward", "source"), ("reverse", "claim"))
"""What methods are called that score the source given the claim, and the claim given the source."""


class Scorer(CachedScorer):
    """Scores claims and sources; in pairs, a claim stands in the place of a query."""

    def support(
        self, direction: ScoredHalf, overlap_weight: float = 0.0, whole: bool = False
    ) -> SupportScorer:
        """A scorer of support in a direction, for pairs of this evaluation."""
        likelihoods = partial(self.likelihoods, whole=whole)
        return SupportScorer(likelihoods, self.template(direction), overlap_weight)

    def template(self, direction: ScoredHalf) -> Template:
        """How claims and sources are written for the model."""
        return support_template(direction, self.lm.default_direction == "ba")


def comparisons(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Each method with the overlap of words, each reverse one with its forward twin, and what
    ships with the cross-encoder."""
    pairs = [(name, "overlap") for name in methods]
    pairs += [(name, name.replace("reverse", "forward")) for name in methods]
    pairs.append(("default", CROSS_ENCODER))
    return [(one, other) for one, other in pairs if one != other]
