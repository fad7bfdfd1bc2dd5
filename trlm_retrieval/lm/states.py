"""Passage states: the key/value states of a context, computed once and used for every query.

A query's tokens are a short tail on a long context that does not depend on the query. So the
context is run through the network once, its keys and values are kept, and every later query only
pays for its own tokens. Several queries for one passage are packed into one row behind the same
states, each blind to the others, so that the states are not copied for each.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from trlm_retrieval.lm.likelihood import CausalNetwork, Progress, budget_batches, padded

_PACKED_TOKENS = 512  # query tokens packed behind one passage at most, unless one query is longer


class PassageStates:
    """A bounded store of context states, least recently used ones dropped first.

    :param max_bytes: the most bytes of states that are kept; one that is larger is never kept.
    :param dtype: precision in which states are kept; None keeps the network's own.
    :raises ValueError: if ``max_bytes`` is negative.
    """

    def __init__(self, max_bytes: int = 2 * 1024**3, dtype: torch.dtype | None = None) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, not {max_bytes}")
        self.max_bytes = max_bytes
        self.dtype = dtype
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> torch.Tensor | None:
        """The state kept under ``key``, shape (layers, 2, heads, tokens, width), or None."""
        with self._lock:
            state = self._kept.get(key)
            if state is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return state

    def put(self, key: bytes, state: torch.Tensor) -> torch.Tensor:
        """Keep a state, dropping older ones as needed; returns it as it is kept."""
        state = state.to(self.dtype or state.dtype).clone()
        size = state.numel() * state.element_size()
        with self._lock:
            if key in self._kept or size > self.max_bytes:
                return state
            while self.bytes + size > self.max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self.bytes -= dropped.numel() * dropped.element_size()
            self._kept[key] = state
            self.bytes += size
        return state


class _FilledLayer(DynamicLayer):
    """A cache layer with room left behind its states; new tokens are written there in place."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, filled: int) -> None:
        super().__init__()
        self.keys: torch.Tensor = keys
        self.values: torch.Tensor = values
        self.filled = filled
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys[:, :, self.filled :] = key_states
        self.values[:, :, self.filled :] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.filled


def state_key(fingerprint: str, context: Sequence[int]) -> bytes:
    """Key of a context's state: model fingerprint and the very token ids that were read."""
    digest = hashlib.sha256(fingerprint.encode())
    digest.update(np.asarray(context, dtype=np.int64).tobytes())
    return digest.digest()


def supports_states(model: Any) -> bool:
    """Whether a model's states are one growing key/value pair per layer, as in Llama."""
    config = model.config.get_text_config(decoder=True)
    types = getattr(config, "layer_types", None) or ["full_attention"]
    return (
        set(types) == {"full_attention"}
        and not getattr(config, "sliding_window", None)
        and getattr(model, "_supports_sdpa", False)
        and "rope" in str(config.to_dict().keys())
    )


@torch.inference_mode()
def compute_states(
    network: CausalNetwork, contexts: Sequence[Sequence[int]], token_budget: int
) -> list[torch.Tensor]:
    """States of each context, shape (layers, 2, heads, tokens, width); input order is kept."""
    states: list[torch.Tensor] = [torch.empty(0)] * len(contexts)
    for batch in budget_batches([len(context) for context in contexts], token_budget):
        ids = padded([contexts[index] for index in batch]).to(network.device)
        cache = DynamicCache()
        network.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)
        for row, index in enumerate(batch):
            length = len(contexts[index])
            states[index] = torch.stack(
                [
                    torch.stack([keys[row, :, :length], values[row, :, :length]])
                    for keys, values, _ in cache
                ]
            )
    return states


