"""Passage states of a whole corpus in one memory-mapped file, written once and only read after.

    manifest.json   whose states these are, and how they are kept
    entries.npy     for each state its key, place, size and checksum
    states.bin      the numbers (and scales) of one state after the other

A reader maps the file and touches only what a query needs, so a corpus may be larger than memory;
each state's checksum is compared when it is first read. Nothing here is pickled.
"""

import json
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trlm_retrieval.errors import StatesError
from trlm_retrieval.lm.states import PassageState, StateFormat
from trlm_retrieval.lm.template import Template

if TYPE_CHECKING:
    from trlm_retrieval.lm.model import TimeReversedLM

FORMAT = 2

_REMEDY = "make the states again with `trlm index --states`"
ENTRY = np.dtype(
    [("key", "V32"), ("offset", "<i8"), ("tokens", "<i4"), ("bytes", "<i8"), ("crc32", "<u4")]
)


def identity(
    lm: "TimeReversedLM", template: Template, max_passage_tokens: int | None
) -> dict[str, Any]:
    """What must be the same when the states are read."""
    return {
        "model": lm.fingerprint,
        "template": [template.order, template.context],
        "max_passage_tokens": max_passage_tokens,
    }


class StateFolder:
    """States that :func:`write_states` wrote, for one model, template and cut.

    :param folder: where they are.
    :param lm: the model that will read them.
    :param direction: its direction, and the cut of passages, as they will be scored.
    :raises StatesError: if there are none, they are damaged, or they are of another model,
        template or cut.
    """

    def __init__(
        self,
        folder: Path,
        lm: "TimeReversedLM",
        direction: "Template | str | None" = None,
        max_passage_tokens: int | None = None,
    ) -> None:
        self.folder = folder
        self._manifest = manifest = _read_manifest(folder)
        for name, expected in identity(lm, lm.template(direction), max_passage_tokens).items():
            if manifest[name] != expected:
                raise StatesError(
                    f"{folder} holds states for another {name.replace('_', ' ')} "
                    f"({_short(manifest[name])} instead of {_short(expected)}): {_REMEDY}"
                )
        self.form = StateFormat(manifest["precision"], manifest["pool"])
        entries = _read_entries(folder, manifest)
        self._entries = {bytes(entry["key"]): position for position, entry in enumerate(entries)}
        self._table = entries
        self._data = np.memmap(folder / "states.bin", np.uint8, mode="r") if len(entries) else None
        self._verified = np.zeros(len(entries), bool)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def keys(self) -> Iterable[bytes]:
        """Keys of its states."""
        return self._entries.keys()

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return int(self._manifest["bytes"])

    def get(self, key: bytes) -> PassageState | None:
        """The state under a key, mapped and not copied, or None.

        :raises StatesError: if its bytes are not those that were written.
        """
        position = self._entries.get(key)
        if position is None or self._data is None:
            return None
        entry = self._table[position]
        start = int(entry["offset"])
        data = self._data[start : start + int(entry["bytes"])]
        with self._lock:
            if not self._verified[position]:
                if zlib.crc32(data.data) != entry["crc32"]:
                    raise StatesError(f"{self.folder / 'states.bin'} is damaged: {_REMEDY}")
                self._verified[position] = True
        return self._state(data, int(entry["tokens"]))

    def _state(self, data: np.ndarray, tokens: int) -> PassageState:
        manifest = self._manifest
        shape = (*manifest["front"], tokens, manifest["width"])
        dtype = getattr(torch, manifest["dtype"])
        size = int(np.prod(shape)) * dtype.itemsize
        numbers = _tensor(data[:size], dtype).view(shape)
        scales = None
        if dtype == torch.int8:
            scales = _tensor(data[size:], torch.float16).view(*shape[:-1], 1)
        return PassageState(numbers, scales, pool=self.form.pool)


class StateParts:
    """States in the folders of one folder, as `trlm score --states` writes them, read as one.

    Takes and raises what :class:`StateFolder` does.
    """

    def __init__(
        self,
        folder: Path,
        lm: "TimeReversedLM",
        direction: "Template | str | None" = None,
        max_passage_tokens: int | None = None,
    ) -> None:
        parts = [StateFolder(part, lm, direction, max_passage_tokens) for part in _parts(folder)]
        self.form = parts[0].form
        differing = next((part.folder for part in parts if part.form != self.form), None)
        if differing is not None:
            raise StatesError(f"{differing} keeps states in another form than {parts[0].folder}")
        self._part_of = {key: part for part in parts for key in part.keys}

    def __len__(self) -> int:
        return len(self._part_of)

    def get(self, key: bytes) -> PassageState | None:
        """As :meth:`StateFolder.get`."""
        part = self._part_of.get(key)
        return None if part is None else part.get(key)


def open_states(
    folder: Path,
    lm: "TimeReversedLM",
    direction: "Template | str | None" = None,
    max_passage_tokens: int | None = None,
) -> StateFolder | StateParts:
    """The states in a folder, whether they were written whole or in parts.

    Takes and raises what :class:`StateFolder` does.
    """
    kind = StateParts if _parts(folder) else StateFolder
    return kind(folder, lm, direction, max_passage_tokens)


def model_of_states(folder: Path) -> str | None:
    """Name of the model whose states a folder holds; None where it holds none, or says no name.

    :raises StatesError: if they are damaged.
    """
    if not folder.is_dir():
        return None
    return _read_manifest(next(iter(_parts(folder)), folder)).get("model_name")


def _parts(folder: Path) -> list[Path]:
    return sorted(part for part in folder.glob("part-*") if part.is_dir())


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise StatesError(f"there are no states at {folder}: {_REMEDY}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if manifest["format"] != FORMAT:
            raise StatesError(
                f"{path} has format {manifest['format']!r}, and this version reads {FORMAT}: "
                f"{_REMEDY}"
            )
        needed = {"states", "bytes", "entries_crc32", "front", "width", "dtype", "model"}
        missing = (needed | {"template", "max_passage_tokens", "precision", "pool"}) - set(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise StatesError(f"{path} is damaged ({error}): {_REMEDY}") from error
    if missing:
        raise StatesError(f"{path} is damaged (no {min(missing)}): {_REMEDY}")
    return manifest


def _read_entries(folder: Path, manifest: dict[str, Any]) -> np.ndarray:
    path, data = folder / "entries.npy", folder / "states.bin"
    for file in (path, data):
        if not file.is_file():
            raise StatesError(f"{file} is missing: {_REMEDY}")
    if zlib.crc32(path.read_bytes()) != manifest["entries_crc32"]:
        raise StatesError(f"{path} is damaged: {_REMEDY}")
    if data.stat().st_size != manifest["bytes"]:
        raise StatesError(
            f"{data} has {data.stat().st_size} bytes instead of {manifest['bytes']}: {_REMEDY}"
        )
    entries: np.ndarray = np.load(path, allow_pickle=False)
    return entries


def _tensor(data: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Mapped bytes as a tensor; read only, though PyTorch has no word for that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
        return torch.frombuffer(data, dtype=dtype)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"
