"""What a run leaves in its folder.

``settings.json`` says what was asked, ``log.jsonl`` holds a line a step, ``loss.png`` draws it,
``checkpoint.safetensors`` is where a killed run continues, and ``model`` is what it was for.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from trlm_retrieval.errors import TRLMError
from trlm_retrieval.files import read_json_lines, write_json, write_text
from trlm_retrieval.models.store import resolve

HISTORY = "training.json"

_MODEL, _OPTIMIZER = "model.", "optimizer."
# Settings told with the model.
_SUMMARISED = (
    "task",
    "order",
    "direction",
    "preset",
    "adapter_rank",
    "frozen_encoder_layers",
    "labelled",
)


class RunError(TRLMError):
    """A run's folder does not fit what is asked of it."""


class Run:
    """The folder of one run: a new one, or one to continue.

    :param settings: all that determines the run, as JSON.
    :raises RunError: if the folder holds a run with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.model_folder = folder / "model"
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        self._checkpoint = folder / "checkpoint.safetensors"
        self._log = folder / "log.jsonl"
        path = folder / "settings.json"
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            differing = [
                name
                for name in sorted({*there, *self.settings})
                if there.get(name) != self.settings.get(name)
            ]
            if differing:
                raise RunError(
                    f"{folder} holds a run with another {', '.join(differing)}; repeat the command "
                    "of that run to continue it, or name another folder"
                )

    @property
    def finished(self) -> bool:
        return self.model_folder.is_dir()

    def begin(self) -> None:
        """Make the folder, and clear away what a killed run left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(".*.tmp"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        write_json(self.folder / "settings.json", self.settings)

    def log(self, entry: dict[str, Any]) -> None:
        """Add a line to the log."""
        with self._log.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """The log's lines, oldest first."""
        return [row for _, row in read_json_lines(self._log)] if self._log.is_file() else []

    def save_checkpoint(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: dict[str, Any],
    ) -> None:
        """Write trained weights, optimizer state and progress, whole or not at all."""
        tensors = {}
        for name, parameter in _trained(model).items():
            tensors[_MODEL + name] = parameter.detach().contiguous()
            for key, value in optimizer.state[parameter].items():
                tensors[f"{_OPTIMIZER}{name}:{key}"] = value.contiguous()
        temporary = self.folder / f".{uuid4().hex}.tmp"
        save_file(tensors, temporary, {"progress": json.dumps(progress)})
        os.replace(temporary, self._checkpoint)

    def load_checkpoint(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any] | None:
        """Put a checkpoint back and return its progress; None where there is no checkpoint.

        The log loses what was written after it.

        :raises RunError: if the checkpoint is damaged or belongs to another model.
        """
        if not self._checkpoint.is_file():
            self._log.unlink(missing_ok=True)
            return None
        try:
            with safe_open(self._checkpoint, "pt") as file:
                progress: dict[str, Any] = json.loads(file.metadata()["progress"])
                names = set(file.keys())
                for name, parameter in _trained(model).items():
                    with torch.no_grad():
                        parameter.copy_(file.get_tensor(_MODEL + name))
                    prefix = f"{_OPTIMIZER}{name}:"
                    for key in sorted(names):
                        if key.startswith(prefix):
                            state = file.get_tensor(key)
                            place = "cpu" if key.endswith(":step") else parameter.device
                            optimizer.state[parameter][key[len(prefix) :]] = state.to(place)
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{self._checkpoint} is damaged or of another model; delete it to start the run "
                "from its beginning"
            ) from error
        kept = [entry for entry in self.entries() if entry["step"] <= progress["step"]]
        write_text(self._log, "".join(json.dumps(entry) + "\n" for entry in kept))
        return progress

    def finish(self, save: Callable[[Path], None], hardware: str) -> None:
        """Write the model folder with ``save``, whole or not at all, and drop the checkpoint.

        How the model was made is put beside it: this run, and those of the model it began with.
        """
        temporary = self.folder / f".{uuid4().hex}.tmp"
        save(temporary)
        history = [*_history(self.settings.get("base")), self._summary(hardware)]
        write_json(temporary / HISTORY, history)
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors writes for its owner alone
        os.rename(temporary, self.model_folder)
        self._checkpoint.unlink(missing_ok=True)

    def _summary(self, hardware: str) -> dict[str, Any]:
        """This run in a few words and figures; files by their names, without folders."""
        entries = self.entries()
        base, data = self.settings.get("base"), self.settings["data"]
        return {
            **{name: self.settings.get(name) for name in _SUMMARISED},
            "base": Path(base).parent.name if base and Path(base).is_dir() else base,
            "data": [Path(file).name for file in data],
            "tokens": entries[-1]["tokens"],
            "steps": entries[-1]["step"],
            "minutes": round(entries[-1]["seconds"] / 60, 2),
            "hardware": hardware,
            "precision": self.settings["precision"],
            "loss": entries[-1]["loss"],
            "held_out": entries[-1]["held_out"],
        }


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _history(base: str | None) -> list[dict[str, Any]]:
    path = Path(resolve(base), HISTORY) if base else None
    return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else []
