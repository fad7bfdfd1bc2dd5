"""Decoders: packed passes where their attention takes them, else padded batches."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from trlm_retrieval.lm.encoding import EncoderFrame, bos_start
from trlm_retrieval.lm.likelihood import target_log_probs
from trlm_retrieval.lm.network import CausalNetwork, Context, Continuation, Progress
from trlm_retrieval.lm.packing import enable_packing, packed_log_probs, packed_states
from trlm_retrieval.lm.states import PassageState, PassageStates, StateFormat
from trlm_retrieval.lm.template import DIRECTIONS, Order, Template


class Decoder(CausalNetwork):
    """A Hugging Face causal LM; see :class:`~trlm_retrieval.lm.network.Network`."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._config = model.config.get_text_config(decoder=True)
        self.max_context: int = getattr(self._config, "max_position_embeddings", None) or 2048
        self.supports_states = enable_packing(self)
        self.directions: dict[str, Template] = DIRECTIONS

    def frame(self, tokenizer: Any) -> EncoderFrame | None:
        return None

    def start_tokens(self, tokenizer: Any) -> dict[Order, str]:
        return bos_start(tokenizer)

    def check(self, form: StateFormat) -> None:
        if form.pool != 1:
            raise ValueError("states of a decoder cannot be pooled: leave pool at 1")

    def log_probs(
        self,
        sequences: Sequence[tuple[Context, Sequence[int]]],
        *,
        token_budget: int,
        states: PassageStates,
        fingerprint: str = "",
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        if not self.supports_states:
            return target_log_probs(self, sequences, token_budget, progress)
        return packed_log_probs(self, sequences, token_budget, states, fingerprint, progress)

    def read(
        self, contexts: Sequence[Context], *, token_budget: int, form: StateFormat
    ) -> Iterator[PassageState]:
        return packed_states(self, contexts, token_budget, form)

    def state_bytes(self, tokens: int, form: StateFormat) -> int:
        config = self._config
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        vectors = tokens * config.num_hidden_layers * 2 * self.key_value_heads
        return vectors * form.vector_bytes(width, self.model.dtype)

    def continuations(
        self, contexts: Sequence[Context], states: Sequence[PassageState], owners: Sequence[int]
    ) -> Iterator[tuple[list[int], Continuation]]:
        if states:
            yield list(range(len(owners))), _SharedContexts(self, contexts, states, owners)
            return
        for owner, group in groupby(range(len(owners)), key=owners.__getitem__):
            rows = list(group)
            yield rows, _CopiedContext(self, contexts[owner], len(rows))


class _SharedContexts:
    """Rows of several contexts, decoded in one pass; the states are shared by their rows.

    The network sees one long row of tokens, one for each sample, as in
    :mod:`~trlm_retrieval.lm.packing`; attention is to the row's context and to its own tokens.

    :param owners: which context each row goes on from; equal ones stand side by side.
    """

    def __init__(
        self,
        network: CausalNetwork,
        contexts: Sequence[Context],
        states: Sequence[PassageState],
        owners: Sequence[int],
    ) -> None:
        self._network = network
        self._contexts = contexts
        self._states = states
        self._owners = list(owners)
        self._own: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # (rows, heads, tokens, width)
        self._step = 0

    def first(self) -> torch.Tensor:
        last = [self._contexts[owner][-1] for owner in self._owners]
        return self.advance(torch.tensor(last, device=self._network.device))

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = [len(self._contexts[owner]) - 1 + self._step for owner in self._owners]
        device = self._network.device
        outputs = self._network.outputs(
            input_ids=tokens[None],
            position_ids=torch.tensor([positions], device=device),
            attention_mask=torch.zeros(1, 1, 1, 1, device=device),  # of four axes: unread
            use_cache=False,
            packed=self,
        )
        self._step += 1
        return self._network.logits(outputs[0])

    def keep(self, rows: torch.Tensor) -> None:
        self._owners = [self._owners[row] for row in rows.tolist()]
        self._own = {layer: (k[rows], v[rows]) for layer, (k, v) in self._own.items()}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
    ) -> torch.Tensor:
        """Attention of one layer, from (1, heads, rows, width) to (1, rows, heads, width)."""
        heads, rows, width = query.shape[1:]
        own_keys, own_values = (part[0].transpose(0, 1)[:, :, None] for part in (key, value))
        if layer in self._own:
            own_keys = torch.cat([self._own[layer][0], own_keys], 2)
            own_values = torch.cat([self._own[layer][1], own_values], 2)
        self._own[layer] = own_keys, own_values
        shared = own_keys.shape[1]  # each key is shared by a group of the query's heads
        asking = query[0].transpose(0, 1).reshape(rows, shared, heads // shared, width)
        asking = asking * (scaling or width**-0.5)
        own_scores = asking @ own_keys.transpose(2, 3)
        output = asking.new_empty(*asking.shape[:3], own_values.shape[3])
        start = 0
        for owner, group in groupby(self._owners):
            part = slice(start, start := start + len(list(group)))
            keys, values = self._states[owner].read((layer,), key)
            folded = asking[part].transpose(0, 1).flatten(1, 2)  # (shared, rows × group, width)
            scores = _unfold(folded @ keys.transpose(1, 2), part)
            weights = torch.cat([scores, own_scores[part]], 3).float().softmax(3).to(asking.dtype)
            before, own = weights.split([keys.shape[1], own_keys.shape[2]], 3)
            seen = before.transpose(0, 1).flatten(1, 2) @ values
            output[part] = _unfold(seen, part) + own @ own_values[part]
        return output.reshape(1, rows, heads, -1)


def _unfold(folded: torch.Tensor, rows: slice) -> torch.Tensor:
    """From (shared, rows × group, n) to (rows, shared, group, n)."""
    shape = (folded.shape[0], rows.stop - rows.start, -1, folded.shape[2])
    return folded.view(shape).transpose(0, 1)


class _CopiedContext:
    """Rows of one context, for networks with another attention: each has a copy of its state."""

    def __init__(self, network: CausalNetwork, context: Context, rows: int) -> None:
        self._network = network
        self._context = context
        self._rows = rows
        self._cache: Any = DynamicCache(config=network.model.config)

    def first(self) -> torch.Tensor:
        context = torch.tensor([self._context], device=self._network.device)
        logits = self._read(context).expand(self._rows, -1).clone()
        self._cache.batch_repeat_interleave(self._rows)
        return logits

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._read(tokens[:, None])

    def keep(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        outputs = self._network.model(
            input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return outputs.logits[:, -1].float()
