"""Passage states: what a network made of a context, computed once and used for every query.

A query's tokens are a short tail on a long context that does not depend on the query. So the
context is read once, what later tokens need of it is kept here, and every later query only pays for
its own tokens. A decoder needs the keys and values of all its layers; an encoder-decoder only what
its encoder gave. Memory for states is bounded, and they can be kept smaller, at a price in
exactness.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from trlm_retrieval.models.rounding import int8_scale

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
POOLS = (1, 2, 4)


@dataclass(frozen=True)
class StateFormat:
    """How states are kept.

    :ivar precision: one of :data:`PRECISIONS`; None is the network's own, which is exact. Int8
        numbers carry one float16 scale for each vector.
    :ivar pool: how many neighbouring tokens share the mean of their vectors, one of :data:`POOLS`;
        only for encoder-decoders.
    :raises ValueError: for another precision or pool.
    """

    precision: str | None = None
    pool: int = 1

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, or None for the model's own, "
                f"not {self.precision!r}"
            )
        if self.pool not in POOLS:
            raise ValueError(f"pool must be 1, 2 or 4, not {self.pool!r}")

    def dtype(self, own: torch.dtype) -> torch.dtype:
        """Type of the numbers kept, for a network that computes in ``own``."""
        named: torch.dtype = getattr(torch, self.precision) if self.precision else own
        return named

    def vector_bytes(self, width: int, own: torch.dtype) -> int:
        """Bytes of one kept vector of ``width`` numbers, its scale included."""
        dtype = self.dtype(own)
        return width * dtype.itemsize + (torch.float16.itemsize if dtype == torch.int8 else 0)


class PassageState:
    """What is kept of one context.

    :ivar tokens: vectors in a row: one for each token of the context, or for each pool of them.
    :ivar numbers: shape (…, tokens, width). For a decoder the front is (layers, 2, heads): keys and
        values of each layer. For an encoder-decoder there is none: the encoder's output.
    :ivar scales: of int8 numbers, shape (…, tokens, 1); None for other precisions.
    :ivar pool: how many tokens of the context share a vector.
    """

    def __init__(
        self, numbers: torch.Tensor, scales: torch.Tensor | None, *, pool: int = 1
    ) -> None:
        self.numbers = numbers
        self.scales = scales
        self.pool = pool
        self.tokens: int = numbers.shape[-2]

    @classmethod
    def empty(cls, shape: tuple[int, ...], form: StateFormat, like: torch.Tensor) -> "PassageState":
        """A state to be written part by part.

        :param shape: of its numbers.
        :param like: a tensor of the network's precision and device.
        """
        dtype, scales = form.dtype(like.dtype), None
        if dtype == torch.int8:
            scales = torch.empty(*shape[:-1], 1, dtype=torch.float16, device=like.device)
        numbers = torch.empty(shape, dtype=dtype, device=like.device)
        return cls(numbers, scales, pool=form.pool)

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        """The tensors it consists of."""
        return (self.numbers,) if self.scales is None else (self.numbers, self.scales)

    @property
    def nbytes(self) -> int:
        """Bytes of memory or disk."""
        return sum(part.nbytes for part in self.parts)

    def write(self, at: tuple[int, ...], values: torch.Tensor) -> None:
        """Fill the part ``at`` the front of the shape with vectors, (…, tokens, width)."""
        if self.scales is None:
            self.numbers[at] = values.to(self.numbers.dtype)
            return
        scale = int8_scale(values.float(), -1, 1e-6)
        self.scales[at] = scale.to(torch.float16)
        self.numbers[at] = (values.float() / scale).round_().to(torch.int8)

    def read(self, at: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """The part ``at`` the front of the shape, in ``like``'s type and place."""
        found = self.numbers[at].to(like.device, like.dtype)
        if self.scales is not None:
            found = found * self.scales[at].to(like.device, like.dtype)
        return found


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
        """Look states up there where memory has none, and keep new ones in its format.

        States that memory holds in another format are dropped.
        """
        with self._lock:
            if source.form != self.form:
                self._kept.clear()
                self.bytes = 0
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

    def of(
        self,
        contexts: Sequence[tuple[int, ...]],
        fingerprint: str,
        compute: Callable[[list[tuple[int, ...]], StateFormat], Iterator[PassageState]],
    ) -> list[PassageState]:
        """The state of each context; computed, and kept, where it is not there yet.

        :param fingerprint: of the model.
        :param compute: gives the states of contexts, in order.
        """
        keys = [state_key(fingerprint, context) for context in contexts]
        found = {key: self.get(key) for key in dict.fromkeys(keys)}
        missing = {k: c for k, c in zip(keys, contexts, strict=True) if found[k] is None}
        for key, state in zip(missing, compute(list(missing.values()), self.form), strict=True):
            found[key] = state
            self.put(key, state)
        return [held for key in keys if (held := found[key]) is not None]


def state_key(fingerprint: str, context: Sequence[int]) -> bytes:
    """Key of a context's state: model fingerprint and the very token ids that it was made of.

    The context's last token is read with every query anew, and not part of the state.
    """
    digest = hashlib.sha256(fingerprint.encode())
    digest.update(np.asarray(context[:-1], dtype=np.int64).tobytes())
    return digest.digest()
