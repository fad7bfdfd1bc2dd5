"""Encoder-decoders: the encoder reads a passage once, the decoder scores queries against it.

The state of a context is the encoder's output, one vector a token, or the mean of two or four. All
scores are read off states, so that a score does not depend on whether its state was there before.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.encoding import EncoderFrame
from trlm_retrieval.lm.likelihood import padded
from trlm_retrieval.lm.network import Context, Continuation, Progress
from trlm_retrieval.lm.pointer import Earlier, EncodedPassages, PointerModel
from trlm_retrieval.lm.states import PassageState, PassageStates, StateFormat
from trlm_retrieval.lm.template import BARE, BARE_REVERSED, UPR, Order, Template
from trlm_retrieval.models.batches import budget_batches

_RELATIVE_POSITIONS = 512  # tokens read by encoders whose positions have no end, such as T5's
_WINDOW = 16  # of the token budget: tokens whose states are in hand at the same time
_ATTENDED = 16  # so many attended positions cost what one decoded token costs
_LOGITS = 2**27  # numbers of logits in one batch


@dataclass
class _Unit:
    """A context and targets of it that are decoded together, each with its place in the results."""

    context: Context
    targets: list[tuple[int, Sequence[int]]]

    @property
    def longest(self) -> int:
        return max(len(target) for _, target in self.targets)


class EncoderDecoder(ABC):
    """An encoder-decoder; see :class:`~trlm_retrieval.lm.network.Network`."""

    supports_states = True
    max_context: int
    max_target: int | None
    width: int
    directions: dict[str, Template]

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = next(model.parameters()).device

    def frame(self, tokenizer: Any) -> EncoderFrame | None:
        # Not the backend's own `encode`: that pads where `tokenizer.json` says so.
        found = tokenizer("a", padding=False, truncation=False, return_special_tokens_mask=True)
        ids, added = found["input_ids"], found["special_tokens_mask"]
        before = added.index(0) if 0 in added else 0
        after = added[::-1].index(0) if 0 in added else 0
        return EncoderFrame(
            tuple(ids[:before]), tuple(ids[len(ids) - after :]), max_target=self.max_target
        )

    @abstractmethod
    def start_tokens(self, tokenizer: Any) -> dict[Order, str]: ...

    def check(self, form: StateFormat) -> None:  # noqa: B027 - every format works
        """As :meth:`Network.check`."""

    @torch.inference_mode()
    def log_probs(
        self,
        sequences: Sequence[tuple[Context, Sequence[int]]],
        *,
        token_budget: int,
        states: PassageStates,
        fingerprint: str = "",
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        results: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
        of_context: dict[Context, list[tuple[int, Sequence[int]]]] = {}
        for index, (context, target) in enumerate(sequences):
            if target:
                of_context.setdefault(tuple(context), []).append((index, target))
        contexts = sorted(of_context, key=len, reverse=True)
        for window in _windows(contexts, _WINDOW * token_budget):
            mine = [contexts[number] for number in window]
            found_states = states.of(
                mine,
                fingerprint,
                lambda missing, form: self.read(missing, token_budget=token_budget, form=form),
            )
            held = dict(zip(mine, found_states, strict=True))
            units = [
                unit
                for context in mine
                for unit in self._units(context, of_context[context], token_budget)
            ]
            for batch in self._batches(units, token_budget):
                chosen = [units[number] for number in batch]
                found = self._decode(chosen, [held[unit.context] for unit in chosen])
                for unit, rows in zip(chosen, found, strict=True):
                    for (index, target), row in zip(unit.targets, rows, strict=False):
                        results[index] = row[: len(target)]
                if progress:
                    progress(sum(len(unit.targets) for unit in chosen))
        empty = sum(not target for _, target in sequences)
        if progress and empty:
            progress(empty)
        return results

    @torch.inference_mode()
    def read(
        self, contexts: Sequence[Context], *, token_budget: int, form: StateFormat
    ) -> Iterator[PassageState]:
        for window in _windows(contexts, _WINDOW * token_budget):
            made: dict[int, PassageState] = {}
            for batch in budget_batches([len(contexts[n]) - 1 for n in window], token_budget):
                rows = [contexts[window[place]][:-1] for place in batch]
                ids = padded(rows).to(self.device)
                lengths = torch.tensor([len(row) for row in rows], device=self.device)
                outputs = self._encode(ids, _before(lengths, ids.shape[1]))
                for place, row, output in zip(batch, rows, outputs, strict=True):
                    made[place] = _state(output[: len(row)], form)
            yield from (made[place] for place in range(len(window)))

    def state_bytes(self, tokens: int, form: StateFormat) -> int:
        return -(-tokens // form.pool) * form.vector_bytes(self.width, self.model.dtype)

    def continuations(
        self, contexts: Sequence[Context], states: Sequence[PassageState], owners: Sequence[int]
    ) -> Iterator[tuple[list[int], Continuation]]:
        passages = self._passages([contexts[n] for n in owners], [states[n] for n in owners])
        starts = torch.tensor([[contexts[n][-1]] for n in owners], device=self.device)
        yield list(range(len(owners))), self._continuation(passages, starts)

    @abstractmethod
    def _encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The encoder's output for token ids, (passages, positions) to (…, width)."""

    @abstractmethod
    def _target_log_probs(
        self, passages: EncodedPassages, read: torch.Tensor, predicted: torch.Tensor
    ) -> torch.Tensor:
        """Log-probabilities of ``predicted``, shape (passages, targets, tokens); -1 is padding."""

    @abstractmethod
    def _continuation(self, passages: EncodedPassages, starts: torch.Tensor) -> Continuation:
        """Rows of a passage each, and of the token that opens its target, shape (passages, 1)."""

    def _units(
        self, context: Context, targets: Sequence[tuple[int, Sequence[int]]], token_budget: int
    ) -> Iterator[_Unit]:
        """The targets of a context, as many together as are decoded in one go."""
        lengths = [len(target) for _, target in targets]
        for batch in budget_batches(lengths, self._most_together(token_budget)):
            yield _Unit(context, [targets[number] for number in batch])

    def _most_together(self, token_budget: int) -> int:
        """Tokens of targets of one context that are decoded in one go."""
        return token_budget

    def _batches(self, units: Sequence[_Unit], token_budget: int) -> Iterator[list[int]]:
        """Units of like size, as numbers; padded, their cost is within the token budget."""
        batch: list[int] = []
        positions = targets = longest = 0
        order = sorted(
            range(len(units)), key=lambda n: (len(units[n].targets), units[n].longest), reverse=True
        )
        for number in order:
            unit = units[number]
            positions = max(positions, len(unit.context))
            targets, longest = max(targets, len(unit.targets)), max(longest, unit.longest)
            cost = (len(batch) + 1) * (positions / _ATTENDED + targets * longest)
            if batch and cost > token_budget:
                yield batch
                batch, positions = [], len(unit.context)
                targets, longest = len(unit.targets), unit.longest
            batch.append(number)
        if batch:
            yield batch

    def _decode(self, units: Sequence[_Unit], states: Sequence[PassageState]) -> np.ndarray:
        """Log-probabilities of the units' targets, shape (units, targets, tokens)."""
        shape = (
            len(units),
            max(len(unit.targets) for unit in units),
            max(unit.longest for unit in units),
        )
        read = torch.zeros(shape, dtype=torch.long)
        predicted = torch.full(shape, -1)
        for row, unit in enumerate(units):
            read[row, :, 0] = unit.context[-1]
            for column, (_, target) in enumerate(unit.targets):
                ids = torch.tensor(target)
                predicted[row, column, : len(ids)] = ids
                read[row, column, 1 : len(ids)] = ids[:-1]
        passages = self._passages([unit.context for unit in units], states)
        found = self._target_log_probs(passages, read.to(self.device), predicted.to(self.device))
        return found.float().cpu().numpy()

    def _passages(
        self, contexts: Sequence[Context], states: Sequence[PassageState]
    ) -> EncodedPassages:
        """States side by side, padded, in the network's precision."""
        lengths = torch.tensor([state.tokens for state in states], device=self.device)
        longest = int(lengths.max())
        numbers = torch.zeros(
            len(states), longest, self.width, dtype=self.model.dtype, device=self.device
        )
        for row, state in zip(numbers, states, strict=True):
            row[: state.tokens] = state.read((), numbers)
        pool = states[0].pool
        ids = torch.full((len(states), longest * pool), 0 if pool == 1 else -1)
        for held, context in zip(ids, contexts, strict=True):
            held[: len(context) - 1] = torch.tensor(context[:-1])
        if pool > 1:
            ids = ids.unflatten(1, (longest, pool))
        return EncodedPassages(numbers, ids.to(self.device), _before(lengths, longest))


