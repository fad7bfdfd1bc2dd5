"""A decoder to train, whole or by an adapter, and how it is saved."""

from pathlib import Path
from typing import Any

import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.models.loading import load_pretrained, save_pretrained
from trlm_retrieval.training.adapter import add_adapter, save_adapter
from trlm_retrieval.training.recipe import Options
from trlm_retrieval.training.tokenizer import start_tokens


class TrainedDecoder:
    """A Hugging Face causal LM.

    :param base: name, folder or hub id of the model to start from.
    :param adapter_rank: rank of the LoRA adapter to train; None trains the whole model.
    :raises ModelError: if it cannot be loaded, or has no token to start with.
    """

    def __init__(self, base: str | Path, options: Options, adapter_rank: int | None) -> None:
        self._base, self._rank, self._seed = base, adapter_rank, options.seed
        # Below an adapter the model is frozen: it needs no more precision than it is computed in.
        dtype = torch.float32 if adapter_rank is None else options.dtype
        loaded = load_pretrained(base, None, dtype)
        self.tokenizer, self.order = loaded.tokenizer, loaded.order
        self._starts = loaded.start_tokens or start_tokens(self.tokenizer)
        self.model: Any = loaded.model.to(options.workers.device)
        self._adapted: Any = None

    def scorer(self, token_budget: int | None = None) -> TimeReversedLM:
        """Scores with the model as it is now."""
        return TimeReversedLM(
            self.model,
            self.tokenizer,
            order=self.order,
            start_tokens=self._starts,
            token_budget=token_budget,
        )

    def encoder(self) -> PairEncoder:
        ids: dict[Any, int] = {
            order: self.tokenizer.convert_tokens_to_ids(token)
            for order, token in self._starts.items()
        }
        return PairEncoder(self.tokenizer, ids, self.scorer().max_context)

    def add_adapter(self) -> None:
        """Freeze the model and put the adapter into it, if one is to be trained."""
        if self._rank:
            self._adapted = add_adapter(self.model, self._rank, self._seed)

    def save(self, folder: Path) -> None:
        """Write the model, or its adapter."""
        if self._adapted is None:
            save_pretrained(self.model, self.tokenizer, self.order, self._starts, folder)
        else:
            save_adapter(self._adapted, self._base, self.order, self._starts, folder)
