"""Passage states: the keys and values of a context, computed once and used for every query.

A query's tokens are a short tail on a long context that does not depend on the query. So the
context is read once, what the network's attention needs of it is kept here, and every later query
only pays for its own tokens. States are large, so they are a bounded store first; they can be kept
smaller, at a price in exactness, as int8 numbers or for the most attended positions alone.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from trlm_retrieval.models.rounding import int8_scale

PRECISIONS = ("float32", "bfloat16", "float16", "int8")

_OBSERVING = 16  # the last tokens of a context, whose attention says which positions matter


@dataclass(frozen=True)
class StateFormat:
    """How states are kept.

    :ivar precision: one of :data:`PRECISIONS`; None is the network's own, which is exact. Int8
        numbers carry one float16 scale for each token and head.
    :ivar keep: share of a context's positions that is kept in each layer and head: those that
        its last tokens attend to most, after SnapKV (arXiv 2404.14469). 1.0 keeps all.
    :raises ValueError: for another precision, or a share outside (0, 1].
    """

    precision: str | None = None
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, or None for the model's own, "
                f"not {self.precision!r}"
            )
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be a share above 0 and at most 1, not {self.keep}")

    def dtype(self, own: torch.dtype) -> torch.dtype:
        """Type of the numbers kept, for a network that computes in ``own``."""
        named: torch.dtype = getattr(torch, self.precision) if self.precision else own
        return named

    def kept(self, tokens: int) -> int:
        """How many of a context's positions are kept."""
        return ceil(self.keep * tokens)


class PassageState:
    """The keys and values of one context in every layer.

    :ivar tokens: positions that are kept.
    :ivar numbers: keys and values, shape (layers, 2, heads, tokens, width).
    :ivar scales: of int8 numbers, shape (layers, 2, heads, tokens, 1); None for other precisions.
    """

    def __init__(self, numbers: torch.Tensor, scales: torch.Tensor | None) -> None:
        self.numbers = numbers
        self.scales = scales
        self.tokens: int = numbers.shape[3]

    @classmethod
    def empty(
        cls, shape: tuple[int, int, int, int], form: StateFormat, like: torch.Tensor
    ) -> "PassageState":
        """A state to be written layer by layer.

        :param shape: layers, heads, context tokens, width.
        :param like: a tensor of the network's precision and device.
        """
        layers, heads, length, width = shape
        tokens = form.kept(length)
        dtype = form.dtype(like.dtype)
        whole = (layers, 2, heads, tokens, width)
        scales = None
        if dtype == torch.int8:
            scales = torch.empty(*whole[:-1], 1, dtype=torch.float16, device=like.device)
        return cls(torch.empty(whole, dtype=dtype, device=like.device), scales)

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        """The tensors it consists of."""
        return (self.numbers,) if self.scales is None else (self.numbers, self.scales)

    @property
    def nbytes(self) -> int:
        """Bytes of memory or disk."""
        return sum(part.nbytes for part in self.parts)

    def write(
        self,
        layer: int,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scaling: float | None,
    ) -> None:
        """Fill one layer from the context's queries, keys and values, (heads, tokens, width)."""
        if self.tokens < keys.shape[1]:
            chosen = _most_attended(query, keys, scaling, self.tokens)[:, :, None]
            keys = keys.gather(1, chosen.expand(-1, -1, keys.shape[2]))
            values = values.gather(1, chosen.expand(-1, -1, values.shape[2]))
        if self.scales is None:
            self.numbers[layer, 0] = keys
            self.numbers[layer, 1] = values
            return
        for part, tensor in enumerate((keys, values)):
            scale = int8_scale(tensor.float(), 2, 1e-6)
            self.scales[layer, part] = scale
            self.numbers[layer, part] = (tensor.float() / scale).round_().to(torch.int8)

    def read(self, layer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer, (1, heads, tokens, width), in ``like``'s type and place."""
        both = self.numbers[layer].to(like.device, like.dtype)
        if self.scales is not None:
            both = both * self.scales[layer].to(like.device, like.dtype)
        return both[0][None], both[1][None]


class StateSource(Protocol):
    """States that were computed before, such as those on disk.

    :ivar form: how they are kept.
    """

    form: StateFormat

    def get(self, key: bytes) -> PassageState | None:
        """The state under a key, or None."""


class PassageStates:
    """A bounded store of context states in memory, least recently used ones dropped first.

    Threads may share one.

    :param max_bytes: the most bytes of states that are kept; one that is larger is never kept.
    :param precision: see :class:`StateFormat`.
    :param keep: see :class:`StateFormat`.
    :param folder: states on disk, looked up where memory has none; precision and share are then
        those of the folder.
    :raises ValueError: if ``max_bytes`` is negative or the format is none.
    """

    def __init__(
        self,
        max_bytes: int = 2 * 1024**3,
        precision: str | None = None,
        keep: float = 1.0,
        folder: StateSource | None = None,
    ) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, not {max_bytes}")
        self.max_bytes = max_bytes
        self.form = folder.form if folder is not None else StateFormat(precision, keep)
        self._folder = folder
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[bytes, PassageState] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> PassageState | None:
        """The state kept under ``key``, or None."""
        with self._lock:
            state = self._kept.get(key)
            if state is not None:
                self._kept.move_to_end(key)
            elif self._folder is not None:
                state = self._folder.get(key)
            self.hits += state is not None
            self.misses += state is None
            return state

    def put(self, key: bytes, state: PassageState) -> None:
        """Keep a state, dropping older ones as needed."""
        size = state.nbytes
        with self._lock:
            if key in self._kept or size > self.max_bytes:
                return
            while self.bytes + size > self.max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self.bytes -= dropped.nbytes
            self._kept[key] = state
            self.bytes += size


def state_key(fingerprint: str, context: Sequence[int]) -> bytes:
    """Key of a context's state: model fingerprint and the very token ids that are read."""
    digest = hashlib.sha256(fingerprint.encode())
    digest.update(np.asarray(context, dtype=np.int64).tobytes())
    return digest.digest()


def _most_attended(
    query: torch.Tensor, keys: torch.Tensor, scaling: float | None, number: int
) -> torch.Tensor:
    """Positions, in order, that the context's last tokens attend to most; (heads, number).

    These last tokens themselves are always kept.
    """
    heads, tokens, width = keys.shape
    window = min(_OBSERVING, number)
    asking = query[:, -window:].reshape(heads, -1, width).float()
    scores = asking @ keys.float().transpose(1, 2) * (scaling or width**-0.5)
    attention = scores.softmax(-1).sum(1)
    attention[:, tokens - window :] = float("inf")
    return attention.topk(number, dim=1).indices.sort(dim=1).values
