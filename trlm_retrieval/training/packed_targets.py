"""A context and several targets behind it in one row; each target sees the context and itself."""

from collections.abc import Sequence

import numpy as np
import torch


class PackedTargets:
    """One context with the targets behind it, as int64 arrays.

    :ivar ids, positions, owners: for each token, its id, its position for the network, and 0 in the
        context, else the number of its target, from 1.
    :ivar predict_from, predicted, cells: for each prediction, the place that makes it, the token,
        and the number of its target, from 0, or -1 for the end token.
    """

    def __init__(self, context: np.ndarray, targets: Sequence[np.ndarray], end: int) -> None:
        # The last token of a target is predicted, not read; that of the own one predicts the end.
        read = [targets[0], *(target[:-1] for target in targets[1:])]
        lengths = [len(tokens) for tokens in read]
        starts = len(context) + np.cumsum([0, *lengths[:-1]])
        self.ids = np.concatenate([context, *read])
        self.owners = np.repeat(np.arange(1 + len(read)), [len(context), *lengths])
        self.positions = np.concatenate(
            [np.arange(len(context)), *(len(context) + np.arange(length) for length in lengths)]
        )
        last = len(context) - 1
        self.predict_from = np.concatenate(
            [
                np.concatenate([[last], np.arange(start, start + length)])
                for start, length in zip(starts, lengths, strict=True)
            ]
        )
        self.predicted = np.concatenate([targets[0], [end], *targets[1:]])
        self.cells = np.repeat(
            [0, -1, *range(1, len(targets))],
            [len(targets[0]), 1, *(len(target) for target in targets[1:])],
        )


def owner_mask(owners: torch.Tensor) -> torch.Tensor:
    """What each token attends to, (rows, columns) to (rows, 1, columns, columns), bool.

    :param owners: of each token, as :class:`PackedTargets` numbers them. Padding stands on the
        right, where no other token sees it.
    """
    seen = (owners[:, None, :] == 0) | (owners[:, None, :] == owners[:, :, None])
    return seen.tril_()[:, None]
