"""Text files: written whole or not at all, and JSON lines read with each bad line named."""

import json
import lzma
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from trlm_retrieval.errors import DataError
from trlm_retrieval.text.normalise import well_formed


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all; its folder is made where there is none.

    A killed or failed write leaves the earlier file. A link is followed, and what is no regular
    file, as ``/dev/stdout``, is written to directly. Unpaired surrogates become U+FFFD.

    :raises OSError: if it cannot be written; names the path that was asked for.
    """
    data = well_formed(text).encode("utf-8")
    if path.exists() and not path.is_file() and not path.is_dir():
        path.write_bytes(data)
        return
    target = path.resolve()
    temporary = target.with_name(f".{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers, from 1, and objects of a JSON lines file; blank lines are passed over.

    A file whose name ends in ``.xz`` is decompressed on the way.

    :raises DataError: if the file is missing, or a line is no JSON object; names file and line.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as lines:
        for number, line in enumerate(_whole(lines, path), start=1):
            if not line.strip():
                continue
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
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def _whole(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    try:
        yield from lines
    except (EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path} is cut short or damaged: {error}") from error
