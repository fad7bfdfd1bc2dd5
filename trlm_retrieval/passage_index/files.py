"""
The folder of an index, changed in one step.

    manifest.json     names the data folder in use, and each of its files with size and checksum
    data-1f0c.../     documents, BM25, FAISS

A writer fills a new data folder and then replaces the manifest, which is one atomic operation:
killed at any moment it leaves the earlier index or none, and the folder it was filling is
removed by the next writer.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trlm_retrieval.errors import PassageIndexError
from trlm_retrieval.files import only_writer, sha256, write_json

FORMAT = 2  # words of all scripts; 1 knew those of English
REMEDY = "Build the index again with `trlm index`."
STATES = "states"
"""Where an index keeps the passage states that `trlm index --states` writes."""

_MANIFEST = "manifest.json"
_LOCK = "write.lock"
_DATA = re.compile(r"data-[0-9a-f]{32}")


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """
    Keep other writers out of an index folder, which is made where there is none, and remove
    what killed writers left.

    :raises PassageIndexError: if another process or thread is writing, or the folder holds
        something else.
    """
    if folder.is_file():
        raise PassageIndexError(f"{folder} is a file: choose a folder for the index")
    if folder.is_dir() and not _is_index(folder):
        raise PassageIndexError(
            f"{folder} holds files that belong to no index: choose an empty or a new folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    busy = PassageIndexError(
        f"another process is writing the index at {folder}: wait until it is done"
    )
    with only_writer(folder / _LOCK, busy):
        _clean(folder)
        yield


@contextmanager
def new_data_folder(folder: Path) -> Iterator[Path]:
    """Make a data folder to fill and then `commit`; it is removed where an error comes first."""
    data = folder / f"data-{uuid.uuid4().hex}"
    data.mkdir()
    try:
        yield data
    finally:
        _clean(folder)


def commit(data: Path, manifest: dict[str, Any]) -> None:
    """
    Put a complete data folder in the place of the earlier one.

    :param data: the filled data folder.
    :param manifest: what to record besides the files.
    """
    files = {
        path.relative_to(data).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }
    complete = {"format": FORMAT, "data": data.name, **manifest, "files": files}
    temporary = data / _MANIFEST  # inside, so that it goes with the folder if this is killed
    write_json(temporary, complete)
    os.replace(temporary, data.parent / _MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """
    Read the manifest of an index.

    :raises PassageIndexError: if there is no index, or none that this version can read.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        raise PassageIndexError(
            f"there is no index at {folder}: build one with `trlm index PATH... --index {folder}`"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, data = manifest["format"], manifest["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise PassageIndexError(f"{path} is damaged ({error}). {REMEDY}") from error
    if version != FORMAT:
        raise PassageIndexError(
            f"{path} has format {version!r}, and this version reads format {FORMAT}. {REMEDY}"
        )
    if not isinstance(data, str) or not _DATA.fullmatch(data):
        raise PassageIndexError(f"{path} is damaged (data folder {data!r}). {REMEDY}")
    try:
        listed = {(file["bytes"], file["sha256"]) for file in manifest["files"].values()}
    except (KeyError, TypeError, AttributeError):
        listed = set()
    if not listed:
        raise PassageIndexError(f"{path} cannot be read: it lists no files. {REMEDY}")
    return manifest


def check_sizes(folder: Path, manifest: dict[str, Any]) -> Path:
    """
    Check that every file of an index is there, and as long as its manifest says.

    :returns: the data folder.
    :raises PassageIndexError: if one is not.
    """
    data = folder / manifest["data"]
    for name, expected in manifest["files"].items():
        path = data / name
        if not path.is_file():
            raise PassageIndexError(f"{path} is missing. {REMEDY}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise PassageIndexError(
                f"{path} has {size} bytes instead of {expected['bytes']}. {REMEDY}"
            )
    return data


def verify(folder: Path, manifest: dict[str, Any]) -> Path:
    """
    Check every file of an index against its manifest.

    :returns: the data folder.
    :raises PassageIndexError: if a file is missing or is not the one that was written.
    """
    data = check_sizes(folder, manifest)
    for name, expected in manifest["files"].items():
        path = data / name
        if sha256(path) != expected["sha256"]:
            raise PassageIndexError(
                f"{path} is damaged: its SHA-256 is not the one recorded. {REMEDY}"
            )
    return data


def manifest_stamp(folder: Path) -> tuple[int, int, int]:
    """Return what changes whenever the manifest is replaced; zeros where there is none."""
    try:
        stat = (folder / _MANIFEST).stat()
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0, 0
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _is_index(folder: Path) -> bool:
    """Whether the folder is empty, an index, or what a killed writer left of its first index."""
    if (folder / _MANIFEST).is_file():
        return True
    return all(path.name == _LOCK or _DATA.fullmatch(path.name) for path in folder.iterdir())


def _clean(folder: Path) -> None:
    """Remove the data folders that the manifest does not name."""
    current = None
    if (folder / _MANIFEST).is_file():
        try:
            current = read_manifest(folder)["data"]
        except PassageIndexError:
            return  # nobody knows what it names: leave all until it is replaced
    for path in folder.glob("data-*"):
        if path.name != current:
            shutil.rmtree(path, ignore_errors=True)
