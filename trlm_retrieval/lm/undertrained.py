"""Under-trained tokens of a model: what is known of them, so that scoring can warn.

The likelihood of a text that is full of them means little. To find them takes seconds to minutes,
so `trlm prompt tokens` does it once and keeps the list in the cache folder; that of SmolLM2-135M
ships. A list belongs to a tokenizer and a shape of model: the same model in another precision, with
an adapter or with a soft prompt uses the same one.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from trlm_retrieval.files import write_text
from trlm_retrieval.models.store import models_folder

logger = logging.getLogger(__name__)

MANY = 0.1
"""The share of a text's tokens from which on its likelihood means little."""

_SHIPPED = Path(__file__).with_name("undertrained.json")


def share_of(ids: Sequence[int], tokens: Collection[int]) -> float:
    """The share of ``ids`` that are among ``tokens``, 0 to 1; 0.0 for an empty text."""
    return sum(map(tokens.__contains__, ids)) / len(ids) if ids and tokens else 0.0


def model_key(model: Any, tokenizer: Any) -> str:
    """What tells the models apart that have lists of their own."""
    shape = [*model.get_input_embeddings().weight.shape]
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    digest = hashlib.sha256(json.dumps([*shape, layers]).encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def known_tokens(key: str) -> frozenset[int]:
    """The tokens that are known for a model; empty where none were looked for."""
    path = _kept(key)
    if path.is_file():
        try:
            return frozenset(map(int, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            logger.warning(
                "%s is damaged (%s) and not used: run `trlm prompt tokens` again", path, error
            )
    return frozenset(_shipped().get(key, ()))


def keep_tokens(key: str, tokens: Collection[int]) -> Path:
    """Keep a model's list for all later runs; returns where it is."""
    path = _kept(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(sorted(tokens)) + "\n")
    return path


def _kept(key: str) -> Path:
    return models_folder().parent / "undertrained" / f"{key}.json"


@cache
def _shipped() -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(_SHIPPED.read_text(encoding="utf-8"))
    return found
