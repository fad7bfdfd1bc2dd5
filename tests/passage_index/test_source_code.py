"""Source code is cut along functions and classes, and each passage tells where it stands."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trlm_retrieval.passage_index.reading import read
from trlm_retrieval.passage_index.source_code import LANGUAGES, cut_code

PUMP = '''import os

class Pump:
    """Moves wäter."""

    def open(self, valve):
        if valve.is_stuck():
            raise RuntimeError("the valve is stuck")
        return valve.turn(90)

    def close(self, valve):
        return valve.turn(-90)


def drain(pumps):
    for pump in pumps:
        pump.open(None)
'''
# A definition of each language, with the names that its body stands under.
SAMPLES = {
    "python": ("class Pump:\n    def open(self):\n        return 1\n", ("Pump", "open")),
    "javascript": ("class Pump {\n  open() {\n    return 1;\n  }\n}\n", ("Pump", "open")),
    "typescript": ("namespace N {\n  function open() {\n    return 1;\n  }\n}\n", ("N", "open")),
    "tsx": ("const App = () => {\n  return <b>1</b>;\n};\n", ("App",)),
    "java": ("class Pump {\n  int open() {\n    return 1;\n  }\n}\n", ("Pump", "open")),
    "go": ("package p\nfunc (p *Pump) Open() int {\n\treturn 1\n}\n", ("Open",)),
    "rust": ("impl Pump {\n  fn open() -> i32 {\n    return 1;\n  }\n}\n", ("Pump", "open")),
    "c": ("static int *open(struct pump *p) {\n  return 1;\n}\n", ("open",)),
    "cpp": (
        "namespace n {\nclass Pump {\n  int open() {\n    return 1;\n  }\n};\n}\n",
        ("n", "Pump", "open"),
    ),
    "c_sharp": ("class Pump {\n  int Open() {\n    return 1;\n  }\n}\n", ("Pump", "Open")),
    "ruby": ("module M\n  class P\n    def a\n      1\n    end\n  end\nend\n", ("M", "P", "a")),
    "php": ("<?php\nclass Pump {\n  function open() {\n    return 1;\n  }\n}\n", ("Pump", "open")),
    "bash": ("open() {\n  return 1\n}\n", ("open",)),
}  # fmt: skip


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_passages_tell_the_lines_and_what_they_stand_in(tmp_path: Path) -> None:
    path = written(tmp_path / "pump.py", PUMP)
    reading = read([path], 140)
    lines = PUMP.splitlines()
    found = {passage.meta.get("heading"): passage for passage in reading.passages}
    assert list(found) == [None, "Pump", "Pump › open", "Pump › close", "drain"]
    for passage in reading.passages:
        first, last = passage.meta["first_line"], passage.meta["last_line"]
        assert (passage.content or "").splitlines() == lines[first - 1 : last]
        assert passage.meta["language"] == "python"
        assert passage.meta["file_path"] == passage.meta["source_id"] == str(path)
    assert found["drain"].meta["title"] == "pump.py › drain"
    assert (found["drain"].meta["first_line"], found["drain"].meta["last_line"]) == (15, 17)
    assert (reading.documents, reading.cut) == (1, 1)


def test_decorators_and_first_lines_stand_in_their_definition() -> None:
    text = (
        "@a.wrapper\ndef pump(valve):\n" + "    valve.turn(1)\n" * 5 + "\n\nclass B:\n    x = 1\n"
    )
    pieces = cut_code(text, "python", 70)
    assert pieces is not None
    assert list(dict.fromkeys(piece.headings for piece in pieces)) == [("pump",), ("B",)]
    assert pieces[0].text.startswith("@a.wrapper\ndef pump(valve):")


def test_a_short_file_stays_whole(tmp_path: Path) -> None:
    [passage] = read([written(tmp_path / "pump.py", PUMP)], 1000).passages
    assert passage.content == PUMP
    assert passage.meta["title"] == "pump.py"


def test_every_language_is_known_and_named(tmp_path: Path) -> None:
    assert set(LANGUAGES.values()) == set(SAMPLES)
    for language, (text, names) in SAMPLES.items():
        pieces = cut_code(text, language, 22)
        assert pieces is not None
        [body] = [piece for piece in pieces if "1" in piece.text]
        assert body.headings == names, language
        joined = "".join(piece.text for piece in pieces)
        assert "".join(joined.split()) == "".join(text.split())


def test_code_with_mistakes_is_read(tmp_path: Path) -> None:
    broken = PUMP.replace("def open(self, valve):", "def open(self, valve") + "\n)) } class (\n"
    passages = read([written(tmp_path / "pump.py", broken)], 140).passages
    joined = "".join(passage.content or "" for passage in passages)
    assert "".join(joined.split()) == "".join(broken.split())
    assert passages[-1].meta["last_line"] == 19


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.py", b"\x7fELF" + bytes(range(256)) * 9, "it is no text in any known encoding"),
        ("a.py", b"", "no text in it"),
        ("a.go", b"\n \n", "no text in it"),
        ("a.min.js", b"function a(){return 1};" * 50_000, "minified or generated"),
    ],
)
def test_files_that_are_no_code(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    reading = read([written(tmp_path / name, data), written(tmp_path / "good.sh", "echo good\n")])
    assert [passage.content for passage in reading.passages] == ["echo good\n"]
    assert [reason in skipped.reason for skipped in reading.skipped] == [True]


@pytest.mark.parametrize("text", ["[\n" * 30_000, "f(\n" * 30_000 + ")" * 30_000])
def test_deeply_nested_code_is_cut_as_text(tmp_path: Path, text: str) -> None:
    passages = read([written(tmp_path / "a.py", text)], 500).passages
    assert all(len(passage.content or "") <= 500 for passage in passages)
    joined = "".join(passage.content or "" for passage in passages)
    assert "".join(joined.split()) == "".join(text.split())


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=200) | st.text(st.sampled_from("(){}[]:;\n\t \"'#=éab"), max_size=200),
    st.sampled_from(sorted(set(LANGUAGES.values()))),
    st.integers(4, 60),
)
def test_any_text_is_cut_without_loss(text: str, language: str, most: int) -> None:
    pieces = cut_code(text, language, most)
    assert pieces is not None
    assert all(len(piece.text) <= most for piece in pieces)
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join(text.split())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_skipped_with_a_reason(tmp_path: Path, data: bytes) -> None:
    reading = read([written(tmp_path / "a.py", data)], 50)
    assert reading.passages or reading.skipped
