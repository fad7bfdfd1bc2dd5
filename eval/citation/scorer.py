"""What the methods of both evaluations of citations need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from trlm_retrieval.citation.support import ScoredHalf, SupportScorer, support_template
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.progress import progress_bar

from ..score_cache import Score, ScoreCache


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
