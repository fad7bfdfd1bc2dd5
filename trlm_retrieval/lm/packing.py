"""One forward pass over many texts, without padding; the targets of one context share it.

A batch is one long row of tokens. Everything in a network but attention treats tokens one by one,
so only attention has to know where one text ends and the next begins: it is taken piece by piece.
Each distinct context is a *stem*, and the targets behind it are its *tails*, blind to each other:

    stem | tail | tail | tail || stem | tail || tail | tail ...

A stem that was read before is not read again: its keys and values come from a
:class:`~trlm_retrieval.lm.states.PassageStates`, as for the last two tails above. The grouped
heads of a query share their keys, so they are folded into its token axis and no key is repeated.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from trlm_retrieval.lm.likelihood import Progress, target_log_probs
from trlm_retrieval.lm.network import CausalNetwork
from trlm_retrieval.lm.states import PassageState, PassageStates, StateFormat, state_key
from trlm_retrieval.models.findings import kept

_NAME = "trlm_packed"
_CHUNK = 512  # tail tokens that attend together, unless one tail is longer
_UNKNOWN_TO_US = ("softcap", "sliding_window", "s_aux", "position_bias")  # of some attentions


@dataclass
class _Row:
    """A context and the targets that follow it, with where they stand among ``sequences``."""

    context: tuple[int, ...]
    targets: list[tuple[int, Sequence[int]]]
    key: bytes = b""
    state: PassageState | None = None

    @property
    def stem(self) -> tuple[int, ...]:
        """The context without its last token, whose output each tail needs and computes anew."""
        return self.context[:-1]

    @property
    def fresh_tokens(self) -> int:
        """Tokens that a pass has to read for this row."""
        tails = sum(len(target) for _, target in self.targets)
        return tails if self.state is not None else tails + len(self.stem)


@dataclass
class _Piece:
    """Tokens whose attention is computed in one call.

    :ivar tokens: where they stand in the pass; they are also keys to each other.
    :ivar before: what else they may attend to: tokens of the pass, or a state.
    :ivar mask: added to the attention scores, shape (groups × tokens, keys); None is causal.
    """

    tokens: slice
    before: slice | PassageState | None = None
    mask: torch.Tensor | None = None


@dataclass
class _Pass:
    """The layout of one pass: token ids, positions, pieces, and where targets are predicted.

    :ivar stems: the rows whose states are to be kept, and where their stems stand.
    """

    layers: int
    groups: int
    form: StateFormat
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    pieces: list[_Piece] = field(default_factory=list)
    predicting: list[int] = field(default_factory=list)
    stems: list[tuple[_Row, slice]] = field(default_factory=list)

    def append(self, tokens: Sequence[int], first_position: int) -> slice:
        """Add tokens at consecutive positions; returns where they stand."""
        start = len(self.ids)
        self.ids.extend(tokens)
        self.positions.extend(range(first_position, first_position + len(tokens)))
        return slice(start, len(self.ids))

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
    ) -> torch.Tensor:
        """Attention of one layer, from (1, heads, tokens, width) to (1, tokens, heads, width)."""
        for row, stem in self.stems:
            keys, values = key[0, :, stem], value[0, :, stem]
            if row.state is None:
                row.state = PassageState.empty((self.layers, 2, *keys.shape), self.form, keys)
            row.state.write((layer, 0), keys)
            row.state.write((layer, 1), values)
        output = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        for piece in self.pieces:
            asking, keys, values = (part[:, :, piece.tokens] for part in (query, key, value))
            if piece.mask is None:
                found = scaled_dot_product_attention(
                    asking, keys, values, is_causal=True, scale=scaling, enable_gqa=True
                )
            else:
                if piece.before is not None:
                    if isinstance(piece.before, slice):
                        first_keys, first_values = (
                            key[:, :, piece.before],
                            value[:, :, piece.before],
                        )
                    else:
                        first_keys, first_values = piece.before.read((layer,), keys)[:, None]
                    keys = torch.cat([first_keys, keys], 2)
                    values = torch.cat([first_values, values], 2)
                folded = asking.reshape(1, keys.shape[1], -1, asking.shape[3])
                found = scaled_dot_product_attention(
                    folded, keys, values, attn_mask=piece.mask, scale=scaling
                ).view(1, asking.shape[1], -1, values.shape[3])
            output[piece.tokens] = found[0].transpose(0, 1)
        return output[None]


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    packed: _Pass | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What the network's attention layers call; without ``packed`` it is ordinary attention."""
    if packed is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    unknown = [name for name in _UNKNOWN_TO_US if kwargs.get(name) is not None]
    if unknown:
        raise NotImplementedError(f"packed attention knows no {unknown[0]}")
    return packed.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def enable_packing(network: CausalNetwork) -> bool:
    """Switch a network to packed attention, if a probe gives what padded batches give.

    The verdict is kept in the user's cache, as the probe takes seconds.

    Networks whose attention is not Hugging Face's common one, or does not reach over the whole
    context, are left as they were.
    """
    model = network.model
    config = model.config.get_text_config(decoder=True)
    types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if types != {"full_attention"} or getattr(config, "sliding_window", None):
        return False
    if not getattr(model, "_supports_attention_backend", False):
        return False
    found = kept("packing", model, __file__, lambda: {"equal": torch.tensor(_is_equal(network))})
    equal = bool(found["equal"])
    if equal:
        model.set_attn_implementation(_NAME)
    return equal


