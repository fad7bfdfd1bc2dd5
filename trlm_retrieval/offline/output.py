"""The folder that offline scoring writes: a part for each shard, written whole or not at all.

    settings.json           what the parts were made with and from
    part-00000.parquet      scores of the first shard, or part-00000/, its states
    .part-00001-4f0c.../    what a worker is writing now, or left when it was killed

A run started again makes the parts that are missing, and refuses to mix with parts of other
settings.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import only_writer, write_text
from trlm_retrieval.offline.rows import Shard

FORMAT = 1

_SETTINGS = "settings.json"
_LOCK = "write.lock"


class Output:
    """The folder of parts.

    :param folder: where they are, or will be.
    :param states: whether parts are folders of passage states, not Parquet files of scores.
    """

    def __init__(self, folder: Path, states: bool) -> None:
        self.folder = folder
        self.states = states

    @contextmanager
    def sole_run(self) -> Iterator[None]:
        """Keep other runs out of the folder, and remove what killed workers left in it.

        :raises DataError: if another run is writing there, or the folder holds something else.
        """
        self._check()
        self.folder.mkdir(parents=True, exist_ok=True)
        busy = DataError(f"another run is writing to {self.folder}: wait until it ends")
        with only_writer(self.folder / _LOCK, busy):
            self._sweep()
            try:
                yield
            finally:
                self._sweep()

    def settle(self, settings: dict[str, Any]) -> None:
        """Note what the parts are made with and from, or compare it with what was noted before.

        :raises DataError: if a part may have been made with other settings; names the first.
        """
        path = self.folder / _SETTINGS
        settings = {"format": FORMAT, **settings}
        if not path.is_file():
            write_text(path, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
            return
        try:
            noted = json.loads(path.read_text(encoding="utf-8"))
            differing = [name for name in settings if noted[name] != settings[name]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is damaged ({error!r}): remove {self.folder}, or choose another output"
            ) from error
        differing = [name for name in differing if name != "model_name"]  # a folder may have moved
        if differing:
            name = differing[0]
            raise DataError(
                f"{self.folder} holds parts with another {name.replace('_', ' ')} "
                f"({_short(noted[name])} instead of {_short(settings[name])}): choose another "
                "output, or remove that folder"
            )

    def missing(self, shards: Sequence[Shard]) -> list[Shard]:
        """The shards that have no part yet, or a damaged one."""
        return [shard for shard in shards if not self._complete(shard)]

    def part(self, shard: Shard) -> Path:
        """Where the part of a shard belongs."""
        return self.folder / f"part-{shard.number:05d}{'' if self.states else '.parquet'}"

    @contextmanager
    def new_part(self, shard: Shard) -> Iterator[Path]:
        """A path to write a part to, which is put in its place when it is complete.

        Where two workers make the same part, the first is kept.
        """
        part = self.part(shard)
        scratch = self.folder / f".{part.stem}-{uuid.uuid4().hex}"
        scratch.mkdir()
        try:
            yield scratch / part.name
            if not self._complete(shard):
                if part.is_dir():
                    os.replace(part, scratch / "damaged")
                os.replace(scratch / part.name, part)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _complete(self, shard: Shard) -> bool:
        part = self.part(shard)
        if self.states:
            return (part / "manifest.json").is_file()  # renamed into place with all its files
        try:
            rows: int = pq.read_metadata(part).num_rows
        except (OSError, pa.ArrowInvalid):
            return False
        return rows == shard.rows

    def _check(self) -> None:
        if self.folder.is_file():
            raise DataError(f"{self.folder} is a file: choose a folder for the output")
        if not self.folder.is_dir() or (self.folder / _SETTINGS).is_file():
            return
        if any(path.name != _LOCK for path in self.folder.iterdir()):
            raise DataError(
                f"{self.folder} holds files of something else: choose an empty or a new folder"
            )

    def _sweep(self) -> None:
        for stale in self.folder.glob(".part-*"):
            shutil.rmtree(stale, ignore_errors=True)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
