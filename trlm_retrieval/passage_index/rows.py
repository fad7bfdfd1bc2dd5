"""Rows of JSON lines, JSON and CSV files as documents."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from haystack import Document

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import ending, read_bytes, read_json_lines
from trlm_retrieval.passage_index.converted import Unreadable
from trlm_retrieval.passage_index.converting import decode

KINDS = (".jsonl", ".json", ".csv", ".tsv")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
_DELIMITERS = ",;\t|"
_DEEPEST = 100  # levels of a JSON value
_TEXT = ("text", "content")
_ID = ("_id", "id")
_SIMPLE = (str, int, float, bool)


@dataclass
class Rows:
    """What a file of rows gives.

    :ivar found: the place of each row, and its document or why there is none.
    :ivar notes: what else to know.
    """

    found: list[tuple[str, Document | str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, where: str, document: Document) -> None:
        """Add a row, whose document may be without text."""
        text = (document.content or "").strip()
        self.found.append((where, document if text else "no text in it"))


def read_rows(path: Path) -> Rows:
    """Read a file whose :func:`ending` is one of :data:`KINDS`, compressed or not.

    :raises DataError: if a line of a JSON lines file is malformed; names the file and the line.
    :raises Unreadable: if a file of another kind gives nothing; says why.
    """
    kind = ending(path)
    rows = Rows()
    if kind == ".jsonl":
        _read_json_lines(path, rows)
    elif kind == ".json":
        _read_json(path, rows)
    else:
        _read_csv(path, "\t" if kind == ".tsv" else None, rows)
    if not rows.found:
        raise Unreadable("no row in it")
    return rows


def _read_json_lines(path: Path, rows: Rows) -> None:
    for number, row in read_json_lines(path):
        where = f"{path}, line {number}"
        if not {*_TEXT, "title"} & row.keys():
            raise DataError(f"{where}: the object has no 'text' or 'content'")
        rows.add(where, _document(row, where, f"{path.as_posix()}#{number}"))


def _document(row: dict[str, Any], where: str, identity: str) -> Document:
    """A row with its text, or else its title, as content, and all else as meta."""
    own_id = _take(row, _ID, (str, int), "text or a number", where)
    text = _take(row, _TEXT, (str,), "text", where) or ""
    title = _take(row, ("title",), (str,), "text", where)
    own_meta = _take(row, ("meta", "metadata"), (dict,), "an object", where) or {}
    meta = {**row, **own_meta}
    return Document(
        id=identity if own_id in (None, "") else str(own_id),
        content=text if text.strip() else title or "",
        meta={**meta, "title": title} if title else meta,
    )


def _take(
    row: dict[str, Any], names: Sequence[str], kinds: tuple[type, ...], what: str, where: str
) -> Any:
    """Remove the field from the row that stands under one of the names, and return its value."""
    found = [(name, row.pop(name)) for name in names if name in row]
    for name, value in found:
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise DataError(f"{where}: {name!r} must be {what}, found {type(value).__name__}")
    return next((value for _, value in found if value is not None), None)


def _read_json(path: Path, rows: Rows) -> None:
    """A list of objects gives a document for each; any other value is one document."""
    text = _decoded(path, rows)
    if not text.strip():
        raise Unreadable("no text in it")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not valid JSON ({error})") from error
    if _depth(value) > _DEEPEST:
        raise Unreadable(f"its values are nested more than {_DEEPEST} levels deep")
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        for number, row in enumerate(value, start=1):
            _add_row(rows, row, f"{path}, row {number}", f"{path.as_posix()}#{number}")
    elif isinstance(value, dict) and _has_text(value):
        _add_row(rows, {"file_path": str(path), **value}, str(path), path.as_posix())
    else:
        content = "\n".join(_lines(value))
        meta = {"file_path": str(path)}
        rows.add(str(path), Document(id=path.as_posix(), content=content, meta=meta))


def _has_text(row: dict[str, Any]) -> bool:
    return any(isinstance(row.get(name), str) for name in _TEXT)


def _add_row(rows: Rows, row: dict[str, Any], where: str, identity: str) -> None:
    """A row with a text is read as those of JSON lines are; of another one each field is a line
    ``name: value`` of the content, but for its id and title."""
    if _has_text(row):
        try:
            rows.add(where, _document(dict(row), where, identity))
        except DataError as error:
            rows.found.append((where, str(error).removeprefix(f"{where}: ")))
        return
    named = {
        name: str(row[name]).strip()
        for names, kinds in ((_ID, (str, int)), (("title",), (str,)))
        for name in names
        if isinstance(row.get(name), kinds) and not isinstance(row[name], bool)
    }
    named = {name: value for name, value in named.items() if value}
    fields = {name: value for name, value in row.items() if name not in named}
    simple = {name: value for name, value in fields.items() if isinstance(value, _SIMPLE)}
    title = named.get("title")
    document = Document(
        id=next((named[name] for name in _ID if name in named), identity),
        content="\n".join(_lines(fields)) or title or "",
        meta={**simple, "title": title} if title else simple,
    )
    rows.add(where, document)


def _lines(value: Any, name: str = "") -> Iterator[str]:
    """A line for each value that is no list or object, behind the names that lead to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _lines(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        if all(not isinstance(item, dict | list) for item in value):
            yield from _lines(", ".join(str(item) for item in value if item is not None), name)
        else:
            for number, item in enumerate(value, start=1):
                yield from _lines(item, f"{name}.{number}" if name else str(number))
    elif value is not None and str(value).strip():
        yield f"{name}: {value}" if name else str(value)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def _read_csv(path: Path, delimiter: str | None, rows: Rows) -> None:
    text = _decoded(path, rows)
    header: list[str] = []
    ragged = 0
    line = 1  # where a row begins: a quoted value may hold line ends
    try:
        reader = csv.reader(StringIO(text), delimiter=delimiter or _delimiter(text), strict=True)
        for values in reader:
            start, line = line, reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if not header:
                header = _header(values)
                if not _numbered(values):
                    continue
                rows.notes.append(
                    f"{path}: its first line holds a number, so it is read as a row, not as the "
                    "names of the columns"
                )
            ragged += len(values) != len(header)
            names = header + [f"column {n}" for n in range(len(header) + 1, len(values) + 1)]
            named = zip(names, (value.strip() for value in values), strict=False)
            row = {name: value for name, value in named if value}
            _add_row(rows, row, f"{path}, line {start}", f"{path.as_posix()}#{start}")
    except csv.Error as error:
        raise Unreadable(f"not valid CSV (line {line}: {error}; is a quote not closed?)") from error
    if ragged:
        rows.notes.append(f"{path}: rows of more or fewer values than the first line: {ragged:,}")


def _decoded(path: Path, rows: Rows) -> str:
    text, encoding = decode(read_bytes(path))
    if encoding is not None:
        rows.notes.append(f"{path}: not UTF-8, read as {encoding}")
    return text


def _delimiter(text: str) -> str:
    """The one that gives the first line the most columns."""
    first = text.lstrip("\n").partition("\n")[0]
    return max(_DELIMITERS, key=lambda one: len(next(csv.reader([first], delimiter=one), [])))


def _header(values: Sequence[str]) -> list[str]:
    """Names of columns, each of them once; a column without one is named by its number."""
    names: list[str] = []
    numbered = _numbered(values)
    for number, value in enumerate(values, start=1):
        name = (not numbered and value.strip()) or f"column {number}"
        while name in names:
            name += f" {number}"
        names.append(name)
    return names


def _numbered(values: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(value.strip()) for value in values)
