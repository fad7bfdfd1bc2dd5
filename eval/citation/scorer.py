"""What the methods of both evaluations of citations need."""

from collections.abc import Sequence
from functools import partial

from trlm_retrieval.citation.support import ScoredHalf, SupportScorer, support_template

from ..score_cache import CachedScorer


class Scorer(CachedScorer):
    """Scores claims and sources; in pairs, a claim stands in the place of a query."""

    def support(
        self, direction: ScoredHalf, overlap_weight: float = 0.0, whole: bool = False
    ) -> SupportScorer:
        """A scorer of support in a direction, for pairs of this evaluation."""
        template = support_template(direction, self.lm.default_direction == "ba")
        likelihoods = partial(self.likelihoods, whole=whole)
        return SupportScorer(likelihoods, template, overlap_weight)


def comparisons(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Each method with the overlap of words, and each reverse one with its forward twin."""
    pairs = [(name, "overlap") for name in methods]
    pairs += [(name, name.replace("reverse", "forward")) for name in methods]
    return [(one, other) for one, other in pairs if one != other]
