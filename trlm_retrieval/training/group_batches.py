"""Batches of a group each: its passages and its queries as tokens, in the model's reading order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.template import Order, Template
from trlm_retrieval.training.groups import Group

_CUTS = (64, 96, 128, 192, 256)  # passage lengths that a batch is cut to, in tokens
_PLAIN_CUT = 128
_KEYWORDS_SHARE = 0.1  # of queries that lose their function words
_MOST_QUERY_TOKENS = 24

# Words that a keyword query leaves out.
_FUNCTION_WORDS = (
    "a about an and are be by can did do does for from had has have how i if in is it its me my of "
    "on or that the their there this to was we were what when where which who why will with you "
    "your ?"
)
_LEFT_OUT = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True)
class GroupBatch:
    """One group.

    :ivar contexts: what is read of each passage, up to the token that predicts the first of a
        query.
    :ivar targets: what is predicted of each query; the last token is its end.
    :ivar own: which passages answer which query, shape (queries, passages), bool.
    :ivar labels: the teacher's scores, shape (queries, passages), NaN where there is none.
    """

    contexts: Sequence[tuple[int, ...]]
    targets: Sequence[tuple[int, ...]]
    own: torch.Tensor
    labels: torch.Tensor

    @property
    def tokens(self) -> int:
        """Passage tokens read, padding included."""
        return len(self.contexts) * max(map(len, self.contexts))

    @property
    def counts(self) -> dict[str, int]:
        """For each term of the loss, how many units its sum runs over."""
        decided = int(scored(self.labels).sum())
        return {
            "loss": sum(len(target) - 1 for target in self.targets),
            "end": len(self.targets),
            "contrast": len(self.targets) - decided,
            "teacher": decided,
        }

    @property
    def needed(self) -> torch.Tensor:
        """Which passages the loss compares for which query, shape (queries, passages), bool.

        These are what the teacher has scored, and all of them for a query that it has not.
        """
        needed = ~self.labels.isnan() | ~scored(self.labels)[:, None]
        return needed.fill_diagonal_(True)


class GroupBatches:
    """Endless batches of a group each.

    Where the teacher has scored some groups only, every other batch is one of these. Within each
    kind every group comes once before any comes again.

    :param labels: the teacher's scores of the first groups.
    :param templates: how pairs are written. With two of them they alternate, and a group is read
        in the other way the next time.
    :param ends: the token that closes a query, for each reading order.
    :param varied: cut passages at various lengths and drop function words of some queries.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        labels: Sequence[np.ndarray],
        encoder: PairEncoder,
        templates: Sequence[Template],
        ends: dict[Order, int],
        *,
        seed: int,
        varied: bool = True,
    ) -> None:
        self._groups, self._labels, self._seed, self._varied = groups, labels, seed, varied
        self._encoder, self._templates, self._ends = encoder, templates, ends
        kinds = range(len(labels)), range(len(labels), len(groups))
        self._kinds = [kind for kind in kinds if kind]

    def __len__(self) -> int:
        return len(self._groups)

    def batch(self, index: int) -> GroupBatch:
        number, epoch = self._visit(index)
        template = self._templates[(number + epoch) % len(self._templates)]
        group, draw = self._groups[number], np.random.default_rng([self._seed, 1, index])
        cut = int(draw.choice(_CUTS)) if self._varied else _PLAIN_CUT
        queries = [
            _keywords(query) if self._varied and draw.random() < _KEYWORDS_SHARE else query
            for query in group.queries
        ]
        pairs = self._encoder.encode(list(zip(queries, group.passages, strict=True)), template, cut)
        kept = slice(None, _MOST_QUERY_TOKENS)
        if template.order == "reverse":
            kept = slice(-_MOST_QUERY_TOKENS, None)
        own = torch.eye(len(group), dtype=torch.bool)
        for q, p in group.also:
            own[q, p] = True
        labels = torch.full(own.shape, torch.nan)
        if number < len(self._labels):
            labels = torch.from_numpy(self._labels[number])
        end = self._ends[template.order]
        return GroupBatch(
            [pair.context for pair in pairs],
            [(*pair.target[kept], end) for pair in pairs],
            own,
            labels,
        )

    def _visit(self, index: int) -> tuple[int, int]:
        """The group that comes at this place of the endless sequence, and how often it came yet."""
        turn, place = divmod(index, len(self._kinds))
        kind = self._kinds[place]
        epoch, at = divmod(turn, len(kind))
        order = np.random.default_rng([self._seed, place, epoch]).permutation(len(kind))
        return kind[int(order[at])], epoch


def scored(labels: torch.Tensor) -> torch.Tensor:
    """Which queries the teacher has compared over passages, shape (queries,), bool."""
    return (~labels.isnan()).sum(1) > 1


def _keywords(query: str) -> str:
    kept = [word for word in query.split() if word.lower().strip("?,.") not in _LEFT_OUT]
    return " ".join(kept).rstrip("?") or query
