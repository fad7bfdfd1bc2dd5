"""Sentence embedders of the common shape, read through transformers alone.

That shape is an encoder, then the mean of its outputs or the first of them, then length 1. The
vectors are those of sentence-transformers, whose imports take longer than such a model does.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from trlm_retrieval.models.batches import padded_batches
from trlm_retrieval.models.loading import choose_device

_SHAPE = ("Transformer", "Pooling", "Normalize")
_POOLING = ("pooling_mode_mean_tokens", "pooling_mode_cls_token")


class PlainEmbedder:
    """An embedder of this shape; its methods are those of ``SentenceTransformer`` that we use.

    :param folder: one for which :func:`is_plain` is true.
    :param device: "cpu", "cuda", "mps", ...; None takes the best one present.
    :raises OSError: if a file is missing or damaged; ``ValueError`` likewise.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        settings = _read(folder / "sentence_bert_config.json")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        self._device = choose_device(device)
        model: Any = AutoModel.from_pretrained(
            str(folder), use_safetensors=True, **settings.get("model_args", {})
        )
        self._model = model.to(self._device).eval()
        self._mean = bool(_read(folder / "1_Pooling" / "config.json").get(_POOLING[0]))
        self.max_seq_length: int = settings.get("max_seq_length") or min(
            self.tokenizer.model_max_length, model.config.max_position_embeddings
        )

    def get_embedding_dimension(self) -> int:
        """Numbers in a vector."""
        return int(self._model.config.hidden_size)

    @torch.inference_mode()
    def encode(
        self, sentences: Sequence[str], *, batch_size: int | None = None, **_: Any
    ) -> np.ndarray:
        """Float32 vectors of length 1, shape (len(sentences), dimension); long texts are cut.

        :param batch_size: texts of full length in one pass; of shorter ones more take their place.
        """
        vectors = np.zeros((len(sentences), self.get_embedding_dimension()), np.float32)
        encoded = self.tokenizer(
            [sentence.strip() for sentence in sentences],
            truncation=True,
            max_length=self.max_seq_length,
        )
        budget = None if batch_size is None else batch_size * self.max_seq_length
        for places, given in padded_batches(self.tokenizer, encoded, self._device, budget):
            outputs = self._model(**given).last_hidden_state
            if self._mean:
                mask = given["attention_mask"][:, :, None].to(outputs.dtype)
                pooled = (outputs * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            else:
                pooled = outputs[:, 0]
            vectors[places] = torch.nn.functional.normalize(pooled.float()).cpu().numpy()
        return vectors


def is_plain(folder: Path) -> bool:
    """Whether a folder holds an embedder of this shape, and nothing that changes its vectors."""
    if not (folder / "modules.json").is_file():
        return False
    try:
        kinds = tuple(
            module["type"].rpartition(".")[2] for module in _read(folder / "modules.json")
        )
        pooling = _read(folder / "1_Pooling" / "config.json")
        reading = _read(folder / "sentence_bert_config.json")
        whole = _read(folder / "config_sentence_transformers.json")
        encoder = _read(folder / "config.json")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # sentence-transformers may know better, or says what is wrong
    modes = [name for name, on in pooling.items() if name.startswith("pooling_mode") and on]
    return (
        kinds == _SHAPE
        and len(modes) == 1
        and modes[0] in _POOLING
        and not reading.keys() - {"max_seq_length", "do_lower_case", "model_args"}
        and not reading.get("do_lower_case")
        and not any(whole.get("prompts", {}).values())
        and encoder.get("model_type") == "bert"
    )


def _read(file: Path) -> Any:
    """The JSON of a file; of one that is not there, as several may be missing, an empty object."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