@torch.inference_mode()
def target_log_probs_with_states(
    network: CausalNetwork,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    token_budget: int,
    states: PassageStates,
    fingerprint: str,
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """As :func:`~trlm_retrieval.lm.likelihood.target_log_probs`, with states kept and reused.

    The state of a context leaves its last token out: that token is fed again with each target, so
    that its output, which predicts the target's first token, is there.
    """
    rows = _pack(sequences)
    results: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
    lengths = [len(context) + sum(len(sequences[i][1]) for i in packed) for context, packed in rows]
    for batch in budget_batches(lengths, token_budget):
        contexts = [rows[row][0] for row in batch]
        kept = _fetch(network, contexts, token_budget, states, fingerprint)
        found = _score_rows(
            network, contexts, kept, [[sequences[i][1] for i in rows[row][1]] for row in batch]
        )
        finished = [index for row in batch for index in rows[row][1]]
        for index, part in zip(finished, found, strict=True):
            results[index] = part
        if progress:
            progress(len(finished))
    return results


def _pack(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> list[tuple[tuple[int, ...], list[int]]]:
    """Rows of (context, indices of the sequences that share it), within the packing limit."""
    rows: list[tuple[tuple[int, ...], list[int]]] = []
    open_row: dict[tuple[int, ...], int] = {}
    used: dict[int, int] = {}
    for index, (context, target) in enumerate(sequences):
        if not target:
            continue
        key = tuple(context)
        row = open_row.get(key)
        if row is None or used[row] + len(target) > _PACKED_TOKENS:
            row = open_row[key] = len(rows)
            rows.append((key, []))
            used[row] = 0
        rows[row][1].append(index)
        used[row] += len(target)
    return rows


def _fetch(
    network: CausalNetwork,
    contexts: Sequence[tuple[int, ...]],
    token_budget: int,
    states: PassageStates,
    fingerprint: str,
) -> list[torch.Tensor]:
    """The states of all contexts but their last tokens, computed where they are not kept."""
    keys = [state_key(fingerprint, context) for context in contexts]
    found = {key: states.get(key) for key in dict.fromkeys(keys)}
    missing = {
        key: context[:-1]
        for key, context in zip(keys, contexts, strict=True)
        if found[key] is None and len(context) > 1
    }
    computed = compute_states(network, list(missing.values()), token_budget)
    for key, state in zip(missing, computed, strict=True):
        found[key] = states.put(key, state)
    config = network.model.config.get_text_config(decoder=True)
    heads = config.num_key_value_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    nothing = torch.empty(config.num_hidden_layers, 2, heads, 0, width)
    return [nothing if (kept := found[key]) is None else kept for key in keys]


def _score_rows(
    network: CausalNetwork,
    contexts: Sequence[tuple[int, ...]],
    states: Sequence[torch.Tensor],
    targets: Sequence[Sequence[Sequence[int]]],
) -> list[np.ndarray]:
    """One forward pass: each row holds a context's state and the targets packed behind it."""
    device, dtype = network.device, network.model.dtype
    filled = max(state.shape[3] for state in states)
    fresh = max(sum(len(target) for target in packed) for packed in targets)
    layers, _, heads, _, width = states[0].shape
    buffer = torch.zeros(
        layers, 2, len(states), heads, filled + fresh, width, dtype=dtype, device=device
    )
    ids = torch.zeros(len(states), fresh, dtype=torch.long)
    positions = torch.zeros(len(states), fresh, dtype=torch.long)
    mask = torch.zeros(len(states), 1, fresh, filled + fresh, dtype=torch.bool)
    wanted: list[tuple[int, slice]] = []
    for row, (context, packed) in enumerate(zip(contexts, targets, strict=True)):
        length = states[row].shape[3]
        buffer[:, :, row, :, :length] = states[row].to(device, dtype)
        start = 0
        for target in packed:
            span = slice(start, start + len(target))
            ids[row, span] = torch.tensor([context[-1], *target[:-1]])
            positions[row, span] = torch.arange(length, length + len(target))
            mask[row, 0, span, :length] = True
            mask[row, 0, span, filled + span.start : filled + span.stop] = torch.ones(
                len(target), len(target), dtype=torch.bool
            ).tril()
            wanted.append((row, span))
            start = span.stop
        mask[row, 0, start:, filled + start :] = torch.eye(fresh - start, dtype=torch.bool)
    cache = Cache([_FilledLayer(buffer[i, 0], buffer[i, 1], filled) for i in range(layers)])
    outputs = network.outputs(
        input_ids=ids.to(device),
        position_ids=positions.to(device),
        attention_mask=mask.to(device),
        past_key_values=cache,
        use_cache=True,
    )
    flat = [token for packed in targets for target in packed for token in target]
    found = network.log_probs(
        torch.cat([outputs[row, span] for row, span in wanted]),
        torch.tensor(flat, dtype=torch.long, device=device),
    )
    ends = np.cumsum([span.stop - span.start for _, span in wanted])
    return np.split(found, ends[:-1])
