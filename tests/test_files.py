"""Files are written whole or not at all; bad JSON lines are named."""

import os
from pathlib import Path

import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import RetrievalDataset
from trlm_retrieval.eval.measures import Estimate
from trlm_retrieval.eval.result import Result
from trlm_retrieval.eval.retrieval.evaluation import RetrievalEvaluation
from trlm_retrieval.eval.retrieval.report import write_retrieval_report
from trlm_retrieval.eval.runs import write_run
from trlm_retrieval.files import read_json_lines, write_text


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
            write_retrieval_report(file, RetrievalEvaluation(result, {}, dataset), None)
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
