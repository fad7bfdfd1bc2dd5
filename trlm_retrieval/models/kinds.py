"""What a model is for, so that none is loaded as something else.

Loaders don't notice by themselves: a cross-encoder loads as a language model or as an embedder,
with random numbers in place of what it lacks.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.hub import ANYBODY, Hub

Kind = Literal["language model", "encoder", "cross-encoder"]


def kind_of(folder_or_id: str | Path, hub: Hub = ANYBODY) -> Kind | None:
    """What the `config.json` of a folder or hub id says; None if it is silent or not there."""
    from transformers import PretrainedConfig
    from transformers.models.auto import modeling_auto

    try:
        settings, _ = PretrainedConfig.get_config_dict(
            str(folder_or_id), **hub.arguments(folder_or_id)
        )
    except (OSError, ValueError):
        return None
    architectures = settings.get("architectures")
    if not architectures:
        return None
    if scores_pairs(architectures):
        return "cross-encoder"
    language_models = {
        *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
        *modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values(),
        "PointerModel",  # our own, lm/pointer.py
    }
    return "language model" if language_models.intersection(architectures) else "encoder"


def scores_pairs(architectures: Iterable[str]) -> bool:
    """Whether a model of these architectures, as `config.json` names them, is a cross-encoder."""
    return any(name.endswith("ForSequenceClassification") for name in architectures)


def check_is_language_model(name: str, kind: Kind | None) -> None:
    """
    :raises ModelError: if the kind is known and is another one.
    """
    if kind == "cross-encoder":
        raise ModelError(
            f"{name!r} is a cross-encoder, not a language model: it scores pairs with "
            "sentence-transformers' CrossEncoder; give a language model here, for example "
            "trlm-small or smollm2-135m"
        )
    if kind == "encoder":
        raise ModelError(
            f"{name!r} is an encoder, not a language model: it can embed passages (`trlm index "
            "--embedder`); give a language model here, for example trlm-small or smollm2-135m"
        )


def check_can_embed(name: str, kind: Kind | None) -> None:
    """
    :raises ModelError: if the model is a cross-encoder, which reads a query with each passage.
    """
    if kind == "cross-encoder":
        raise ModelError(
            f"{name!r} is a cross-encoder, not an embedder: it reads a query together with each "
            "passage and gives no vectors; give an embedder here, for example minilm or bge-small"
        )
