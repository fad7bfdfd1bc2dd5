"""Files of every kind become passages; what cannot be read is named with its reason."""

import gzip
import json
import lzma
from pathlib import Path

import pytest
from haystack import Document

from tests.passage_index.examples import pdf
from trlm_retrieval.errors import DataError
from trlm_retrieval.passage_index.cutting import split
from trlm_retrieval.passage_index.reading import Reading, read, read_sources


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(reading: Reading) -> dict[str, str | None]:
    return {passage.id: passage.content for passage in reading.passages}


def test_every_kind_of_file(tmp_path: Path) -> None:
    html = (
        "<html><head><title>On tides</title></head><body><article><p>The moon raises the tides "
        "of the sea, and so does the sun, although less.</p></article></body></html>"
    )
    write(tmp_path / "a.txt", "Plain words.")
    write(tmp_path / "b.md", "# Heading\n\nSome *marked* words.")
    write(tmp_path / "deep/er/c.html", html)
    write(tmp_path / "d.PDF", pdf("Words in a page."))
    write(tmp_path / "e.jsonl", '{"text": "A row.", "_id": 7, "title": "T", "url": "u"}\n')

    reading = read([tmp_path])

    found = {Path(passage.id).name: passage for passage in reading.passages}
    assert found["a.txt"].content == "Plain words."
    assert "marked words" in (found["b.md"].content or "")
    assert found["b.md"].meta["title"] == "Heading"
    assert "moon raises the tides" in (found["c.html"].content or "")
    assert found["c.html"].meta["title"] == "On tides"
    assert "Words in a page." in (found["d.PDF"].content or "")
    assert found["d.PDF"].meta["file_path"] == str(tmp_path / "d.PDF")
    assert (found["7"].content, found["7"].meta) == ("A row.", {"title": "T", "url": "u"})
    assert (reading.documents, reading.cut, reading.skipped) == (5, 0, [])


def test_skipped_files_are_named_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "image.png", b"\x89PNG")
    write(tmp_path / "Makefile", "all:")
    write(tmp_path / "broken.pdf", "no pdf at all")
    write(tmp_path / "empty.txt", " \n")
    write(tmp_path / "none.jsonl", "\n")
    write(tmp_path / "none.jsonl.gz", b"")
    write(tmp_path / ".hidden/secret.txt", "hidden words")
    write(tmp_path / "rows.jsonl", '{"text": "good"}\n\n{"text": " "}\n')

    reading = read([tmp_path])

    assert list(texts(reading).values()) == ["good"]
    reasons = {
        skipped.path.removeprefix(f"{tmp_path}/"): skipped.reason for skipped in reading.skipped
    }
    assert reasons.keys() == {
        "image.png",
        "Makefile",
        "broken.pdf",
        "empty.txt",
        ".hidden",
        "rows.jsonl, line 3",
        "none.jsonl",
        "none.jsonl.gz",
    }
    assert reasons["none.jsonl"] == reasons["none.jsonl.gz"] == "no row in it"
    assert reasons["image.png"] == ".png files are not read"
    assert reasons["broken.pdf"] == "damaged PDF"
    assert reasons["empty.txt"] == reasons["rows.jsonl, line 3"] == "no text in it"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut o', "not valid JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
        ('{"body": "x"}', "no 'text' or 'content'"),
        ('{"text": 5}', "'text' must be text, found int"),
        ('{"text": "x", "_id": [1]}', "'_id' must be text or a number, found list"),
        ('{"text": "x", "_id": true}', "'_id' must be text or a number, found bool"),
        ('{"text": "x", "title": {}}', "'title' must be text, found dict"),
        ('{"text": "x", "meta": "y"}', "'meta' must be an object, found str"),
        ("\xff", "not valid JSON"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "rows.jsonl", f'{{"text": "fine"}}\n{line}\n'.encode("latin-1"))
    with pytest.raises(DataError) as raised:
        read([path])
    assert f"{path}, line 2: " in str(raised.value)
    assert message in str(raised.value)


def test_a_row_may_use_other_names_and_need_no_id(tmp_path: Path) -> None:
    rows = [
        {"content": "one", "id": "a", "metadata": {"year": 1999}},
        {"text": "two", "_id": "", "title": None, "meta": None},
        {"title": "Only a title", "text": ""},
    ]
    path = write(tmp_path / "rows.jsonl", "\n".join(json.dumps(row) for row in rows))
    first, second, third = read([path]).passages
    assert (first.id, first.content, first.meta) == ("a", "one", {"year": 1999})
    assert (second.id, second.content, second.meta) == (f"{path.as_posix()}#2", "two", {})
    assert (third.content, third.meta) == ("Only a title", {"title": "Only a title"})


