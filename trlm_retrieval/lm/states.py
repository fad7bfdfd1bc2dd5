"""Passage states: the keys and values of a context, computed once and used for every query.

A query's tokens are a short tail on a long context that does not depend on the query. So the
context is read once, what the network's attention needs of it is kept here, and every later query
only pays for its own tokens. States are large, so memory for them is bounded; they can be kept
smaller, as int8 numbers, at a price in exactness.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from trlm_retrieval.models.rounding import int8_scale

PRECISIONS = ("float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True)
class StateFormat:
    """How states are kept.

    :ivar precision: one of :data:`PRECISIONS`; None is the network's own, which is exact. Int8
        numbers carry one float16 scale for each token and head.
    :raises ValueError: for another precision.
    """

    precision: str | None = None

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, or None for the model's own, "
                f"not {self.precision!r}"
            )

    def dtype(self, own: torch.dtype) -> torch.dtype:
        """Type of the numbers kept, for a network that computes in ``own``."""
        named: torch.dtype = getattr(torch, self.precision) if self.precision else own
        return named


class PassageState:
    """The keys and values of one context in every layer.

    :ivar tokens: tokens of the context.
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
        layers, heads, tokens, width = shape
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

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Fill one layer from the context's keys and values, (heads, tokens, width)."""
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
    """A model's bounded memory of context states; the least recently used ones go first.

    Threads may share one.

    :param max_bytes: the most bytes of states that are kept; one that is larger is never kept, and
        0 keeps none.
    :param form: how they are kept.
    :raises ValueError: if ``max_bytes`` is negative.
    """

    def __init__(
        self,
        max_bytes: int = 2 * 1024**3,
        form: StateFormat = StateFormat(),
    ) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, not {max_bytes}")
        self.max_bytes = max_bytes
        self.form = form
        self._source: StateSource | None = None
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[bytes, PassageState] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def read_from(self, source: StateSource) -> None:
        """Look states up there where memory has none, and keep new ones in its format."""
        self._source, self.form = source, source.form

    def get(self, key: bytes) -> PassageState | None:
        """The state kept under ``key``, or None."""
        with self._lock:
            state = self._kept.get(key)
            if state is not None:
                self._kept.move_to_end(key)
            elif self._source is not None:
                state = self._source.get(key)
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
