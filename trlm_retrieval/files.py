"""Files and folders written whole or not at all; compressed files and JSON lines read.

Whatever comes from a user is read through :func:`read_lines` or :func:`read_bytes`, which
decompress by the file's ending, and JSON is written through :func:`json_text`, which never writes
NaN.
"""

import bz2
import gzip
import hashlib
import json
import lzma
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

from filelock import FileLock, Timeout

from trlm_retrieval.errors import DataError
from trlm_retrieval.text.normalise import well_formed

try:
    from backports import zstd
except ImportError:  # of the extra `convert`
    zstd = None  # type: ignore[assignment]

_BLOCK = 1 << 20
_DAMAGE = (EOFError, lzma.LZMAError, zlib.error, *([zstd.ZstdError] if zstd else []))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; the file is put in the place of ``path`` when the block ends well.

    A killed or failed write leaves the earlier file. The folder is made where there is none, and
    a link is followed.

    :raises OSError: if it cannot be written; names the path that was asked for.
    """
    target = path.resolve()
    scratch = target.with_name(f".{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, target)
    except OSError as error:
        ours = error.filename is None or Path(error.filename) in {scratch, *target.parents}
        if error.errno is None or not ours:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``folder`` when the block ends without an error.

    The earlier folder is removed only when the new one is in its place. To be called under a lock,
    after :func:`recover_folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}-{uuid4().hex}.tmp")
    scratch.mkdir()
    try:
        yield scratch
        if folder.exists():
            os.replace(folder, _earlier(folder))
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        recover_folder(folder, scratch=False)


def recover_folder(folder: Path, *, scratch: bool = True) -> None:
    """Put things right after a killed writer of :func:`new_folder`; to be called under the lock.

    A folder that was moved away for a new one, which never came, is put back.

    :param scratch: also remove folders that were being filled.
    """
    earlier = _earlier(folder)
    if earlier.exists() and not folder.exists():
        os.replace(earlier, folder)
    left = folder.parent.glob(f".{folder.name}-*.tmp") if scratch else ()
    for stale in (earlier, *left):
        shutil.rmtree(stale, ignore_errors=True)


def _earlier(folder: Path) -> Path:
    """Where a folder stands while another takes its place."""
    return folder.with_name(f".{folder.name}.earlier")


@contextmanager
def only_writer(lock: Path, busy: Exception | None = None) -> Iterator[None]:
    """Keep other processes and threads out while the block runs.

    :param lock: the lock file, in a folder that exists.
    :param busy: raised at once where another one holds the lock; None waits for it.
    """
    held = FileLock(lock, timeout=0 if busy else -1)
    try:
        held.acquire()
    except Timeout as error:
        if busy is None:
            raise
        raise busy from error
    try:
        yield
    finally:
        held.release()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all, as :func:`new_file` does.

    What is no regular file, as ``/dev/stdout``, is written to directly. Unpaired surrogates become
    U+FFFD.

    :raises OSError: if it cannot be written; names the path that was asked for.
    """
    data = well_formed(text).encode("utf-8")
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    with new_file(path) as scratch:
        scratch.write_bytes(data)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that every reader takes: NaN and infinity become null.

    NumPy's numbers are written as numbers, and what JSON does not know as text. Unpaired
    surrogates become U+FFFD.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False, default=_plain)
    except ValueError:  # a number that is none, which a few values hold: replaced only then
        text = json.dumps(finite(value), ensure_ascii=False, indent=indent, default=_plain)
    return well_formed(text)


def write_json(path: Path, value: Any) -> None:
    """Write :func:`json_text` to a file, whole or not at all.

    :raises OSError: if it cannot be written; names the path that was asked for.
    """
    write_text(path, json_text(value, indent=2) + "\n")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)  # NumPy's numbers and arrays


def finite(value: Any) -> Any:
    """A copy of a value for JSON in which None stands for NaN and infinity."""
    if hasattr(value, "tolist"):  # NumPy's, which is not imported here: it takes its time
        value = value.tolist()
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open_zst(path: Path) -> BinaryIO:
    if zstd is None:
        raise DataError(
            f"{path}: reading .zst files needs the extra 'convert': pip install "
            "'trlm-retrieval[convert]', or decompress it with `zstd -d`"
        )
    return cast(BinaryIO, zstd.open(path))


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".bz2": bz2.open,
    ".zst": _open_zst,
}
COMPRESSED = tuple(_OPENERS)


def ending(path: Path) -> str:
    """The ending that tells what a file holds, in lower case: ``.jsonl`` for ``rows.jsonl.gz``."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in _OPENERS else suffix


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading; ``.gz``, ``.xz``, ``.bz2`` and ``.zst`` are decompressed.

    :raises OSError: if it cannot be opened.
    :raises DataError: if a package is missing that its ending needs.
    """
    return cast(BinaryIO, _OPENERS.get(path.suffix.lower(), lambda plain: plain.open("rb"))(path))


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with its line end, decompressed by the file's ending.

    :raises DataError: if the file is missing, or damaged; names it.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    try:
        with open_bytes(path) as lines:
            yield from lines
    except (OSError, *_DAMAGE) as error:
        if getattr(error, "errno", None) is not None:  # of the disk, not of what the file holds
            raise
        raise DataError(f"{path} is cut short or damaged: {error}") from error


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed by its ending.

    :raises DataError: if the file is missing, or damaged; names it.
    """
    return b"".join(read_lines(path))


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a JSON lines file; blank lines are passed over.

    :raises DataError: if the file is missing or damaged, or a line is no JSON object; names file
        and line.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            yield number, parse_object(line, f"{path}, line {number}")


def parse_object(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object that a line holds.

    :param where: names the line in an error.
    :raises DataError: if the line is no JSON object.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not valid JSON ({error.msg}, character {error.pos + 1})"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not valid JSON (no UTF-8 at byte {error.start + 1})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row
