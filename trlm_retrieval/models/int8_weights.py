"""Weights at one byte a number, for models that are shipped.

A matrix is stored as int8 with one float16 scale per row; vectors are stored as float16, and
buffers as they are. Reading gives ordinary floating-point weights back. The largest error of a
weight is half a step: 1/254 of the largest value in its row.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.initialization import no_init_weights

from trlm_retrieval.models.rounding import LEVELS, int8_scale

_FILE, _SCALE = "model.int8.safetensors", ".scale"


def auto_class(config: Any) -> Any:
    """The Auto class that makes a language model of a configuration: decoder or encoder-decoder."""
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def is_small(folder: Path) -> bool:
    """Whether a model folder holds int8 weights."""
    return (folder / _FILE).is_file()


def write_small(model: Any, folder: Path) -> None:
    """Write a model's weights as int8, with its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, parameter in model.named_parameters():  # tied weights once
        values = parameter.detach().float().cpu()
        if values.ndim < 2:
            tensors[name] = values.half()
            continue
        scale = int8_scale(values, 1, 1e-7).half()
        tensors[name] = (values / scale.float()).round().clamp(-LEVELS, LEVELS).to(torch.int8)
        tensors[name + _SCALE] = scale
    stored = model.state_dict()
    tensors |= {name: b.detach().cpu() for name, b in model.named_buffers() if name in stored}
    save_file(tensors, folder / _FILE, {"format": "pt"})
    settings = _public(model.config.to_dict())
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _public(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without those of the machine, also in what a configuration holds of others."""
    return {
        name: _public(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in ("dtype", "_name_or_path")
    }


def read_small(folder: Path, dtype: torch.dtype) -> Any:
    """The model of a folder with int8 weights, in this precision.

    :raises RuntimeError: if the weights do not fit the configuration.
    """
    tensors = load_file(folder / _FILE)
    weights = {}
    for name, values in tensors.items():
        if name.endswith(_SCALE):
            continue
        scale = tensors.get(name + _SCALE)
        if scale is not None:
            weights[name] = values.float() * scale.float()
        else:
            weights[name] = values.float() if values.is_floating_point() else values
    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    with no_init_weights():  # all of them are read: random ones would take most of the time
        model = auto_class(config).from_config(config, dtype=torch.float32)
    model.tie_weights()
    missing, unknown = model.load_state_dict(weights, strict=False)
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    given = {places[name] for name in weights if name in places}
    if unknown or any(places[name] not in given for name in missing):  # tied ones are given once
        raise RuntimeError(f"weights and configuration in {folder} differ")
    return model.to(dtype)