def test_a_beir_folder_gives_its_corpus_whole_and_not_its_queries(tmp_path: Path) -> None:
    words = "word " * 50
    write(tmp_path / "set/corpus.jsonl", json.dumps({"_id": "d1", "text": words}))
    write(tmp_path / "set/queries.jsonl", '{"_id": "q1", "text": "a query"}')
    write(tmp_path / "set/qrels/test.tsv", "q1\td1\t1")
    for path in (tmp_path, tmp_path / "set"):
        reading = read([path], max_characters=20)
        assert texts(reading) == {"d1": words}
        assert reading.skipped == []


def test_a_missing_path_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    bad = write(tmp_path / "rows.jsonl", "{")
    with pytest.raises(DataError, match=r"no such file or folder: .*nowhere"):
        read([bad, tmp_path / "nowhere"])


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "words")
    assert read([path, tmp_path]).documents == 1


def test_long_files_are_cut_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "long.txt", "A sentence of some words. " * 40)
    write(tmp_path / "short.txt", "Short.")
    reading = read([tmp_path], max_characters=200)
    assert (reading.documents, reading.cut) == (2, 1)
    assert len(reading.passages) > 5


def test_split_keeps_every_word_and_bounds_every_passage() -> None:
    paragraphs = [f"Paragraph {n} has words. It ends here." for n in range(30)]
    hard = "x" * 350
    whole = Document(id="d", content="\n\n".join([*paragraphs, hard]), meta={"title": "T"})
    short = Document(id="s", content="short")

    *parts, last = split([whole, short], 100)

    assert last is short
    assert [part.id for part in parts] == [f"d#{n}" for n in range(1, len(parts) + 1)]
    assert all(0 < len(part.content or "") <= 100 for part in parts)
    assert all(part.meta["title"] == "T" and part.meta["source_id"] == "d" for part in parts)
    joined = "".join(part.content or "" for part in parts)
    assert "".join(joined.split()) == "".join((whole.content or "").split())
    assert (parts[0].content or "").endswith("It ends here.")


def test_split_bounds_text_without_spaces() -> None:
    parts = split(
        [Document(id="d", content="字" * 1000), Document(id="e", content="w\n" * 500)], 99
    )
    assert all(len(part.content or "") <= 99 for part in parts)


def test_split_refuses_a_size_of_nothing() -> None:
    with pytest.raises(ValueError, match="max_characters must be positive"):
        split([], 0)


@pytest.mark.parametrize(
    ("text", "title", "content"),
    [
        ("```bash\n# install first\n```\n\n# Pump Manual\n\nA valve.", "Pump Manual", None),
        ("    # code\n\nPump *Manual*\n===\n\nA valve.", "Pump Manual", None),
        ("# The `x` of **[Pumps](u)** &amp; more\n\nA valve.", "The x of Pumps & more", None),
        ("\ufeff# Pump\n\nA valve.", "Pump", None),
        ("---\ntitle: Pump\ndate: 2024-01-02\n---\n# Other\n\nA valve.", "Pump", None),
        ("---\r\ntitle: Pump\r\n---\r\nA valve.", "Pump", "A valve."),
        ("\ufeff---\ntitle: Pump\n---\n\nA valve.", "Pump", "A valve."),
        ("---\n- no\n- fields\n---\nA valve.", None, None),
        ("---\nA valve.\n\n---\nMore.", None, None),
        (
            '+++\ntitle = "Pump"\ndate = 2024-01-02\n+++\n\n# Other\n\nA valve.',
            "Pump",
            "Other\n\nA valve.",
        ),
        ("+++\nnot toml\n+++\nA valve.", None, None),
        ("---\ntitle:\n---\n# Pump\n\nA valve.", "Pump", None),
        ("---\ntitle: [a, b]\n---\n# Pump\n\nA valve.", "Pump", None),
        ("---\ntitle: 2020\n---\n# Pump\n\nA valve.", "2020", None),
        ("> # Quoted\n\n- # Listed\n\n# Pump\n\nA valve.", "Pump", None),
        ("# Pump[^1] {#pump}\n\nx\n\n[^1]: A valve.", "Pump", None),
        ("# Pump<br/>Manual\n\nA valve.", "Pump Manual", None),
        ("# See [the **docs**][d]\n\nA valve.\n\n[d]: http://x.org", "See the docs", None),
        ("<!-- # No -->\n\n## Second level\n\nA valve.", None, None),
    ],
)
def test_titles_of_markdown(
    tmp_path: Path, text: str, title: str | None, content: str | None
) -> None:
    [passage] = read([write(tmp_path / "a.md", text)]).passages
    assert passage.meta.get("title") == title
    assert "A valve." in (passage.content or "") and "\ufeff" not in (passage.content or "")
    assert content is None or passage.content == content
    assert "date" not in passage.meta or passage.meta["date"] == "2024-01-02"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_change_nothing(tmp_path: Path, name: str, end: str) -> None:
    lines = ["A first line about tides.", "", "A second paragraph. " * 60, "", "A third one."]
    text = "\n".join(lines)
    if name.endswith("html"):
        text = f"<html><body><article><p>{text}</p></article></body></html>"
    unix = read([write(tmp_path / "unix" / name, text)], 200).passages
    other = read([write(tmp_path / "other" / name, text.replace("\n", end))], 200).passages
    assert [passage.content for passage in unix] == [passage.content for passage in other]
    assert len(unix) > 2