class Pointer(EncoderDecoder):
    """Our own encoder-decoder, :class:`~trlm_retrieval.lm.pointer.PointerModel`."""

    def __init__(self, model: PointerModel) -> None:
        super().__init__(model)
        self.max_context = model.config.max_position_embeddings
        self.max_target = model.config.max_target
        self.width = model.config.hidden_size
        self.directions = {"ba": BARE_REVERSED, "fo": BARE}

    def start_tokens(self, tokenizer: Any) -> dict[Order, str]:
        if tokenizer.cls_token is None or tokenizer.sep_token is None:
            raise ModelError(
                "the tokenizer has no [CLS] or no [SEP] token for the decoder to start with; name "
                "a token for each order under start_tokens in trlm_config.json"
            )
        return {"forward": tokenizer.cls_token, "reverse": tokenizer.sep_token}

    def _encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode(ids, mask.long()).states

    def _target_log_probs(
        self, passages: EncodedPassages, read: torch.Tensor, predicted: torch.Tensor
    ) -> torch.Tensor:
        return self.model.target_log_probs(passages, read, predicted)

    def _continuation(self, passages: EncodedPassages, starts: torch.Tensor) -> Continuation:
        return _Continued(self.model, passages, starts)


class Seq2Seq(EncoderDecoder):
    """Any of Hugging Face's encoder-decoders: T5, BART, T5Gemma and their kin."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder = model.get_encoder().config
        decoder = model.get_decoder().config
        self.max_context = (
            getattr(encoder, "max_position_embeddings", None)
            or getattr(encoder, "n_positions", None)
            or _RELATIVE_POSITIONS
        )
        self.max_target = getattr(decoder, "max_position_embeddings", None)
        self.width = encoder.hidden_size
        self._vocabulary: int = decoder.vocab_size
        self.directions = {"fo": UPR}

    def start_tokens(self, tokenizer: Any) -> dict[Order, str]:
        found = self.model.config.decoder_start_token_id
        if found is None:
            found = self.model.generation_config.decoder_start_token_id
        if found is None:
            raise ModelError(
                "the model does not say which token its decoder starts with: set "
                "decoder_start_token_id in its config.json (T5: the id of the padding token), or "
                "name the token for each order under start_tokens in trlm_config.json"
            )
        token = tokenizer.convert_ids_to_tokens(found)
        return {"forward": token, "reverse": token}

    def _encode(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        outputs = self.model.get_encoder()(input_ids=ids, attention_mask=mask.long())
        return outputs.last_hidden_state

    def _most_together(self, token_budget: int) -> int:
        return 1  # one target a row: each row has its own attention to the passage

    def _batches(self, units: Sequence[_Unit], token_budget: int) -> Iterator[list[int]]:
        return super()._batches(units, min(token_budget, max(1, _LOGITS // self._vocabulary)))

    def _target_log_probs(
        self, passages: EncodedPassages, read: torch.Tensor, predicted: torch.Tensor
    ) -> torch.Tensor:
        log_probs = self._logits(passages, read[:, 0]).float().log_softmax(-1)
        return log_probs.gather(-1, predicted[:, 0, :, None].clamp_min(0)).squeeze(-1)[:, None]

    def _continuation(self, passages: EncodedPassages, starts: torch.Tensor) -> Continuation:
        return _Rewritten(self._logits, passages, starts)

    def _logits(self, passages: EncodedPassages, read: torch.Tensor) -> torch.Tensor:
        return self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=passages.states),
            attention_mask=passages.mask.long(),
            decoder_input_ids=read,
            use_cache=False,
        ).logits


class _Continued:
    """Rows of a pointer model, whose layers keep what they made of the tokens before."""

    def __init__(
        self, model: PointerModel, passages: EncodedPassages, starts: torch.Tensor
    ) -> None:
        self._model, self._passages, self._latest = model, passages, starts
        self._earlier = [Earlier() for _ in model.layers]

    def first(self) -> torch.Tensor:
        hidden = self._model.decode(self._passages, self._latest[:, None], self._earlier)
        return self._model.all_log_probs(self._passages, hidden[:, 0])[:, 0]

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        self._latest = tokens[:, None]
        return self.first()

    def keep(self, rows: torch.Tensor) -> None:
        self._passages = _rows(self._passages, rows)
        for layer in self._earlier:
            layer.keep(rows)


class _Rewritten:
    """Rows whose targets are read anew for each token: they are short.

    :param logits: of each token behind what the decoder has read, (rows, tokens, vocabulary).
    """

    def __init__(
        self,
        logits: Callable[[EncodedPassages, torch.Tensor], torch.Tensor],
        passages: EncodedPassages,
        starts: torch.Tensor,
    ) -> None:
        self._logits, self._passages, self._read = logits, passages, starts

    def first(self) -> torch.Tensor:
        return self._logits(self._passages, self._read)[:, -1].float()

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        self._read = torch.cat([self._read, tokens[:, None]], 1)
        return self.first()

    def keep(self, rows: torch.Tensor) -> None:
        self._passages, self._read = _rows(self._passages, rows), self._read[rows]


def _rows(passages: EncodedPassages, rows: torch.Tensor) -> EncodedPassages:
    """Some of the passages."""
    return EncodedPassages(passages.states[rows], passages.ids[rows], passages.mask[rows])


def _state(vectors: torch.Tensor, form: StateFormat) -> PassageState:
    """The state that keeps vectors, (tokens, width), in a format."""
    if form.pool > 1:
        vectors = torch.stack([part.mean(0) for part in vectors.split(form.pool)])
    state = PassageState.empty(tuple(vectors.shape), form, vectors)
    state.write((), vectors)
    return state


def _before(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    """Which positions hold something, (rows, longest), bool."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def _windows(contexts: Sequence[Context], most: int) -> Iterator[list[int]]:
    """Numbers of contexts in order, in runs of at most so many tokens."""
    window: list[int] = []
    tokens = 0
    for number, context in enumerate(contexts):
        if len(context) < 2:
            raise ValueError("a context must hold what the encoder reads and a start token")
        if window and tokens + len(context) > most:
            yield window
            window, tokens = [], 0
        window.append(number)
        tokens += len(context)
    if window:
        yield window
