"""Input files cut into shards: runs of rows of one Parquet or JSON lines file, read on their own.

The cut depends on the files and the number of rows in a shard alone, so that a run started again
meets the same shards, and any worker that sees the files can read any shard.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import ending, open_bytes, parse_object, read_lines
from trlm_retrieval.text.normalise import well_formed

SUFFIXES = (".parquet", ".jsonl")

_SAMPLED = 1 << 20  # bytes at the start and at the end of a file that go into its digest
_DECODED = 8192  # rows of a Parquet file that are decoded at a time


@dataclass(frozen=True)
class Columns:
    """Where a row holds what.

    :ivar query: None where only passages are wanted.
    :ivar passage: several are joined, one a line, empty ones left out.
    :ivar id: passed on to the output; None where rows have none.
    """

    query: str | None = "query"
    passage: tuple[str, ...] = ("passage",)
    id: str | None = None

    @property
    def names(self) -> list[str]:
        """All columns that are read."""
        return [name for name in (self.query, *self.passage, self.id) if name is not None]


@dataclass(frozen=True)
class InputFile:
    """A file of rows.

    :ivar digest: of its first and last megabyte, so that another file is not taken for it.
    """

    path: Path
    rows: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of one file.

    :ivar number: its place among all shards.
    :ivar row: number of its first row among the rows of all files, from 0.
    :ivar start: where its first row stands in the file: a row of Parquet, a byte of JSON lines.
    """

    number: int
    path: Path
    row: int
    start: int
    rows: int


def input_files(path: Path) -> list[Path]:
    """A file, or the Parquet and JSON lines files of a folder in the order of their names.

    :raises DataError: if there are none, or the file is of another kind.
    """
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if _is_input(file))
        if not found:
            raise DataError(f"{path} holds no {' or '.join(SUFFIXES)} file")
        return [file.resolve() for file in found]
    if not path.is_file():
        raise DataError(f"no such file or folder: {path}")
    if not _is_rows(path):
        raise DataError(
            f"{path} is neither a {' nor a '.join(SUFFIXES)} file: rows of other files have to "
            "be written as one of these"
        )
    return [path.resolve()]


def plan_shards(
    paths: Sequence[Path], columns: Columns, shard_rows: int
) -> tuple[list[InputFile], list[Shard]]:
    """Cut files into shards; no text is kept.

    :param shard_rows: the most rows in a shard; a shard never spans two files.
    :raises DataError: if a file cannot be read, or lacks a column.
    :raises ValueError: if ``shard_rows`` is not positive.
    """
    if shard_rows <= 0:
        raise ValueError(f"shard_rows must be positive, not {shard_rows}")
    files: list[InputFile] = []
    shards: list[Shard] = []
    row = 0
    for path in paths:
        cut = _parquet_starts if path.suffix == ".parquet" else _json_starts
        in_file = 0
        for start, rows in cut(path, columns, shard_rows):
            shards.append(Shard(len(shards), path, row, start, rows))
            row += rows
            in_file += rows
        files.append(InputFile(path, in_file, path.stat().st_size, _digest(path)))
    if not shards:
        raise DataError(f"there are no rows in {', '.join(map(str, paths))}")
    return files, shards


def read_shard(shard: Shard, columns: Columns) -> pa.Table:
    """The rows of a shard: text columns ``query`` and ``passage``, and ``id``, where asked for.

    A value that is missing or no text is null.

    :raises DataError: if the file is damaged.
    """
    read = _read_parquet if shard.path.suffix == ".parquet" else _read_json
    table = read(shard, columns)
    if len(table) != shard.rows:
        raise DataError(f"{shard.path} has changed while it was read: start again")
    found: dict[str, Any] = {}
    if columns.id is not None:
        found["id"] = table[columns.id]
    if columns.query is not None:
        found["query"] = table[columns.query]
    texts = [table[name].to_pylist() for name in columns.passage]
    found["passage"] = pa.array(
        ["\n".join(filter(None, parts)) or None for parts in zip(*texts, strict=True)], pa.string()
    )
    return pa.table(found)


def _is_input(file: Path) -> bool:
    return file.is_file() and _is_rows(file) and not file.name.startswith(".")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_SAMPLED))
        file.seek(max(file.tell(), path.stat().st_size - _SAMPLED))
        digest.update(file.read())
    return digest.hexdigest()


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no Parquet file, or damaged: {error}") from error


def _parquet_starts(path: Path, columns: Columns, shard_rows: int) -> Iterator[tuple[int, int]]:
    with _parquet(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    _check_columns(path, columns, schema.names)
    for name in columns.names:
        kind = schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if name != columns.id and not text:
            raise DataError(f"{path}: column {name!r} must hold text, and holds {kind}")
    for start in range(0, rows, shard_rows):
        yield start, min(shard_rows, rows - start)


def _read_parquet(shard: Shard, columns: Columns) -> pa.Table:
    with _parquet(shard.path) as file:
        groups: list[int] = []
        first, end = 0, 0
        for number in range(file.num_row_groups):
            begin, end = end, end + file.metadata.row_group(number).num_rows
            if begin < shard.start + shard.rows and end > shard.start:
                first = begin if not groups else first
                groups.append(number)
        parts, at = [], first
        try:
            for batch in file.iter_batches(_DECODED, groups, list(dict.fromkeys(columns.names))):
                skipped = max(0, shard.start - at)
                if skipped < len(batch):
                    parts.append(batch.slice(skipped, shard.start + shard.rows - at - skipped))
                at += len(batch)
                if at >= shard.start + shard.rows:
                    break
            table = pa.Table.from_batches(parts)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise DataError(f"{shard.path} is damaged: {error}") from error
    for name in columns.names:
        if pa.types.is_dictionary(table.schema.field(name).type):
            index = table.schema.get_field_index(name)
            decoded = table[name].cast(table.schema.field(name).type.value_type)
            table = table.set_column(index, name, decoded)
    return table


def _is_rows(path: Path) -> bool:
    """Whether a file's ending is one that is read; JSON lines may be compressed."""
    return path.suffix in SUFFIXES or ending(path) == ".jsonl"


def _json_starts(path: Path, columns: Columns, shard_rows: int) -> Iterator[tuple[int, int]]:
    start, rows, at = 0, 0, 0
    checked = False
    for line in read_lines(path):
        if line.strip():
            if not checked:
                _check_columns(path, columns, list(parse_object(line, f"{path}, row 0")))
                checked = True
            if rows == shard_rows:
                yield start, rows
                start, rows = at, 0
            rows += 1
        at += len(line)
    if rows:
        yield start, rows


def _read_json(shard: Shard, columns: Columns) -> pa.Table:
    with open_bytes(shard.path) as lines:
        lines.seek(shard.start)
        chosen = list(islice((line for line in lines if line.strip()), shard.rows))
    rows = [
        parse_object(line, f"{shard.path}, row {shard.row + number}")
        for number, line in enumerate(chosen)
    ]
    texts = {name: [_text(row.get(name)) for row in rows] for name in columns.names}
    if columns.id is not None:  # a number, too, names a row
        texts[columns.id] = [
            None if row.get(columns.id) is None else well_formed(str(row[columns.id]))
            for row in rows
        ]
    return pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()})


def _text(value: Any) -> str | None:
    return well_formed(value) if isinstance(value, str) else None


def _check_columns(path: Path, columns: Columns, there: Sequence[str]) -> None:
    for name in columns.names:
        if name not in there:
            raise DataError(
                f"{path} has no column {name!r}, it has {', '.join(there)}: name those that hold "
                "query, passage and id"
            )
