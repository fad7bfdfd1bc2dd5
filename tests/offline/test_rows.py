"""Shards hold every row once, wherever a file is cut."""

import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.offline.rows import Columns, input_files, plan_shards, read_shard


def rows_of(path, columns, shard_rows):
    files, shards = plan_shards(input_files(path), columns, shard_rows)
    tables = [read_shard(shard, columns) for shard in shards]
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert [shard.row for shard in shards] == [
        sum(map(len, tables[:number])) for number in range(len(shards))
    ]
    assert sum(file.rows for file in files) == sum(map(len, tables))
    assert max(map(len, tables)) <= shard_rows
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("shard_rows", [1, 3, 4, 7, 25, 1000])
def test_parquet_in_any_cut(pairs, shard_rows):
    whole = [row for file in sorted(pairs.iterdir()) for row in pq.read_table(file).to_pylist()]
    found = rows_of(pairs, Columns(id="pair"), shard_rows)
    expected = [
        {"id": row["pair"], "query": row["query"], "passage": row["passage"]} for row in whole
    ]
    assert found == expected


@pytest.mark.parametrize("shard_rows", [1, 2, 5])
def test_json_lines_in_any_cut(tmp_path, shard_rows):
    rows = [
        {"n": 1, "q": "why", "title": "T", "text": "Ünïcode 漢"},
        {"n": "b", "q": "\ud800 lone", "title": "", "text": "two"},
        {"n": None, "q": None, "title": "only a title", "text": None},
        {"q": 5, "text": "no title"},
        {"n": 3, "q": "last", "title": "T", "text": ""},
    ]
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps(row, ensure_ascii=row["q"] != "why") for row in rows]
    path.write_text("\n" + "\n\n".join(lines), encoding="utf-8")
    assert rows_of(path, Columns("q", ("title", "text"), "n"), shard_rows) == [
        {"id": "1", "query": "why", "passage": "T\nÜnïcode 漢"},
        {"id": "b", "query": "\ufffd lone", "passage": "two"},
        {"id": None, "query": None, "passage": "only a title"},
        {"id": None, "query": None, "passage": "no title"},
        {"id": "3", "query": "last", "passage": "T"},
    ]


def test_texts_that_parquet_keeps_as_numbers_of_a_dictionary(tmp_path):
    table = pa.table({"query": pa.array(["a", "b", "a"]).dictionary_encode(), "passage": ["x"] * 3})
    pq.write_table(table, tmp_path / "pairs.parquet")
    assert [row["query"] for row in rows_of(tmp_path, Columns(), 2)] == ["a", "b", "a"]


def test_a_file_that_changed_has_another_digest(pairs):
    before = plan_shards(input_files(pairs), Columns(), 10)[0]
    table = pq.read_table(pairs / "b.parquet")
    changed = table.set_column(
        1, "query", pa.array([text.upper() for text in table["query"].to_pylist()])
    )
    pq.write_table(changed, pairs / "b.parquet")
    after = plan_shards(input_files(pairs), Columns(), 10)[0]
    assert before[0] == after[0] and before[1].digest != after[1].digest


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda folder: None, "holds no .parquet or .jsonl file"),
        (lambda folder: (folder / "a.parquet").write_bytes(b"PAR1 no"), "a.parquet is no Parquet"),
        (lambda folder: (folder / "a.jsonl").write_text("\n"), "there are no rows in"),
        (lambda folder: (folder / "a.jsonl").write_text("[1]"), "row 0: expected a JSON object"),
        (
            lambda folder: (folder / "a.jsonl").write_text('{"question": "x"}'),
            "no column 'query', it has question",
        ),
        (
            lambda folder: pq.write_table(
                pa.table({"query": [1], "passage": ["x"]}), folder / "a.parquet"
            ),
            "column 'query' must hold text, and holds int64",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, write, told):
    write(tmp_path)
    with pytest.raises(DataError, match=told):
        plan_shards(input_files(tmp_path), Columns(), 10)


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"query": "a", "passage": "b"}\n{"query": \n')
    _, shards = plan_shards([path], Columns(), 1)
    with pytest.raises(DataError, match=r"a\.jsonl, row 1: not valid JSON"):
        read_shard(shards[1], Columns())


def test_other_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        input_files(tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text("query,passage")
    with pytest.raises(DataError, match="neither a"):
        input_files(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="shard_rows must be positive"):
        plan_shards([], Columns(), 0)


@pytest.mark.parametrize("pack", [gzip, lzma])
def test_compressed_json_lines_in_any_cut(tmp_path, pack):
    lines = "".join(json.dumps({"query": f"q{n}", "passage": f"p{n}"}) + "\n" for n in range(9))
    file = tmp_path / f"rows.jsonl.{'gz' if pack is gzip else 'xz'}"
    file.write_bytes(pack.compress(lines.encode()))
    found = rows_of(file, Columns(), 4)
    assert found == [{"query": f"q{n}", "passage": f"p{n}"} for n in range(9)]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match="cut short or damaged"):
        rows_of(file, Columns(), 4)
