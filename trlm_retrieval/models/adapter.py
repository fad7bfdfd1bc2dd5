"""LoRA adapters, added to the weights of their base when it is loaded.

An adapter folder, as peft writes it, names its base and holds for each adapted weight W two thin
matrices; what the model then computes with is W + scale · B A. Adding that once costs nothing
afterwards and needs no peft.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from trlm_retrieval.errors import ModelError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

# Settings of peft under which the sum above would not be what was trained.
_PLAIN = {
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "fan_in_fan_out": False,
    "init_lora_weights": True,
}


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / _CONFIG).is_file() and not (folder / "config.json").is_file()


def adapter_base(folder: Path) -> str:
    """Name, folder or hub id of the model that an adapter belongs to.

    :raises ModelError: if the adapter is none that can be added.
    """
    settings = _settings(folder)
    unusual = [name for name, plain in _PLAIN.items() if (settings.get(name) or plain) != plain]
    if settings.get("peft_type") != "LORA" or unusual:
        raise ModelError(
            f"{folder}: only plain LoRA adapters can be added to their base, not "
            f"{', '.join(unusual) or settings.get('peft_type')}; merge it with peft and save the "
            "whole model"
        )
    return str(settings["base_model_name_or_path"])


def merge_adapter(model: Any, folder: Path) -> None:
    """Add an adapter to a float32 model's weights, in place.

    :raises ModelError: if the adapter does not fit the model.
    """
    settings = _settings(folder)
    tensors = load_file(folder / _WEIGHTS)
    try:
        scale = settings["lora_alpha"] / settings["r"]
        with torch.no_grad():
            for name, a in tensors.items():
                if name.endswith(_A):
                    stem = name.removesuffix(_A)
                    weight = model.get_parameter(stem.removeprefix(_PREFIX) + ".weight")
                    weight += scale * (tensors[stem + _B].float() @ a.float())
                elif not name.endswith(_B):
                    raise KeyError(name)
    except (AttributeError, KeyError, RuntimeError) as error:
        raise ModelError(f"the adapter in {folder} does not fit its base: {error}") from error


def write_adapter(folder: Path, to: Path, strength: float = 1.0) -> int:
    """Write an adapter to another folder, its numbers in float16; returns how many they are.

    :param strength: what the adapter then adds to the weights, as a part of what it added.
    """
    tensors = {
        name: (tensor * strength if name.endswith(_B) else tensor).half()
        for name, tensor in load_file(folder / _WEIGHTS).items()
    }
    save_file(tensors, to / _WEIGHTS, {"format": "pt"})
    (to / _CONFIG).write_text(json.dumps(_settings(folder), indent=2) + "\n", encoding="utf-8")
    return sum(tensor.numel() for tensor in tensors.values())


def _settings(folder: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / _CONFIG} is not valid JSON: {error}") from error
    return settings
