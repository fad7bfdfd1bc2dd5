"""LoRA adapters: a few trained numbers beside the frozen ones of a model."""

import warnings
from pathlib import Path
from typing import Any

import torch

from trlm_retrieval.errors import TRLMError
from trlm_retrieval.models.loading import Orders, save_settings


def add_adapter(model: Any, rank: int, seed: int) -> Any:
    """Freeze a model and put an adapter into all its linear layers, in place.

    :returns: peft's view of the model, which can save the adapter.
    :raises TRLMError: without the extra ``train``.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise TRLMError("adapters need peft: `pip install 'trlm-retrieval[train]'`") from error
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        return get_peft_model(model, config)


def save_adapter(
    adapted: Any, base: str | Path, order: Orders, start_tokens: dict[str, str], folder: Path
) -> None:
    """Write an adapter folder: the adapter, the name of its base, and the reading order."""
    if Path(base).exists():
        base = Path(base).resolve()
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    # Adapters are on linear layers alone; left to itself, peft asks a hub about the embeddings.
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink()  # an empty form
    save_settings(order, start_tokens, folder)
