"""Headings, tables and pages of Markdown, HTML, DOCX and PDF files are kept as text and told."""

import zipfile
from io import BytesIO
from pathlib import Path

import docx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passage_index.examples import pdf
from trlm_retrieval.pages.display import display_place, display_title
from trlm_retrieval.passage_index.converted import Unreadable
from trlm_retrieval.passage_index.docx_files import convert_docx
from trlm_retrieval.passage_index.markdown import convert_markdown
from trlm_retrieval.passage_index.pdf import joined
from trlm_retrieval.passage_index.reading import Reading, read

WORDS = "A word of it. " * 20


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def places(reading: Reading) -> list[str]:
    """The titles of the passages, each once, in their order."""
    return list(dict.fromkeys(display_title(passage) for passage in reading.passages))


def word_file(**parts: bytes) -> bytes:
    """A DOCX file with headings, a table and text that looks like Markdown."""
    document = docx.Document()
    document.add_paragraph("Pump Manual", style="Title")
    document.add_paragraph("Words before.")
    document.add_heading("Install", 1)
    document.add_paragraph("# no heading\n| no | table |\nsnake_case *stars* C:\\*dir")
    table = document.add_table(3, 2)
    rows = [("Option", "Meaning"), ("--append", "Adds | to it"), ("", "one\ntwo")]
    for cells, values in zip(table.rows, rows, strict=True):
        for cell, value in zip(cells.cells, values, strict=True):
            cell.text = value
    document.add_paragraph("After the table.")
    document.add_heading("On Debian", 2)
    document.add_paragraph(WORDS)
    data = BytesIO()
    document.save(data)
    with zipfile.ZipFile(data, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return data.getvalue()


def test_passages_of_markdown_stand_under_their_headings(tmp_path: Path) -> None:
    text = (
        f"Before.\n\n# Manual\n\nIntro.\n\n## Install\n\n### On Debian\n\n{WORDS}\n\n"
        f"### On `Arch`\n\nShort.\n\nSetext\n---\n\n```\n# comment\n```\n\n> # Quoted\n\n## Empty\n"
    )
    reading = read([written(tmp_path / "a.md", text)], 200)
    assert places(reading) == [
        "Manual",
        "Manual › Install › On Debian",
        "Manual › Install › On Arch",
        "Manual › Setext",
        "Manual › Empty",
    ]
    headings = [passage.meta.get("heading") for passage in reading.passages]
    assert headings[:2] == [None, None] and headings[-1] == "Empty"
    contents = [passage.content or "" for passage in reading.passages]
    assert contents[:2] == ["Before.", "Manual\n\nIntro."]
    assert contents[2].startswith("A word of it.")  # the headings alone are no passage
    assert "On Arch\n\nShort." in contents
    assert "# comment" in "".join(contents)


def test_a_short_text_is_not_cut_at_its_headings(tmp_path: Path) -> None:
    [passage] = read([written(tmp_path / "a.md", "# A\n\nOne.\n\n## B\n\nTwo.")]).passages
    assert passage.content == "A\n\nOne.\n\nB\n\nTwo."
    assert passage.meta["title"] == "A" and "heading" not in passage.meta


def test_a_text_with_front_matter_keeps_that_title_before_its_headings(tmp_path: Path) -> None:
    text = f"---\ntitle: Guide\n---\n# Pump\n\n{WORDS}"
    assert places(read([written(tmp_path / "a.md", text)], 100)) == ["Guide › Pump"]


def test_a_text_without_a_title_is_called_by_its_headings(tmp_path: Path) -> None:
    text = f"## Pump\n\n{WORDS}\n\n### Valve\n\n{WORDS}"
    assert places(read([written(tmp_path / "a.md", text)], 100)) == ["Pump", "Pump › Valve"]


def test_a_heading_of_many_words_is_shortened_in_the_title_alone() -> None:
    heading = "word " * 60
    [section] = convert_markdown(f"# {heading}\n\nText.").sections
    assert len(section.headings[0]) <= 101 and section.headings[0].endswith("…")
    assert section.text == f"{heading.strip()}\n\nText."


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        ("| Option | Means |\n|---|:-:|\n| `--a` | Adds *it* \\| more |\n|  | x |",
         "Option: --a; Means: Adds it | more\nMeans: x"),
        ("a: | |\n--|--\n1 | 2", "a: 1; 2"),
        ("| | |\n|--|--|\n| 1 | 2 |\n| 3 | |", "1 | 2\n3"),
        ("| only | headers |\n|--|--|", "only | headers"),
        ("| [docs][d] | b |\n|--|--|\n| ![alt](x) | y<br>z |\n\n[d]: http://x.org",
         "docs: alt; b: y z"),
    ],
)  # fmt: skip
def test_tables_of_markdown_become_lines(table: str, lines: str) -> None:
    assert convert_markdown(f"Before.\n\n{table}\n\nAfter.").text == f"Before.\n\n{lines}\n\nAfter."


