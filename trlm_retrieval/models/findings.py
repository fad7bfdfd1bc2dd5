"""What was found out about a model by trying it, kept in the user's cache for the next time.

A finding is a few tensors in a file of its own, under a name that changes with the model's weights,
its precision and device, the versions of torch and transformers, the processor, and the code that
tries. A file that is missing, damaged or cannot be written only means that it is tried again.
"""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save

from trlm_retrieval.files import new_file
from trlm_retrieval.models.loading import sample_weights
from trlm_retrieval.models.store import models_folder

Finding = dict[str, torch.Tensor]

_WORTH_KEEPING = 0.2  # seconds that finding it out must take
_MOST_FILES = 64
_DIGEST = 32  # bytes of SHA-256 in front of each file


def findings_folder() -> Path:
    """Where findings are kept: beside the pulled models."""
    return models_folder().parent / "findings"


def kept(what: str, model: Any, code: str, find: Callable[[], Finding]) -> Finding:
    """What is known about a model, or what ``find`` finds out now.

    :param what: names the finding among those of the model.
    :param model: of transformers, with its weights loaded.
    :param code: the ``__file__`` of the code that tries; a finding of other code is not taken.
    """
    file = findings_folder() / _name(what, model, code)
    finding = _read(file)
    if finding is None:
        started = time.perf_counter()
        finding = find()
        if time.perf_counter() - started >= _WORTH_KEEPING:
            _write(file, finding)
    return finding


def _name(what: str, model: Any, code: str) -> str:
    device = next(model.parameters()).device.type
    about = [
        what,
        type(model).__name__,
        model.config.to_json_string(),
        str(model.dtype),
        device,
        torch.__version__,
        transformers.__version__,
        torch.backends.cpu.get_cpu_capability(),
    ]
    digest = hashlib.sha256(json.dumps(about).encode("utf-8", "surrogatepass"))
    digest.update(Path(code).read_bytes())
    sample_weights(model, digest)
    return digest.hexdigest()


def _read(file: Path) -> Finding | None:
    try:
        data = file.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        return load(data[_DIGEST:])
    except (OSError, SafetensorError):
        return None


def _write(file: Path, finding: Finding) -> None:
    data = save({name: tensor.contiguous().cpu() for name, tensor in finding.items()})
    with suppress(OSError):  # a folder that is full or not ours: it is found out again next time
        with new_file(file) as scratch:
            scratch.write_bytes(hashlib.sha256(data).digest() + data)
        files = sorted(file.parent.glob("[0-9a-f]*"), key=lambda kept: kept.stat().st_mtime)
        for old in files[:-_MOST_FILES]:
            old.unlink(missing_ok=True)
