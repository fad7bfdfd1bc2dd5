"""Rows of CSV, TSV and JSON files become documents; what is malformed is told and stops nothing."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trlm_retrieval.passage_index.reading import Reading, read, read_sources


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def contents(reading: Reading) -> list[str | None]:
    return [passage.content for passage in reading.passages]


def test_a_csv_row_is_a_line_for_each_value(tmp_path: Path) -> None:
    path = written(tmp_path / "pumps.csv", "name,price,note\nP1,10,small\nP2,,\n\nP3,30,big\n")
    reading = read([path])
    assert contents(reading) == [
        "name: P1\nprice: 10\nnote: small",
        "name: P2",
        "name: P3\nprice: 30\nnote: big",
    ]
    first, _, third = reading.passages
    assert first.meta == {"name": "P1", "price": "10", "note": "small"}
    assert [first.id, third.id] == [f"{path.as_posix()}#2", f"{path.as_posix()}#5"]
    assert (reading.skipped, reading.notes) == ([], [])


def test_columns_of_csv_that_have_the_names_of_json_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,title,text,year\n7,Tides,The moon.,1999\n8,Only,,2000\n")
    first, second = read([path]).passages
    assert (first.id, first.content) == ("7", "The moon.")
    assert first.meta == {"title": "Tides", "year": "1999"}
    assert (second.id, second.content, second.meta["title"]) == ("8", "year: 2000", "Only")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", "name;place\nCafé;Köln, Rhein\n"),
        ("a.csv", '\ufeffname,place\r\nCafé,"Köln, Rhein"\r\n'),
        ("a.tsv", "name\tplace\nCafé\tKöln, Rhein\n"),
        ("a.csv", "name|place\nCafé|Köln, Rhein\n"),
    ],
)
def test_delimiters_and_byte_order_marks(tmp_path: Path, name: str, data: str) -> None:
    assert contents(read([written(tmp_path / name, data)])) == ["name: Café\nplace: Köln, Rhein"]


def test_another_encoding_is_told(tmp_path: Path) -> None:
    text = "name,place\n" + "Café,Köln an der schönen Brücke\n" * 3
    reading = read([written(tmp_path / "a.csv", text.encode("cp1252"))])
    assert contents(reading)[0] == "name: Café\nplace: Köln an der schönen Brücke"
    assert [note.split(": ")[1][:18] for note in reading.notes] == ["not UTF-8, read as"]


def test_a_quoted_value_may_hold_lines_and_rows_are_named_by_their_first(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'name,note\nA,"one\n\ntwo, ""three"""\nB,x\n')
    first, second = read([path]).passages
    assert first.content == 'name: A\nnote: one\n\ntwo, "three"'
    assert [first.id, second.id] == [f"{path.as_posix()}#2", f"{path.as_posix()}#5"]


def test_rows_of_other_lengths_lose_nothing_and_are_counted(tmp_path: Path) -> None:
    reading = read([written(tmp_path / "a.csv", "name,note\nA\nB,x,y,z\nC,w\n")])
    assert contents(reading) == [
        "name: A",
        "name: B\nnote: x\ncolumn 3: y\ncolumn 4: z",
        "name: C\nnote: w",
    ]
    [note] = reading.notes
    assert note.endswith("rows of more or fewer values than the first line: 2")


def test_a_first_line_with_a_number_is_a_row(tmp_path: Path) -> None:
    reading = read([written(tmp_path / "a.csv", "Apple,3.5\nPear,4\n")])
    assert contents(reading) == ["column 1: Apple\ncolumn 2: 3.5", "column 1: Pear\ncolumn 2: 4"]
    assert "its first line holds a number" in reading.notes[0]


def test_columns_without_a_name_and_of_the_same_name(tmp_path: Path) -> None:
    reading = read([written(tmp_path / "a.csv", ",a,a,a 3\n0,x,y,z\n")])
    assert contents(reading) == ["column 1: 0\na: x\na 3: y\na 3 4: z"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no row in it"),
        (b"\n \n", "no row in it"),
        (b"name,note\n", "no row in it"),
        (b'name,note\nA,"not closed\nB,x\n', "is a quote not closed?"),
        (b"name,note\nA," + b"x" * 10_000_000 + b"\n", "field larger than field limit"),
        (b"x" * 10_000_000, "field larger than field limit"),
        (bytes(range(256)) * 9, "it is no text in any known encoding"),
    ],
)
def test_csv_that_gives_nothing(tmp_path: Path, data: bytes, reason: str) -> None:
    good = written(tmp_path / "good.csv", "name\nA\n")
    reading = read([written(tmp_path / "bad.csv", data), good])
    assert contents(reading) == ["name: A"]
    [skipped] = reading.skipped
    assert skipped.path.endswith("bad.csv") and reason in skipped.reason


