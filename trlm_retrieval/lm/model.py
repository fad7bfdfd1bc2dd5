"""TimeReversedLM: one object that scores log P(query | passage), whatever model is behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.direction import (
    EncodedPair,
    PairEncoder,
    Template,
    resolve_direction,
)
from trlm_retrieval.lm.int8 import quantize_int8
from trlm_retrieval.lm.likelihood import CausalNetwork, Likelihood, Progress, target_log_probs
from trlm_retrieval.lm.packed import enable_packing, packed_log_probs
from trlm_retrieval.lm.pretrained import (
    INT8,
    Orders,
    choose_device,
    choose_dtype,
    load_pretrained,
    model_fingerprint,
    save_pretrained,
)
from trlm_retrieval.lm.states import PassageStates

Direction = Literal["ba", "fo", "forward"] | Template


class TimeReversedLM:
    """A causal language model that scores a query given a passage.

    Usually made by :meth:`from_pretrained`::

        lm = TimeReversedLM.from_pretrained("smollm2-135m")
        [likelihood] = lm.score([("who wrote it?", "It was written by Ada Lovelace.")])
        likelihood.sum   # log P(query | passage), in nats

    :param model: a Hugging Face causal LM; it is put into evaluation mode.
    :param tokenizer: its fast tokenizer.
    :param order: the order in which the model was trained to read tokens: ``forward``, ``reverse``
        (TRLM-Ba) or ``both`` (TRLM-FoBa).
    :param start_tokens: the token that opens a sequence, for each order; by default the
        tokenizer's BOS token, or its EOS token where it has none.
    :param token_budget: tokens in one batch, padding included; by default 1,024 on a CPU and
        32,768 elsewhere.
    :raises ModelError: if the tokenizer is not a fast one, or has no token to start with.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        order: Orders = "forward",
        start_tokens: dict[str, str] | None = None,
        token_budget: int | None = None,
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{type(tokenizer).__name__} is not a fast tokenizer; load the model with a "
                "tokenizer.json"
            )
        if order not in ("forward", "reverse", "both"):
            raise ValueError(f"order must be 'forward', 'reverse' or 'both', not {order!r}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.order = order
        self.start_tokens = start_tokens or _default_start(tokenizer)
        self.name: str | None = None
        """What :meth:`from_pretrained` was asked for."""
        self.network = CausalNetwork(self.model)
        self.supports_states: bool = enable_packing(self.network)
        if token_budget is None:
            token_budget = 1024 if self.network.device.type == "cpu" else 32768
        self.token_budget = token_budget
        config = model.config.get_text_config(decoder=True)
        self.max_context: int = getattr(config, "max_position_embeddings", None) or 2048
        self.fingerprint: str = model_fingerprint(model, tokenizer, order, self.start_tokens)
        self._encoder = PairEncoder(tokenizer, self._start_ids(), self.max_context)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        order: Orders | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        token_budget: int | None = None,
    ) -> "TimeReversedLM":
        """Load a model by the name of a pulled one, a folder, a ``.gguf`` file or a hub id.

        :param order: reading order that the model was trained in; by default what its folder's
            ``trlm_config.json`` says, else what is known of the hub id, else ``forward``.
        :param device: by default CUDA, then MPS, then CPU, whichever is there.
        :param dtype: by default bfloat16 on CUDA (float16 where that is missing), float16 on MPS,
            and on a CPU bfloat16 where it has instructions for it, else float32. Ask for
            ``float32`` where scores must be the same everywhere. ``int8`` (CPU only) also takes
            int8 weights and activations in the linear layers, with scores that differ more.
        :raises ModelError: if the model is not there or cannot be read; the message says what to
            do.
        """
        device = choose_device(device)
        loaded = load_pretrained(name_or_folder, order, choose_dtype(dtype, device))
        lm = cls(
            quantize_int8(loaded.model) if dtype == INT8 else loaded.model.to(device),
            loaded.tokenizer,
            loaded.order,
            loaded.start_tokens,
            token_budget,
        )
        lm.name = str(name_or_folder)
        return lm

    def save(self, folder: str | Path) -> None:
        """Write weights, tokenizer and reading order to a folder that from_pretrained loads."""
        save_pretrained(self.model, self.tokenizer, self.order, self.start_tokens, Path(folder))

    @property
    def default_direction(self) -> Literal["ba", "fo"]:
        """``ba`` for a model that reads reversed tokens (FoBa included), else ``fo``."""
        return "fo" if self.order == "forward" else "ba"

    def template(self, direction: "Direction | str | None" = None) -> Template:
        """The template of a direction, checked against the model's reading order.

        :raises ModelError: if the model does not read tokens in the order the direction needs.
        """
        template = resolve_direction(direction or self.default_direction)
        if self.order not in ("both", template.order):
            remedy = (
                "use direction='ba', or load a forward model"
                if self.order == "reverse"
                else "use direction='fo', or load a model trained on reversed tokens "
                "(order='reverse' if this one was)"
            )
            raise ModelError(
                f"direction {template.name!r} reads tokens in {template.order} order, but the "
                f"model reads them in {self.order} order: {remedy}"
            )
        return template

    def encode(
        self,
        pairs: Sequence[tuple[str, str]],
        direction: "Direction | str | None" = None,
        max_passage_tokens: int | None = None,
    ) -> list[EncodedPair]:
        """Token ids of (query, passage) pairs as the model reads them."""
        return self._encoder.encode(pairs, self.template(direction), max_passage_tokens)

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        direction: "Direction | str | None" = None,
        *,
        prior: bool = False,
        max_passage_tokens: int | None = None,
        states: PassageStates | None = None,
        progress: Progress | None = None,
    ) -> list[Likelihood]:
        """Likelihoods of (query, passage) pairs, in input order.

        :param direction: ``ba`` or ``fo`` score the query given the passage, ``forward`` scores
            the passage given the query; a :class:`Template` does as it says. By default
            :attr:`default_direction`.
        :param prior: also score each target with nothing in the context, for gains.
        :param max_passage_tokens: cut passages to this many tokens; by default only the model's
            context limits them. The beginning is kept, and what is cut is counted.
        :param states: keep the contexts' states there and reuse them; ignored by models for which
            :attr:`supports_states` is false.
        :param progress: called with the number of pairs just finished.
        :raises ModelError: if the model does not fit the direction.
        :raises ValueError: if a query leaves no room for a passage.
        """
        template = self.template(direction)
        encoded = self._encoder.encode(pairs, template, max_passage_tokens)
        unique = list(dict.fromkeys((pair.context, pair.target) for pair in encoded))
        found = self.log_probs(unique, states, progress)
        if progress and len(unique) < len(encoded):
            progress(len(encoded) - len(unique))
        by_pair = dict(zip(unique, found, strict=True))
        priors = self._priors([pair.target for pair in encoded], template) if prior else None
        return [
            self._likelihood(
                pair,
                by_pair[pair.context, pair.target],
                priors[pair.target] if priors is not None else None,
                template,
            )
            for pair in encoded
        ]

    def log_probs(
        self,
        sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        states: PassageStates | None = None,
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """Log-probabilities of each target token after its context, in nats.

        What :meth:`score` rests on. Equal contexts are read once.

        :param sequences: (context, target) token ids, contexts not empty, in the model's reading
            order.
        :returns: one float32 array of shape (target tokens,) for each, in input order.
        """
        if not self.supports_states:
            return target_log_probs(self.network, sequences, self.token_budget, progress)
        return packed_log_probs(
            self.network, sequences, self.token_budget, states, self.fingerprint, progress
        )

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Display text of each token, in natural order; joined they give the text.

        Bytes of a character that spans several tokens are shown with its last one.
        """
        pieces, shown = [], ""
        for end in range(1, len(token_ids) + 1):
            text = self.tokenizer.decode(list(token_ids[:end]), clean_up_tokenization_spaces=False)
            complete = not text.endswith("\ufffd") or end == len(token_ids)
            pieces.append(text[len(shown) :] if complete else "")
            shown = text if complete else shown
        return pieces

    def _likelihood(
        self,
        pair: EncodedPair,
        log_probs: np.ndarray,
        prior: np.ndarray | None,
        template: Template,
    ) -> Likelihood:
        step = -1 if template.order == "reverse" else 1
        return Likelihood(
            pair.target[::step],
            log_probs[::step],
            pair.cut_tokens,
            None if prior is None else prior[::step],
        )

    def _priors(
        self, targets: Sequence[tuple[int, ...]], template: Template
    ) -> dict[tuple[int, ...], np.ndarray]:
        distinct = list(dict.fromkeys(targets))
        context = self._encoder.prior_context(template)
        found = self.log_probs([(context, target) for target in distinct])
        return dict(zip(distinct, found, strict=True))

    def _start_ids(self) -> dict[Any, int]:
        vocabulary = self.tokenizer.get_vocab()
        missing = [token for token in self.start_tokens.values() if token not in vocabulary]
        if missing:
            raise ModelError(
                f"start token {missing[0]!r} is not in the tokenizer's vocabulary; name one that "
                "is in trlm_config.json"
            )
        return {order: vocabulary[token] for order, token in self.start_tokens.items()}


def _default_start(tokenizer: Any) -> dict[str, str]:
    token = tokenizer.bos_token or tokenizer.eos_token
    if token is None:
        raise ModelError(
            "the tokenizer has neither a BOS nor an EOS token to start a sequence with; name one "
            "under start_tokens in trlm_config.json"
        )
    return {"forward": token, "reverse": token}
