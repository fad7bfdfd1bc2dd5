"""What scoring and generation ask of a network, and the parts of a Hugging Face causal LM.

There are two kinds of :class:`Network`: :class:`~trlm_retrieval.lm.decoder.Decoder` and
:class:`~trlm_retrieval.lm.encoder_decoder.EncoderDecoder`. Whoever holds one need not know which.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from trlm_retrieval.lm.encoding import EncoderFrame
from trlm_retrieval.lm.states import PassageState, PassageStates, StateFormat
from trlm_retrieval.lm.template import Order, Template

Progress = Callable[[int], None]
Context = tuple[int, ...]

_HEAD_ROWS = 128  # logits are materialised for this many positions at a time


class Continuation(Protocol):
    """The contexts of some rows, and what was decoded behind them so far."""

    def first(self) -> torch.Tensor:
        """Logits of each row's first token, (rows, vocabulary)."""

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to each row; logits of the next, (rows, vocabulary)."""

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""


class Network(Protocol):
    """A network that gives log P(target | context).

    A context is what is read before the target: token ids of which the last predicts the target's
    first. The state of a context is made of the tokens before that last one.

    :ivar max_context: longest sequence that it reads, in tokens.
    :ivar supports_states: whether states of contexts can be kept.
    :ivar directions: the templates that it is given by name.
    """

    model: Any
    device: torch.device
    max_context: int
    supports_states: bool
    directions: dict[str, Template]

    def frame(self, tokenizer: Any) -> EncoderFrame | None:
        """What stands around a text that an encoder reads; None for a decoder."""

    def start_tokens(self, tokenizer: Any) -> dict[Order, str]:
        """The token that opens a sequence of each order, unless the model's folder names one.

        :raises ModelError: if there is none; it says what to do.
        """

    def check(self, form: StateFormat) -> None:
        """
        :raises ValueError: if states cannot be kept so.
        """

    def log_probs(
        self,
        sequences: Sequence[tuple[Context, Sequence[int]]],
        *,
        token_budget: int,
        states: PassageStates,
        fingerprint: str = "",
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """Log-probabilities in nats of each target's tokens, in input order.

        :param token_budget: tokens in one batch.
        :param states: where the states of contexts are looked up and kept.
        :param fingerprint: of the model, for the keys of those states.
        :param progress: called with the number of sequences just finished.
        """

    def read(
        self, contexts: Sequence[Context], *, token_budget: int, form: StateFormat
    ) -> Iterator[PassageState]:
        """The states of contexts of at least two tokens, in order."""

    def state_bytes(self, tokens: int, form: StateFormat) -> int:
        """Bytes that the state of this many tokens takes."""

    def continuations(
        self, contexts: Sequence[Context], states: Sequence[PassageState], owners: Sequence[int]
    ) -> Iterator[tuple[list[int], Continuation]]:
        """Rows that are decoded together, as numbers of ``owners``, and their continuation.

        :param states: of the contexts; none where they cannot be kept.
        :param owners: the context of each row; equal ones stand side by side.
        """


class CausalNetwork:
    """The parts of a Hugging Face causal LM that scoring needs: its body and its output head.

    Where the head is not a plain function of the body's last hidden state (soft-capped or scaled
    logits, for instance), the whole model is called instead; which case holds is measured once.

    :param model: a Hugging Face causal LM in evaluation mode.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = next(model.parameters()).device
        self.head_splits = self._head_splits()

    @torch.inference_mode()
    def _head_splits(self) -> bool:
        head = self.model.get_output_embeddings()
        body = self.model.base_model
        if head is None or body is self.model:
            return False
        probe = torch.arange(4, device=self.device)[None] % self.model.config.vocab_size
        whole = self.model(input_ids=probe, use_cache=False).logits.float()
        split = head(body(input_ids=probe, use_cache=False).last_hidden_state).float()
        return split.shape == whole.shape and torch.allclose(split, whole, atol=1e-4, rtol=1e-3)

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values in each layer: fewer than query heads where these share them."""
        config = self.model.config.get_text_config(decoder=True)
        return getattr(config, "num_key_value_heads", None) or config.num_attention_heads

    def outputs(self, **inputs: Any) -> torch.Tensor:
        """Hidden states (rows, tokens, width), or logits (rows, tokens, vocabulary) where the head
        cannot be split off."""
        if self.head_splits:
            return self.model.base_model(**inputs).last_hidden_state
        return self.model(**inputs).logits

    def logits(self, outputs: torch.Tensor) -> torch.Tensor:
        """Float32 logits (positions, vocabulary) of ``outputs`` (positions, …)."""
        head = self.model.get_output_embeddings() if self.head_splits else torch.nn.Identity()
        return head(outputs).float()

    def chosen_log_probs(self, outputs: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
        """Log-probabilities of ``targets`` (positions,) given their ``outputs`` (positions, …)."""
        found = []
        for rows, ids in zip(outputs.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True):
            logits = self.logits(rows)
            chosen = logits.gather(-1, ids[:, None]).squeeze(-1)
            found.append(chosen - logits.logsumexp(-1))
        return torch.cat(found).cpu().numpy() if found else np.zeros(0, np.float32)