def _is_equal(network: CausalNetwork) -> bool:
    """Whether packed attention gives what padded batches give; leaves the network as it was."""
    model = network.model
    former = model.config._attn_implementation
    size = min(model.config.get_text_config(decoder=True).vocab_size, 97)
    sequences = [  # two of one context, two more of other lengths
        (tuple(i * 7 % size for i in range(start, start + length)), (asked % size, 5 % size, 2))
        for start, length, asked in ((3, 9, 3), (3, 9, 8), (1, 4, 1), (40, 1, 40))
    ]
    expected = target_log_probs(network, sequences, 64)
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.25
    none, states = PassageStates(0), PassageStates()
    equal = False
    try:
        model.set_attn_implementation(_NAME)
        equal = all(
            np.allclose(one, other, atol=tolerance, rtol=0.05)
            for memory in (none, states, states)
            for one, other in zip(
                packed_log_probs(network, sequences, 64, memory), expected, strict=True
            )
        )
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        pass  # its attention takes or gives something else than ours: not equal
    model.set_attn_implementation(former)
    return equal


@torch.inference_mode()
def packed_log_probs(
    network: CausalNetwork,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    token_budget: int,
    states: PassageStates,
    fingerprint: str = "",
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """As :func:`~trlm_retrieval.lm.likelihood.target_log_probs`, each context read once.

    :param states: where the states of contexts are looked up and kept.
    :param fingerprint: of the model, for the keys of those states.
    """
    results: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
    for batch in _batches(_rows(sequences, token_budget), token_budget, states, fingerprint):
        found = _run(network, batch, states)
        finished = [index for row in batch for index, _ in row.targets]
        for index, part in zip(finished, found, strict=True):
            results[index] = part
        if progress:
            progress(len(finished))
    return results


@torch.inference_mode()
def packed_states(
    network: CausalNetwork,
    contexts: Iterable[tuple[int, ...]],
    token_budget: int,
    form: StateFormat,
) -> Iterator[PassageState]:
    """The states of contexts of at least two tokens, in order, a pass at a time."""
    for rows in _batches([_Row(context, []) for context in contexts], token_budget, None, ""):
        layout = _layout(network, form)
        for row in rows:
            stem = layout.append(row.stem, 0)
            layout.stems.append((row, stem))
            layout.pieces.append(_Piece(stem))
        _read(network, layout)
        for row in rows:
            assert row.state is not None
            yield row.state


def tail_outputs(
    network: CausalNetwork,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    states: Sequence[PassageState],
) -> torch.Tensor:
    """The network's outputs that predict each target's tokens, one target after the other.

    Gradients flow back to what is read behind the contexts, and not into the states.

    :param sequences: (context, target) token ids, contexts of at least two tokens.
    :param states: of these contexts.
    :returns: shape (target tokens, …).
    """
    layout = _layout(network, StateFormat())
    for (context, target), state in zip(sequences, states, strict=True):
        _lay_out(layout, _Row(tuple(context), [(0, target)], state=state), network, keep=False)
    return _read(network, layout)[0, torch.tensor(layout.predicting, device=network.device)]


def context_states(
    network: CausalNetwork,
    contexts: Sequence[tuple[int, ...]],
    token_budget: int,
    states: PassageStates,
    fingerprint: str,
) -> list[PassageState]:
    """The state of each context of at least two tokens; computed, and kept, where it is not yet.

    :param fingerprint: of the model.
    """
    return states.of(
        contexts,
        fingerprint,
        lambda missing, form: packed_states(network, missing, token_budget, form),
    )


def _rows(
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]], token_budget: int
) -> list[_Row]:
    """One row for each context; one with more target tokens than the budget is split."""
    rows: list[_Row] = []
    open_rows: dict[tuple[int, ...], tuple[_Row, int]] = {}
    for index, (context, target) in enumerate(sequences):
        if not target:
            continue
        key = tuple(context)
        row, used = open_rows.get(key, (None, 0))
        if row is None or used + len(target) > token_budget:
            row, used = _Row(key, []), 0
            rows.append(row)
        row.targets.append((index, target))
        open_rows[key] = (row, used + len(target))
    return rows


