"""Cross-encoders: models that read query and passage together and give one score.

They are the peers that reranking is measured beside, and the teachers that small models learn from.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.hub import Hub
from trlm_retrieval.models.loading import choose_device, model_fingerprint
from trlm_retrieval.models.pair_classifier import load_pair_classifier, pair_logits
from trlm_retrieval.text.normalise import normalise


class CrossEncoder:
    """A sequence classification model with one label.

    :param model: a Hugging Face model for sequence classification, with its tokenizer.
    :param max_tokens: query and passage together are cut to this many, the longer one first.
    :ivar fingerprint: changes with the weights, the tokenizer and the cut.
    :raises ModelError: if the model does not give one score.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 512) -> None:
        if model.config.num_labels != 1:
            raise ModelError(
                f"a cross-encoder for ranking gives one score, and this model gives "
                f"{model.config.num_labels}"
            )
        self._model, self._tokenizer, self._max_tokens = model.eval(), tokenizer, max_tokens
        # Taken now: a tokenizer keeps the padding and cut of its last call.
        found = model_fingerprint(model, tokenizer, "forward", {})
        self.fingerprint = f"cross-encoder:{found}:{max_tokens}"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        max_tokens: int = 512,
        device: str | torch.device | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> "CrossEncoder":
        """Load a cross-encoder in float32.

        :param name: a name of `trlm models list`, a folder or a hub id.
        :param device: "cpu", "cuda", "mps", ...; None takes the best one present.
        :param token: key of a model hub, for models that are not open to everybody.
        :param revision: branch, tag or commit of a hub's model; by default ``main``.
        :raises ModelError: if it is not there, or no cross-encoder.
        """
        model, tokenizer = load_pair_classifier(
            name, "cross-encoder", choose_device(device), Hub(token, revision)
        )
        limit = getattr(model.config, "max_position_embeddings", max_tokens)
        return cls(model, tokenizer, min(max_tokens, limit))

    def scores(
        self,
        pairs: Sequence[tuple[str, str]],
        progress: Callable[[int], None] = lambda done: None,
    ) -> np.ndarray:
        """The model's scores (logits) of (query, passage) pairs, float32, shape (pairs,).

        :param progress: called with the number of pairs done since the last call.
        """
        texts = [(normalise(query), normalise(passage)) for query, passage in pairs]
        return pair_logits(self._model, self._tokenizer, texts, self._max_tokens, progress)[:, 0]

    def cut_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """How many tokens of each pair are not read."""
        if not pairs:
            return []
        queries, passages = zip(*((normalise(q), normalise(p)) for q, p in pairs), strict=True)
        found = self._tokenizer(list(queries), list(passages), truncation=False, verbose=False)
        return [max(0, len(ids) - self._max_tokens) for ids in found["input_ids"]]