@pytest.mark.parametrize(
    ("encoding", "told"), [("utf-8-sig", None), ("utf-16", "utf-16"), ("cp1252", "cp1252")]
)
def test_files_that_are_not_utf8(tmp_path: Path, encoding: str, told: str | None) -> None:
    text = "Das Café in der Straße öffnet früh, und die Gäste müssen draußen warten."
    reading = read([write(tmp_path / "a.txt", text.encode(encoding))])
    assert [passage.content for passage in reading.passages] == [text]
    assert len(reading.notes) == (told is not None)
    assert all("not UTF-8, read as" in note and "a.txt" in note for note in reading.notes)


def test_a_few_bytes_are_read_as_the_commonest_encoding(tmp_path: Path) -> None:
    reading = read([write(tmp_path / "a.txt", "caf\xe9".encode("cp1252"))])
    assert [passage.content for passage in reading.passages] == ["caf\xe9"]
    assert reading.notes == [f"{tmp_path / 'a.txt'}: not UTF-8, read as cp1252"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    reading = read([write(tmp_path / "a.txt", bytes(range(256)) * 9)])
    assert [skipped.reason for skipped in reading.skipped] == [
        "it is no text in any known encoding"
    ]


def test_compressed_files(tmp_path: Path) -> None:
    write(tmp_path / "a.txt.gz", gzip.compress(b"Plain words."))
    write(tmp_path / "set/corpus.jsonl.xz", lzma.compress(b'{"_id": "d", "text": "A row."}'))
    write(tmp_path / "set/queries.jsonl.gz", gzip.compress(b'{"_id": "q", "text": "A query."}'))
    reading = read([tmp_path])
    assert sorted(texts(reading).values()) == ["A row.", "Plain words."]
    assert reading.skipped == []


def test_an_id_that_comes_twice_names_both_places(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", '{"id": "1", "text": "Apples."}')
    two = write(tmp_path / "two.jsonl", '\n{"id": 1, "text": "Cars."}')
    with pytest.raises(DataError) as raised:
        read([one, two])
    for expected in (f"{one}, line 1", f"{two}, line 2", "--duplicates first"):
        assert expected in str(raised.value)
    assert texts(read([one, two], duplicates="first")) == {"1": "Apples."}
    assert texts(read([one, two], duplicates="last")) == {"1": "Cars."}


def test_every_source_keeps_its_place(tmp_path: Path) -> None:
    a = write(tmp_path / "a.txt", "A.")
    b = write(tmp_path / "b.txt", " ")
    rows = write(tmp_path / "c.jsonl", '{"text": "C1."}\n\n{"text": ""}\n{"text": "C3."}')
    image = write(tmp_path / "d.png", "x")
    none = write(tmp_path / "e.jsonl", "")
    reading = read_sources([a, b, rows, image, none, a])
    found = [passage.content for passage in reading.passages]
    assert found == ["A.", "", "C1.", "", "C3.", "", "", "A."]
    assert len(reading.skipped) == 4
