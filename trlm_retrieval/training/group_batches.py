"""Batches of a group each, as an encoder-decoder reads them: passages, and all of their queries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.pointer import padded_targets
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
class Reading:
    """One order in which queries are read.

    :ivar start: token that opens a query, and ``end`` the one that closes it.
    :ivar step: 1 from first to last, -1 from last to first.
    """

    start: int
    end: int
    step: int


@dataclass(frozen=True)
class GroupBatch:
    """One group.

    :ivar ids: the passages, padded on the right, shape (passages, positions).
    :ivar mask: 1 where there is a token, the same shape.
    :ivar read, predicted: what the decoder reads and predicts, shape (queries, tokens); the last
        token predicted of each query is its end, and -1 is padding.
    :ivar own: which passages answer which query, shape (queries, passages), bool.
    :ivar labels: the teacher's scores, shape (queries, passages), NaN where there is none.
    :ivar counts: for each term of the loss, how many units its sum runs over.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    read: torch.Tensor
    predicted: torch.Tensor
    own: torch.Tensor
    labels: torch.Tensor
    counts: dict[str, int]

    @property
    def tokens(self) -> int:
        """Passage tokens read, padding included."""
        return self.ids.numel()


class GroupBatches:
    """Endless batches of a group each.

    Where the teacher has scored some groups only, every other batch is one of these. Within each
    kind every group comes once before any comes again.

    :param labels: the teacher's scores of the first groups.
    :param frame: tokens before and behind each passage.
    :param readings: orders in which queries are read. With two of them they alternate, and a group
        is read in the other order the next time.
    :param varied: cut passages at various lengths and drop function words of some queries.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        labels: Sequence[np.ndarray],
        encoder: PairEncoder,
        frame: tuple[int, int],
        readings: Sequence[Reading],
        *,
        seed: int,
        varied: bool = True,
    ) -> None:
        self._groups, self._labels, self._seed, self._varied = groups, labels, seed, varied
        self._frame, self._readings = frame, readings
        kinds = range(len(labels)), range(len(labels), len(groups))
        self._kinds = [kind for kind in kinds if kind]
        self._passages = [_arrays(encoder, group.passages) for group in groups]
        self._queries = [_arrays(encoder, group.queries) for group in groups]
        self._keywords = [
            _arrays(encoder, [_keywords(query) for query in group.queries]) for group in groups
        ]

    def __len__(self) -> int:
        return len(self._groups)

    def batch(self, index: int) -> GroupBatch:
        number, epoch = self._visit(index)
        reading = self._readings[(number + epoch) % len(self._readings)]
        group, draw = self._groups[number], np.random.default_rng([self._seed, 1, index])
        ids, mask = self._padded_passages(
            number, int(draw.choice(_CUTS)) if self._varied else _PLAIN_CUT
        )
        queries = [
            self._keywords[number][n]
            if self._varied and draw.random() < _KEYWORDS_SHARE
            else self._queries[number][n]
            for n in range(len(group))
        ]
        targets = [
            [*query[:_MOST_QUERY_TOKENS][:: reading.step].tolist(), reading.end]
            for query in queries
        ]
        read, predicted = padded_targets(targets, reading.start)
        own = torch.eye(len(group), dtype=torch.bool)
        for q, p in group.also:
            own[q, p] = True
        labels = torch.full(own.shape, torch.nan)
        if number < len(self._labels):
            labels = torch.from_numpy(self._labels[number])
        decided = int(scored(labels).sum())
        counts = {
            "loss": sum(len(target) - 1 for target in targets),
            "end": len(group),
            "contrast": len(group) - decided,
            "teacher": decided,
        }
        return GroupBatch(ids, mask, read, predicted, own, labels, counts)

    def _visit(self, index: int) -> tuple[int, int]:
        """The group that comes at this place of the endless sequence, and how often it came yet."""
        turn, place = divmod(index, len(self._kinds))
        kind = self._kinds[place]
        epoch, at = divmod(turn, len(kind))
        order = np.random.default_rng([self._seed, place, epoch]).permutation(len(kind))
        return kind[int(order[at])], epoch

    def _padded_passages(self, number: int, cut: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Passages of a group in their frame, cut to so many tokens, and where there are tokens."""
        before, behind = self._frame
        rows = [
            [before, *passage[: cut - 2].tolist(), behind] for passage in self._passages[number]
        ]
        shape = len(rows), max(map(len, rows))
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        for row, line, seen in zip(rows, ids, mask, strict=True):
            line[: len(row)] = torch.tensor(row)
            seen[: len(row)] = 1
        return ids, mask


def scored(labels: torch.Tensor) -> torch.Tensor:
    """Which queries the teacher has compared over passages, shape (queries,), bool."""
    return (~labels.isnan()).sum(1) > 1


def _arrays(encoder: PairEncoder, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.array(ids, np.int32) for ids in encoder.encode_texts(list(texts))]


def _keywords(query: str) -> str:
    kept = [word for word in query.split() if word.lower().strip("?,.") not in _LEFT_OUT]
    return " ".join(kept).rstrip("?") or query