def _batches(
    rows: Sequence[_Row], token_budget: int, states: PassageStates | None, fingerprint: str
) -> Iterator[list[_Row]]:
    """Rows in order, with their states where there are any, filled up to the token budget."""
    batch: list[_Row] = []
    used = 0
    for row in rows:
        if states is not None and row.stem:
            row.key = state_key(fingerprint, row.context)
            row.state = states.get(row.key)
        if batch and used + row.fresh_tokens > token_budget:
            yield batch
            batch, used = [], 0
        batch.append(row)
        used += row.fresh_tokens
    if batch:
        yield batch


def _run(network: CausalNetwork, rows: Sequence[_Row], states: PassageStates) -> list[np.ndarray]:
    """Read the rows in one pass: log-probabilities of each target, and new states kept."""
    layout = _layout(network, states.form)
    for row in rows:
        _lay_out(layout, row, network, keep=states.max_bytes > 0)
    outputs = _read(network, layout)
    targets = [target for row in rows for _, target in row.targets]
    found = network.chosen_log_probs(
        outputs[0, torch.tensor(layout.predicting, device=network.device)],
        torch.tensor([token for target in targets for token in target], device=network.device),
    )
    for row, _ in layout.stems:
        assert row.state is not None
        states.put(row.key, row.state)
    return np.split(found, list(accumulate(map(len, targets)))[:-1])


def _layout(network: CausalNetwork, form: StateFormat) -> _Pass:
    config = network.model.config.get_text_config(decoder=True)
    groups = config.num_attention_heads // network.key_value_heads
    return _Pass(config.num_hidden_layers, groups, form)


def _read(network: CausalNetwork, layout: _Pass) -> torch.Tensor:
    """Run the network over a layout: outputs of shape (1, tokens, …)."""
    return network.outputs(
        input_ids=torch.tensor([layout.ids], device=network.device),
        position_ids=torch.tensor([layout.positions], device=network.device),
        attention_mask=torch.zeros(1, 1, 1, 1, device=network.device),  # of four axes: unread
        use_cache=False,
        packed=layout,
    )


def _lay_out(layout: _Pass, row: _Row, network: CausalNetwork, keep: bool) -> None:
    """Add a row to the layout; with ``keep``, a stem that is read now leaves its state."""
    tails = [[row.context[-1], *target[:-1]] for _, target in row.targets]
    length = len(row.stem)
    before: slice | PassageState | None = row.state
    if row.state is None and row.stem:
        before = layout.append(row.stem, 0)
        if keep:
            layout.stems.append((row, before))
    spans = [layout.append(tail, length) for tail in tails]
    layout.predicting.extend(at for span in spans for at in range(span.start, span.stop))
    if len(spans) == 1 and not isinstance(before, PassageState):
        start = spans[0].start if before is None else before.start
        layout.pieces.append(_Piece(slice(start, spans[0].stop)))
        return
    if isinstance(before, slice):
        layout.pieces.append(_Piece(before))
    visible = before.tokens if isinstance(before, PassageState) else length
    for chunk in _chunks(spans):
        mask = _mask(visible, [span.stop - span.start for span in chunk], layout.groups, network)
        layout.pieces.append(_Piece(slice(chunk[0].start, chunk[-1].stop), before, mask))


def _chunks(spans: Sequence[slice]) -> Iterator[list[slice]]:
    chunk: list[slice] = []
    for span in spans:
        if chunk and span.stop - chunk[0].start > _CHUNK:
            yield chunk
            chunk = []
        chunk.append(span)
    yield chunk


def _mask(before: int, lengths: Sequence[int], groups: int, network: CausalNetwork) -> torch.Tensor:
    """Each tail sees everything before it and its own tokens so far, nothing of other tails."""
    tokens = sum(lengths)
    mask = torch.full((tokens, before + tokens), float("-inf"))
    mask[:, :before] = 0.0
    start = 0
    for length in lengths:
        own = mask[start : start + length, before + start : before + start + length]
        own.masked_fill_(torch.ones(length, length, dtype=torch.bool).tril(), 0.0)
        start += length
    return mask.repeat(groups, 1).to(network.device, network.model.dtype)
