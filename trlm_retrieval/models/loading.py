"""Where models come from: pulled names, folders, GGUF files, hub ids; and fingerprints."""

import hashlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
)

from trlm_retrieval.errors import ModelError
from trlm_retrieval.files import write_text
from trlm_retrieval.models.adapter import adapter_base, is_adapter, merge_adapter
from trlm_retrieval.models.calibration import Calibration, read_calibration
from trlm_retrieval.models.hub import ANYBODY, Hub
from trlm_retrieval.models.int8_weights import auto_class, is_small, read_small
from trlm_retrieval.models.kinds import check_is_language_model, kind_of
from trlm_retrieval.models.source import language_model_source
from trlm_retrieval.models.store import REGISTRY
from trlm_retrieval.weights import HOME

Orders = Literal["forward", "reverse", "both"]

CONFIG_NAME = "trlm_config.json"

# Public checkpoints that were trained on reversed tokens and carry no trlm_config.json.
REVERSE_HUB_IDS = frozenset({"afterless/reverse-pythia-160m"})

_SAMPLED = 512  # values of each tensor that go into the fingerprint

INT8 = "int8"

_OWN_ARGUMENTS = {
    "dtype": "give dtype itself",
    "torch_dtype": "give dtype",
    "token": "give token itself",
    "revision": "give revision itself",
    "trust_remote_code": "code that a model brings along is never run",
    "use_safetensors": "weights are read from safetensors alone",
    "gguf_file": "give the file as the model",
}

# What loaders raise for files that are missing, truncated or something else.
_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, struct.error, SafetensorError)


@dataclass(frozen=True)
class LoadedModel:
    """What :func:`load_pretrained` found.

    :ivar first_stage_weight: what suits the model when it is combined with a first stage, if known.
    :ivar calibration: how its gains are read as probabilities, if known.
    """

    model: Any
    tokenizer: Any
    order: Orders
    start_tokens: dict[str, str] | None
    first_stage_weight: float | None
    calibration: Calibration | None


def check_weight(first_stage_weight: float) -> None:
    """
    :raises ValueError: if the first stage's weight is outside 0..1.
    """
    if not 0 <= first_stage_weight <= 1:
        raise ValueError(f"first_stage_weight must lie in 0..1, not {first_stage_weight}")


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or CUDA, MPS, CPU, whichever is there first."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype asked for (a torch dtype or its name), or what suits the device.

    ``int8`` weights are loaded in float32 and quantised afterwards.

    :raises ValueError: for a name that is not a floating-point torch dtype, or int8 off the CPU.
    """
    if dtype == INT8:
        if device.type != "cpu":
            raise ValueError("dtype int8 runs on a CPU; use bfloat16 or float16 on other devices")
        return torch.float32
    if isinstance(dtype, str):
        named = getattr(torch, dtype, None)
        if not isinstance(named, torch.dtype) or not named.is_floating_point:
            raise ValueError(f"dtype must be float32, bfloat16, float16 or int8, not {dtype!r}")
        return named
    if dtype is not None:
        return dtype
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    found = torch.cpu.get_capabilities()
    native = any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return torch.bfloat16 if native else torch.float32


def load_pretrained(
    name_or_folder: str | Path,
    order: Orders | None,
    dtype: torch.dtype,
    hub: Hub = ANYBODY,
    model_kwargs: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load weights and tokenizer; see :meth:`TimeReversedLM.from_pretrained`.

    Code that a checkpoint brings along is never run, and only safetensors or GGUF weights are
    read.

    :param hub: how it is taken where it is a hub's.
    :param model_kwargs: further arguments of transformers' ``from_pretrained``.
    :raises ModelError: if the model is not there, cannot be read, or is not a language model.
    :raises ValueError: if ``model_kwargs`` holds what has an argument of its own.
    """
    more = dict(model_kwargs or {})
    check_model_kwargs(more)
    source = language_model_source(name_or_folder, hub)
    folder: Path | None = None
    if isinstance(source, Path):
        folder = source if source.is_dir() else source.parent
        if source.is_dir() and is_adapter(folder):
            return _load_adapter(folder, order, dtype, more)
    location = str(folder or source)
    given = hub.arguments(folder or source)
    try:
        if isinstance(source, Path) and source.is_file():
            model, tokenizer = _load_gguf(source, dtype, more)
        else:
            tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False, **given)
            check_is_language_model(str(name_or_folder), kind_of(folder or source, hub))
            if folder and is_small(folder):
                _check_plain(more, folder)
                model = read_small(folder, dtype)
            else:
                config = AutoConfig.from_pretrained(location, trust_remote_code=False, **given)
                model = auto_class(config).from_pretrained(
                    location,
                    dtype=dtype,
                    use_safetensors=True,
                    trust_remote_code=False,
                    **given,
                    **more,
                )
    except _UNREADABLE as error:
        remedy = (
            "check that the folder is complete"
            if folder
            else "no such folder or pulled model (`trlm models list` names those), and it could "
            "not be had from a model hub; check the name and the network"
        )
        raise ModelError(f"cannot load the model {str(name_or_folder)!r}: {remedy}") from error
    settings = _read_settings(folder)
    if not settings and str(name_or_folder) in REGISTRY:
        settings = _read_settings(HOME / str(name_or_folder))
    known: Orders = "reverse" if str(name_or_folder) in REVERSE_HUB_IDS else "forward"
    return LoadedModel(
        model,
        tokenizer,
        order or settings.get("order") or known,
        settings.get("start_tokens"),
        settings.get("first_stage_weight"),
        settings.get("calibration"),
    )