def test_headings_and_tables_of_html(tmp_path: Path) -> None:
    page = (
        "<html><head><title>Pumps</title></head><body><article><h1>Manual</h1><p>The method "
        f"__init__ takes *args and `x` &lt;b&gt;. {WORDS}</p><h2>Install</h2><p>{WORDS}</p>"
        "<table><tr><th>Option</th><th>Meaning</th></tr><tr><td>--append</td><td>Adds to it</td>"
        "</tr></table></article></body></html>"
    )
    reading = read([written(tmp_path / "a.html", page)], 200)
    assert places(reading) == ["Manual", "Manual › Install"]
    text = "\n".join(passage.content or "" for passage in reading.passages)
    assert "The method __init__ takes *args and `x` <b>." in text
    assert "Option: --append; Meaning: Adds to it" in text


def test_a_docx_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.docx", word_file())
    [whole] = read([path]).passages
    assert (whole.content or "").startswith(
        "Pump Manual\n\nWords before.\n\nInstall\n\n# no heading"
    )
    assert "| no | table |\nsnake_case *stars* C:\\*dir" in (whole.content or "")
    assert "Option: --append; Meaning: Adds | to it\nMeaning: one two\n\nAfter the table." in (
        whole.content or ""
    )
    assert whole.meta == {"title": "Pump Manual", "file_path": str(path)}
    assert places(read([path], 200)) == [
        "Pump Manual",
        "Pump Manual › Install",
        "Pump Manual › Install › On Debian",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged DOCX file"),
        (b"no zip at all", "damaged DOCX file"),
        (b"\xd0\xcf\x11\xe0 old", "an old Word file"),
        (word_file()[:3000], "damaged DOCX file"),
        (word_file(bomb=b"\0" * 200_000_001), "it unpacks to more than 200 MB"),
    ],
)
def test_a_docx_file_that_gives_nothing(tmp_path: Path, data: bytes, reason: str) -> None:
    good = written(tmp_path / "good.txt", "good")
    reading = read([written(tmp_path / "a.docx", data), good])
    assert [passage.content for passage in reading.passages] == ["good"]
    assert [reason in skipped.reason for skipped in reading.skipped] == [True]


@pytest.mark.parametrize("body", ["<w:p>" * 5_000, "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", ""])
def test_a_docx_file_with_a_hostile_body(tmp_path: Path, body: str) -> None:
    data = BytesIO()
    with zipfile.ZipFile(BytesIO(word_file())) as read_from, zipfile.ZipFile(data, "w") as into:
        for entry in read_from.infolist():
            hostile = entry.filename == "word/document.xml"
            into.writestr(entry.filename, body if hostile else read_from.read(entry))
    with pytest.raises(Unreadable, match="damaged DOCX file"):
        convert_docx(data.getvalue())


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 36_000))
def test_a_damaged_docx_file_is_read_or_refused(noise: bytes, place: int) -> None:
    data = word_file()
    place %= len(data)
    try:
        convert_docx(data[:place] + noise + data[place + len(noise) :])
    except Unreadable as error:
        assert str(error)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("#|-: \n>`*_[]()ab<&"), max_size=120))
def test_any_markdown_is_converted(text: str) -> None:
    found = convert_markdown(text)
    assert all(section.text for section in found.sections) or found.text == ""


def test_pages_of_a_pdf_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pdf", pdf(WORDS, WORDS))
    passages = read([path], 150).passages
    assert {passage.meta["page_number"] for passage in passages} == {1, 2}
    assert display_title(passages[-1]) == str(path)
    assert display_place(passages[-1]) == f"{path}, page 2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a schlüs\ufffesigen word", "a schlüssigen word"),
        ("Linux\ufffeSystem", "Linux-System"),
        ("a well\ufffeknown one, well-known", "a well-known one, well-known"),
        ("(a)\ufffe(b)", "(a)-(b)"),
    ],
)
def test_words_that_the_end_of_a_line_cuts(text: str, expected: str) -> None:
    assert joined(text) == expected
