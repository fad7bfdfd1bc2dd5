"""Files are written whole or not at all; bad JSON lines are named."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import RetrievalDataset
from trlm_retrieval.eval.measures import Estimate
from trlm_retrieval.eval.result import Result
from trlm_retrieval.eval.retrieval.evaluation import RetrievalEvaluation
from trlm_retrieval.eval.retrieval.report import write_retrieval_report
from trlm_retrieval.eval.runs import write_run
from trlm_retrieval.files import (
    ending,
    json_text,
    new_file,
    new_folder,
    only_writer,
    read_bytes,
    read_json_lines,
    recover_folder,
    sha256,
    write_json,
    write_text,
    zstd,
)


def test_a_failed_write_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    with pytest.raises(OSError, match="directory") as raised:
        write_text(tmp_path / "page", "text")
    assert raised.value.filename == str(tmp_path / "page")
    assert list(tmp_path.iterdir()) == [tmp_path / "page"]


@pytest.mark.parametrize("what", ["json", "run", "report"])
def test_a_write_that_breaks_off_leaves_the_earlier_file(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new text reaches the disk under another name, and only a rename puts it in place."""
    file = tmp_path / "file"
    file.write_text("earlier")
    seen = []

    def killed(source: str | Path, target: str | Path) -> None:
        seen.append((Path(source).parent, Path(target), file.read_text()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", killed)
    measures = {"nDCG@10": Estimate(0.5, 0.4, 0.6)}
    settings = {"documents": 1, "top_k": 1, "first_stage": "none", "pairs_scored": {}}
    result = Result(
        "d", 1, "queries", "m", "nDCG@10", {"bm25": measures}, {}, {}, {"bm25": {}}, settings
    )
    with pytest.raises(OSError, match="No space left") as raised:
        if what == "json":
            result.write_json(file)
        elif what == "run":
            write_run(file, {"q": {"d": 1.0}}, "tag")
        else:
            dataset = RetrievalDataset("d", [], {}, {})
            write_retrieval_report(file, RetrievalEvaluation(result, {}, dataset))
    assert raised.value.filename == str(file)
    assert seen == [(tmp_path, file, "earlier")]
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == "earlier"


def test_links_are_followed_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 99) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_unpaired_surrogates_are_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "sub" / "file", "a\ud800b")
    assert (tmp_path / "sub" / "file").read_text(encoding="utf-8") == "a\ufffdb"


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n \n{"b": "\xc3\xa9\xe2\x80\xa8"}')
    assert list(read_json_lines(file)) == [(1, {"a": 1}), (3, {"b": "é\u2028"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": }', r"not valid JSON \(Expecting value, character 7\)"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_bad_json_lines_are_named(line: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"{}\n" + line + b"\n")
    with pytest.raises(DataError, match=message) as raised:
        list(read_json_lines(file))
    assert str(raised.value).startswith(f"{file}, line 2: ")


def test_a_missing_json_lines_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(read_json_lines(tmp_path / "none.jsonl"))


COMPRESS = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    **({".zst": zstd.compress} if zstd else {}),
    ".GZ": gzip.compress,
}
LINES = b'{"a": 1}\n{"a": "\xc3\xa9"}\n'


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read_by_their_ending(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows.jsonl{suffix}"
    file.write_bytes(COMPRESS[suffix](LINES))
    assert list(read_json_lines(file)) == [(1, {"a": 1}), (2, {"a": "é"})]
    assert read_bytes(file) == LINES
    assert ending(file) == ".jsonl"


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_compressed_file_is_named(suffix: str, damage: str, tmp_path: Path) -> None:
    file = tmp_path / f"rows.jsonl{suffix}"
    whole = COMPRESS[suffix](LINES * 1000)
    file.write_bytes(whole[:-9] if damage == "cut" else b"plain text, whatever it is called")
    with pytest.raises(DataError, match="cut short or damaged") as raised:
        list(read_json_lines(file))
    assert str(file) in str(raised.value)


def test_endings() -> None:
    found = [ending(Path(name)) for name in ("a.TXT", "a.txt.Gz", "a.gz", "a", "a.tar.xz", ".gz")]
    assert found == [".txt", ".txt", "", "", ".tar", ""]


def test_json_holds_no_nan(tmp_path: Path) -> None:
    value = {"a": [float("nan"), 1.5, (float("-inf"),)], "b": np.float32("inf"), "c": np.int64(3)}
    value |= {"d": np.array([1.0, np.nan]), "e": Path("x"), "f": "a\ud800", "g": True}
    write_json(tmp_path / "v.json", value)
    expected = {"a": [None, 1.5, [None]], "b": None, "c": 3, "d": [1.0, None]}
    expected |= {"e": "x", "f": "a\ufffd", "g": True}
    strict = {"parse_constant": lambda name: pytest.fail(name)}
    assert json.loads((tmp_path / "v.json").read_text("utf-8"), **strict) == expected
    assert json_text({"a": np.float64(0.5), "b": "é"}) == '{"a": 0.5, "b": "é"}'


def test_a_new_file_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("earlier")
    with pytest.raises(ZeroDivisionError), new_file(file) as scratch:
        scratch.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "earlier" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileNotFoundError, match="elsewhere"), new_file(file):
        Path("/nowhere/elsewhere").read_text()


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with new_folder(folder) as scratch:
        (scratch / "a").write_text("1")
        assert not folder.exists()
    with pytest.raises(ZeroDivisionError), new_folder(folder) as scratch:
        (scratch / "b").write_text("2")
        raise ZeroDivisionError
    assert [path.name for path in folder.iterdir()] == ["a"]
    with new_folder(folder) as scratch:
        (scratch / "b").write_text("2")
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert list(folder.parent.iterdir()) == [folder]
    (folder.parent / ".folder-0.tmp").mkdir()
    (folder.parent / ".folders-0.tmp").mkdir()
    recover_folder(folder)
    assert {path.name for path in folder.parent.iterdir()} == {"folder", ".folders-0.tmp"}


@pytest.mark.parametrize("renames", [1, 2])
def test_a_folder_outlives_a_writer_killed_at_its_swap(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs after a kill, so what the writer would still do is made to do nothing."""
    folder, replace, done = tmp_path / "folder", os.replace, []
    with new_folder(folder) as scratch:
        (scratch / "old").touch()

    def killed_after_some(source: Path, target: Path) -> None:
        if len(done) < renames:
            done.append(target)
            replace(source, target)

    with monkeypatch.context() as killed:
        killed.setattr("trlm_retrieval.files.os.replace", killed_after_some)
        killed.setattr("trlm_retrieval.files.shutil.rmtree", lambda path, **options: None)
        with new_folder(folder) as scratch:
            (scratch / "new").touch()
    assert folder.exists() == (renames == 2)
    recover_folder(folder)
    assert [path.name for path in folder.iterdir()] == [["old"], ["new"]][renames - 1]
    assert list(tmp_path.iterdir()) == [folder]
    with new_folder(folder) as scratch:
        (scratch / "newest").touch()
    assert [path.name for path in folder.iterdir()] == ["newest"]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        only_writer(lock, DataError("busy")),
        pytest.raises(DataError, match="busy"),
        only_writer(lock, DataError("busy")),
    ):
        pass
    with only_writer(lock, DataError("busy")):
        pass


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "abc") == expected