def check_model_kwargs(model_kwargs: Mapping[str, Any]) -> None:
    """
    :raises ValueError: if it holds what is decided elsewhere.
    """
    for name in sorted(model_kwargs.keys() & _OWN_ARGUMENTS.keys()):
        raise ValueError(f"model_kwargs must not hold {name!r}: {_OWN_ARGUMENTS[name]}")


def _check_plain(model_kwargs: Mapping[str, Any], folder: Path) -> None:
    if model_kwargs:
        raise ModelError(
            f"{folder} is loaded without transformers' from_pretrained: leave model_kwargs out"
        )


def _load_adapter(
    folder: Path, order: Orders | None, dtype: torch.dtype, model_kwargs: Mapping[str, Any]
) -> LoadedModel:
    """The base of an adapter, with the adapter added; its order and start tokens come first."""
    base = load_pretrained(adapter_base(folder), order, torch.float32, model_kwargs=model_kwargs)
    try:
        merge_adapter(base.model, folder)
    except _UNREADABLE as error:
        raise ModelError(
            f"cannot load the adapter in {folder}: check that it is complete"
        ) from error
    settings = _read_settings(folder)
    return LoadedModel(
        base.model.to(dtype),
        base.tokenizer,
        order or settings.get("order") or base.order,
        settings.get("start_tokens") or base.start_tokens,
        settings.get("first_stage_weight"),
        settings.get("calibration"),
    )


def _load_gguf(file: Path, dtype: torch.dtype, model_kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Dense model (transformers unpacks the weights) and tokenizer of a GGUF file.

    The file is loaded from a folder of its own, so that nothing beside it mixes in.
    """
    with tempfile.TemporaryDirectory() as alone:
        try:
            os.symlink(file.resolve(), Path(alone) / file.name)
        except OSError:  # a system without symbolic links
            shutil.copy(file, alone)
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(
            alone,
            gguf_file=file.name,
            dtype=dtype,
            quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
            **model_kwargs,
        )
    return model, tokenizer


def _read_settings(folder: Path | None) -> dict[str, Any]:
    path = folder / CONFIG_NAME if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    unknown = set(settings) - {"order", "start_tokens", "first_stage_weight", "calibration"}
    if unknown or settings.get("order") not in (None, "forward", "reverse", "both"):
        raise ModelError(
            f"{path}: it may hold 'order' (forward, reverse or both), 'start_tokens', "
            f"'first_stage_weight' and 'calibration', not {sorted(unknown) or settings['order']}"
        )
    weight = settings.get("first_stage_weight", 0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise ModelError(f"{path}: 'first_stage_weight' must be a number in 0..1, not {weight!r}")
    if "calibration" in settings:
        settings["calibration"] = read_calibration(settings["calibration"], str(path))
    return settings


def save_pretrained(
    model: Any,
    tokenizer: Any,
    order: Orders,
    start_tokens: dict[str, str],
    folder: Path,
    first_stage_weight: float | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Write a model folder with its settings."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_settings(order, start_tokens, folder, first_stage_weight, calibration)


def save_settings(
    order: Orders,
    start_tokens: dict[str, str],
    folder: Path,
    first_stage_weight: float | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Write how a folder's model reads and how its scores are used, as far as that is known."""
    settings: dict[str, Any] = {"order": order, "start_tokens": start_tokens}
    if first_stage_weight is not None:
        settings["first_stage_weight"] = first_stage_weight
    if calibration is not None:
        settings["calibration"] = calibration.settings()
    write_text(folder / CONFIG_NAME, json.dumps(settings, indent=2) + "\n")


def save_calibration(
    name: str | Path,
    order: Orders,
    start_tokens: dict[str, str],
    first_stage_weight: float | None,
    calibration: Calibration,
) -> Path:
    """Write a calibration beside a model's other settings, and return the file.

    :raises ModelError: if the model is not in a folder of its own, or that cannot be written.
    """
    folder = language_model_source(name)
    if not isinstance(folder, Path) or not folder.is_dir():
        raise ModelError(
            f"{name} is no folder to write to: save the model into one with TimeReversedLM.save"
        )
    try:
        save_settings(order, start_tokens, folder, first_stage_weight, calibration)
    except OSError as error:
        raise ModelError(
            f"cannot write to {folder} ({error.strerror or error}): copy the folder and name that"
        ) from error
    return folder / CONFIG_NAME


def model_fingerprint(
    model: Any, tokenizer: Any, order: Orders, start_tokens: dict[str, str]
) -> str:
    """A hex digest that changes with weights, tokenizer, reading order or precision.

    Of each tensor a regular sample of values is read, so that it takes milliseconds; fine-tuning
    touches nearly all of them.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([order, start_tokens, str(model.dtype)]).encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode("utf-8", "surrogatepass"))
    sample_weights(model, digest)
    return digest.hexdigest()


def sample_weights(model: Any, digest: "hashlib._Hash") -> None:
    """Add a regular sample of each tensor's values to a digest."""
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu()
        digest.update(sample.numpy().tobytes())