def test_ten_thousand_rows_compressed(tmp_path: Path) -> None:
    text = "name,number\n" + "".join(f"row,{number}\n" for number in range(10_000))
    reading = read([written(tmp_path / "a.csv.gz", gzip.compress(text.encode()))])
    assert reading.documents == 10_000
    assert reading.passages[-1].content == "name: row\nnumber: 9999"


def test_a_list_of_objects_in_json_is_read_as_rows(tmp_path: Path) -> None:
    rows = [
        {"_id": 7, "title": "Tides", "text": "The moon.", "url": "u"},
        {"name": "P1", "size": {"width": 3, "parts": ["a", "b"]}, "old": False, "none": None},
        {"text": ""},
        {"text": "x", "title": ["no"]},
    ]
    path = written(tmp_path / "rows.json", json.dumps(rows))
    reading = read([path])
    first, second = reading.passages
    assert (first.id, first.content) == ("7", "The moon.")
    assert first.meta == {"title": "Tides", "url": "u"}
    assert second.content == "name: P1\nsize.width: 3\nsize.parts: a, b\nold: False"
    assert (second.id, second.meta) == (f"{path.as_posix()}#2", {"name": "P1", "old": False})
    assert [(skipped.path, skipped.reason) for skipped in reading.skipped] == [
        (f"{path}, row 3", "no text in it"),
        (f"{path}, row 4", "'title' must be text, found list"),
    ]
    assert [source.content for source in read_sources([path]).passages] == [
        "The moon.",
        second.content,
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ({"id": "x", "items": [{"name": "a"}, {"name": "b"}]},
         "id: x\nitems.1.name: a\nitems.2.name: b"),
        ({"content": {"deep": 1}}, "content.deep: 1"),
        (["a", "b", 3], "a, b, 3"),
        ([{"a": 1}, "b"], "1.a: 1\n2: b"),
        ("text", "text"),
    ],
)  # fmt: skip
def test_any_other_json_is_one_document(tmp_path: Path, value: object, content: str) -> None:
    path = written(tmp_path / "a.json", json.dumps(value))
    [passage] = read([path]).passages
    assert (passage.id, passage.content) == (path.as_posix(), content)
    assert passage.meta == {"file_path": str(path)}


def test_an_object_with_a_text_is_read_as_a_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", '{"title": "T", "text": "words", "year": 1999}')
    [passage] = read([path]).passages
    assert passage.content == "words"
    assert passage.meta == {"file_path": str(path), "title": "T", "year": 1999}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "no text in it"),
        ("{}", "no text in it"),
        ("[]", "no text in it"),
        ("{\n// a comment\n}", "not valid JSON (Expecting property name"),
        ("[" * 100_000, "not valid JSON ("),
        ("[" * 150 + "1" + "]" * 150, "nested more than 100 levels deep"),
        ('{"a":' * 150 + "1" + "}" * 150, "nested more than 100 levels deep"),
    ],
)
def test_json_that_gives_nothing(tmp_path: Path, data: str, reason: str) -> None:
    reading = read([written(tmp_path / "a.json", data), written(tmp_path / "b.json", '"good"')])
    assert contents(reading) == ["good"]
    assert [reason in skipped.reason for skipped in reading.skipped] == [True]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300) | st.text(st.sampled_from('a1,;"\n\t{}[]: '), max_size=60))
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json"])
def test_any_bytes_are_read_or_skipped_with_a_reason(
    tmp_path: Path, name: str, data: bytes | str
) -> None:
    reading = read([written(tmp_path / name, data if isinstance(data, bytes) else data.encode())])
    assert reading.passages or reading.skipped
    assert all((passage.content or "").strip() for passage in reading.passages)
