"""TimeReversedLM: one object that scores log P(query | passage), whatever model is behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.decoder import Decoder
from trlm_retrieval.lm.encoder_decoder import Pointer, Seq2Seq
from trlm_retrieval.lm.int8 import quantize_int8
from trlm_retrieval.lm.network import Network, Progress
from trlm_retrieval.lm.pointer import PointerModel
from trlm_retrieval.lm.scorer import PairScorer
from trlm_retrieval.lm.soft_prompt import SoftPrompt, is_soft_prompt
from trlm_retrieval.lm.states import PassageState, PassageStates
from trlm_retrieval.lm.template import Template
from trlm_retrieval.lm.undertrained import known_tokens, model_key
from trlm_retrieval.models.hub import Hub
from trlm_retrieval.models.loading import (
    INT8,
    Orders,
    choose_device,
    choose_dtype,
    load_pretrained,
    model_fingerprint,
    save_pretrained,
)


class TimeReversedLM(PairScorer):
    """A language model that scores a query given a passage.

    Usually made by :meth:`from_pretrained`::

        lm = TimeReversedLM.from_pretrained("smollm2-135m")
        [likelihood] = lm.score([("who wrote it?", "It was written by Ada Lovelace.")])
        likelihood.sum   # log P(query | passage), in nats

    :param model: a Hugging Face causal LM or encoder-decoder; it is put into evaluation mode.
    :param tokenizer: its fast tokenizer.
    :param order: the order in which the model was trained to read tokens: ``forward``, ``reverse``
        (TRLM-Ba) or ``both`` (TRLM-FoBa).
    :param start_tokens: the token that opens a sequence, for each order; by default the
        tokenizer's BOS token, or its EOS token where it has none; an encoder-decoder's is what its
        decoder starts with.
    :param token_budget: tokens in one batch, padding included; by default 1,024 on a CPU and
        32,768 elsewhere.
    :param soft_prompt: read between passage and query, unless a direction is named; it is put into
        ``model`` in place.
    :param states_megabytes: memory for passage states, which make a passage that was read before
        many times cheaper; 0 keeps none.
    :raises ModelError: if the tokenizer is not a fast one, or there is no token to start with, or
        the soft prompt does not fit the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        order: Orders = "forward",
        start_tokens: dict[str, str] | None = None,
        token_budget: int | None = None,
        soft_prompt: SoftPrompt | None = None,
        states_megabytes: int = 2048,
    ) -> None:
        self.model = model.eval()
        network = _network(model)
        frame = network.frame(tokenizer) if getattr(tokenizer, "is_fast", False) else None
        super().__init__(
            tokenizer,
            order,
            start_tokens or network.start_tokens(tokenizer),
            max_context=network.max_context,
            undertrained=frozenset() if frame else known_tokens(model_key(model, tokenizer)),
            directions=network.directions,
            frame=frame,
        )
        if soft_prompt is not None and frame is not None:
            raise ModelError("soft prompts are for decoders: this is an encoder-decoder")
        self._soft_template = soft_prompt.attach(model) if soft_prompt is not None else None
        self.name: str | None = None
        """What :meth:`from_pretrained` was asked for."""
        self.network = network
        self._states = PassageStates(states_megabytes * 1024**2)
        if token_budget is None:
            token_budget = 1024 if self.network.device.type == "cpu" else 32768
        self.token_budget = token_budget
        self.fingerprint = model_fingerprint(model, tokenizer, order, self.start_tokens)
        self.template()  # a soft prompt's must be one that the model reads

    @property
    def supports_states(self) -> bool:
        """Whether states of passages can be kept."""
        return self.network.supports_states

    @property
    def states(self) -> PassageStates:
        """The states of passages that were read; another one may be put in its place.

        :raises ValueError: if the model's states cannot be kept in its format.
        """
        return self._states

    @states.setter
    def states(self, states: PassageStates) -> None:
        self.network.check(states.form)
        self._states = states

    @property
    def decoder(self) -> Decoder:
        """The network of a model that is a decoder, for what only decoders can do.

        :raises ModelError: if it is an encoder-decoder.
        """
        if not isinstance(self.network, Decoder):
            raise ModelError(
                "this needs a decoder, and the model is an encoder-decoder: name another model, "
                "such as smollm2-135m"
            )
        return self.network

    @property
    def default_template(self) -> Template:
        """What :meth:`score` uses unless told otherwise: the soft prompt's, if there is one."""
        return self._soft_template or super().default_template

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        order: Orders | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        token_budget: int | None = None,
        soft_prompt: str | Path | None = None,
        states_megabytes: int = 2048,
        token: str | None = None,
        revision: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> "TimeReversedLM":
        """Load a model by the name of a pulled one, a folder, a ``.gguf`` file or a hub id.

        The folder may hold an adapter or a soft prompt; then its base is loaded with it.

        :param order: reading order that the model was trained in; by default what its folder's
            ``trlm_config.json`` says, else what is known of the hub id, else ``forward``.
        :param device: by default CUDA, then MPS, then CPU, whichever is there.
        :param dtype: by default bfloat16 on CUDA (float16 where that is missing), float16 on MPS,
            and on a CPU bfloat16 where it has instructions for it, else float32. Ask for
            ``float32`` where scores must be the same everywhere. ``int8`` (CPU only) also takes
            int8 weights and activations in the linear layers, with scores that differ more.
        :param soft_prompt: folder of a soft prompt for this model.
        :param states_megabytes: memory for passage states; 0 keeps none.
        :param token: key of a model hub, for models that are not open to everybody; by default
            that of HF_TOKEN, or of who has logged in.
        :param revision: branch, tag or commit of a hub's model; by default ``main``.
        :param model_kwargs: further arguments of transformers' ``from_pretrained``, such as
            ``device_map`` or ``quantization_config``. With a ``device_map`` the model stays where
            that puts it.
        :raises ModelError: if the model or soft prompt is not there, cannot be read, or they do not
            fit each other; the message says what to do.
        :raises ValueError: if ``model_kwargs`` holds what has an argument of its own, or a
            ``device_map`` comes with ``device`` or ``int8``.
        """
        placed = "device_map" in (model_kwargs or {})
        if placed and (device is not None or dtype == INT8):
            raise ValueError("model_kwargs holds a device_map: leave device and int8 out")
        device = choose_device(device)
        prompt, base = None, name_or_folder
        if soft_prompt is not None:
            prompt = SoftPrompt.load(soft_prompt)
        elif is_soft_prompt(name_or_folder):
            prompt = SoftPrompt.load(name_or_folder)
            base = prompt.base
        loaded = load_pretrained(
            base, order, choose_dtype(dtype, device), Hub(token, revision), model_kwargs
        )
        if prompt is not None:
            prompt.check(loaded.model)  # before its weights become int8
        lm = cls(
            _placed(loaded.model, dtype, None if placed else device),
            loaded.tokenizer,
            order=loaded.order,
            start_tokens=loaded.start_tokens,
            token_budget=token_budget,
            soft_prompt=prompt,
            states_megabytes=states_megabytes,
        )
        lm.name = str(name_or_folder)
        lm.first_stage_weight = loaded.first_stage_weight
        lm.calibration = loaded.calibration
        return lm

    def save(self, folder: str | Path) -> None:
        """Write weights, tokenizer and reading order to a folder that from_pretrained loads.

        :raises ModelError: if the model has a soft prompt, which is a folder of its own.
        """
        if self._soft_template is not None:
            raise ModelError("a model with a soft prompt cannot be saved as one: load it without")
        save_pretrained(
            self.model,
            self.tokenizer,
            self.order,
            self.start_tokens,
            Path(folder),
            self.first_stage_weight,
            self.calibration,
        )

    def log_probs(
        self,
        sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """Log-probabilities of each target token after its context, in nats.

        Equal contexts are read once.

        :param sequences: (context, target) token ids, contexts not empty, in the model's reading
            order.
        :returns: one float32 array of shape (target tokens,) for each, in input order.
        """
        return self.network.log_probs(
            sequences,
            token_budget=self.token_budget,
            states=self.states,
            fingerprint=self.fingerprint,
            progress=progress,
        )

    def context_states(self, contexts: Sequence[tuple[int, ...]]) -> list[PassageState]:
        """The states of contexts, each of at least two tokens; none where they cannot be kept."""
        if not self.supports_states:
            return []
        return self.states.of(
            contexts,
            self.fingerprint,
            lambda missing, form: self.network.read(
                missing, token_budget=self.token_budget, form=form
            ),
        )


def _placed(model: Any, dtype: str | torch.dtype | None, device: torch.device | None) -> Any:
    """The model on its device; None leaves it where it is."""
    if dtype == INT8:
        return quantize_int8(model)
    return model if device is None else model.to(device)


def _network(model: Any) -> Network:
    """What scores with a model of its kind."""
    if isinstance(model, PointerModel):
        return Pointer(model)
    return Seq2Seq(model) if model.config.is_encoder_decoder else Decoder(model)
