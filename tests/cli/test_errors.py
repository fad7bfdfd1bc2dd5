"""Bad input of every kind: one line that names the remedy, exit code 2, and no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import trlm_retrieval
from trlm_retrieval import cli
from trlm_retrieval.cli._terminal import print_json
from trlm_retrieval.passage_index import PassageIndex

Run = Callable[..., Any]


def fails(outcome: Any, *told: str) -> None:
    """The command failed over its input, saying so in one line and printing no result."""
    assert outcome.code == 2
    assert outcome.out == ""
    *_, line = outcome.err.splitlines()
    assert line.startswith("error: ")
    assert all(text in line for text in told), line
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("command", ["search", "explain"])
@pytest.mark.parametrize("question", ["", " \n\t"])
def test_an_empty_question(run: Run, folder: Path, command: str, question: str) -> None:
    outcome = run(command, question, "--index", folder)
    fails(outcome, "the question is empty", f"trlm {command} --help")


@pytest.mark.parametrize("command", ["search", "explain"])
def test_a_missing_index(run: Run, tmp_path: Path, command: str) -> None:
    fails(run(command, "a question", "--index", tmp_path / "none"), "none", "trlm index")


@pytest.mark.parametrize("command", ["search", "explain"])
def test_a_corrupt_index(run: Run, folder: Path, command: str) -> None:
    largest = max(folder.rglob("data-*/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    fails(run(command, "a question", "--index", folder), str(folder), "trlm index")


def test_an_unknown_model(run: Run, folder: Path) -> None:
    fails(run("search", "generator", "--index", folder, "--model", "no-such"), "no-such")


def test_a_model_that_is_not_pulled(run: Run, folder: Path) -> None:
    told = "trlm models pull smollm2-135m"
    fails(run("search", "generator", "--index", folder), "smollm2-135m", told)


def test_a_folder_that_is_no_model(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fails(run("search", "generator", "--index", folder, "--model", tmp_path / "empty"), "empty")


def test_nothing_to_index(run: Run, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/picture.png").write_bytes(b"\x89PNG")
    outcome = run("index", tmp_path / "docs")
    fails(outcome, "no documents found", "docs")
    assert "picture.png: .png files are not read" in outcome.err
    assert not (tmp_path / "trlm-index").exists()


def test_a_missing_path(run: Run, tmp_path: Path) -> None:
    fails(run("index", tmp_path / "nowhere"), "no such file or folder", "nowhere")


def test_a_malformed_row_leaves_the_earlier_index(run: Run, folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "fine"}\n{"text": \n')
    fails(run("index", rows, "--index", folder), f"{rows}, line 2", "not valid JSON")
    assert len(PassageIndex.open(folder)) == 4


def test_an_id_that_comes_twice(run: Run, folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"_id": "a", "text": "one"}\n{"_id": "a", "text": "two"}\n')
    fails(run("index", rows, "--index", folder), "'a'", "twice")
    assert len(PassageIndex.open(folder)) == 4


def test_a_folder_of_other_files_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("years of work")
    fails(run("index", tmp_path / "home", "--index", tmp_path / "home"), "home")
    assert (tmp_path / "home/thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["index"], "--demo"),
        (["index", "docs", "--demo"], "--demo"),
        (["index", "docs", "--append", "--faiss", "hnsw"], "--append"),
        (["index", "docs", "--append", "--embedder", "minilm"], "--append"),
        (["index", "docs", "--split-chars", "0"], "--split-chars"),
        (["index", "docs", "--faiss", "round"], "round"),
        (["search"], "QUESTION"),
        (["search", "q", "--top-k", "0"], "--top-k"),
        (["search", "q", "--candidates", "-1"], "--candidates"),
        (["serch", "q"], "search"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], told: str) -> None:
    fails(run(*arguments), told, "--help")


def test_append_needs_an_index(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    fails(run("index", tmp_path / "a.txt", "--append", "--index", tmp_path / "none"), "none")


@pytest.mark.parametrize(("output", "told"), [("no/such/page.html", "no/such"), (".", "directory")])
def test_a_page_that_cannot_be_written(run: Run, folder: Path, output: str, told: str) -> None:
    fails(run("explain", "generator", "--index", folder, "-o", output), told, "--output")


def broken(*_: Any, **__: Any) -> None:
    raise RuntimeError("the disk\nis on fire")


def test_an_unexpected_failure(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(PassageIndex, "build", broken)
    (tmp_path / "a.txt").write_text("words")
    outcome = run("index", tmp_path / "a.txt")
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "error: unexpected RuntimeError: the disk is on fire "
        "(set TRLM_DEBUG=1 to see the traceback)"
    ]
    monkeypatch.setenv("TRLM_DEBUG", "1")
    assert "Traceback" in run("index", tmp_path / "a.txt").err


def test_an_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PassageIndex, "build", interrupted)
    (tmp_path / "a.txt").write_text("words")
    outcome = run("index", tmp_path / "a.txt")
    assert outcome.code == 130 and outcome.err.splitlines()[-1] == "interrupted"


def test_a_reader_that_goes_away_is_no_failure() -> None:
    program = "from trlm_retrieval.cli import main, _terminal, search; import sys\n"
    program += "search.check_index = lambda *_: _terminal.out.print('x\\n' * 200_000)\nmain()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "search", "q"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == ""


def trlm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from trlm_retrieval.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["eval", "retrieval", "--data", "demo"], "ir_measures", "eval"),
        (["score", "--input", "x.parquet", "--output", "y"], "pyarrow", "score"),
        (["serve"], "fastapi", "serve"),
    ],
)
def test_a_missing_extra_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], module: str, extra: str
) -> None:
    # Imported again, and put back afterwards, the package's attribute as well as the modules.
    monkeypatch.setattr(trlm_retrieval, "eval", import_module("trlm_retrieval.eval"))
    for name in [name for name in sys.modules if name.startswith("trlm_retrieval.eval")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    fails(run(*arguments), f"{module} is not installed: pip install 'trlm-retrieval[{extra}]'")


def test_bars_never_reach_a_pipe() -> None:
    program = (
        "from trlm_retrieval.cli._terminal import working\n"
        "from trlm_retrieval.progress import track\n"
        "from trlm_retrieval.training.reporting import Reporter\n"
        "with working('Loading'), Reporter('run'):\n"
        "    list(track(range(3), 'counting'))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"FORCE_COLOR": "1"},
        check=True,
    )
    assert finished.stdout == finished.stderr == ""


def test_the_package_is_a_command() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "trlm_retrieval", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert finished.stdout == f"trlm-retrieval {cli.__version__}\n"


def test_the_script_exits_as_run_says() -> None:
    finished = trlm("search", "")
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stdout == ""


def test_help_waits_for_no_library() -> None:
    program = (
        "import sys, trlm_retrieval.cli as cli\n"
        "code = cli.run(['--help'])\n"
        "heavy = {'torch', 'haystack', 'transformers', 'numpy', 'faiss'} & set(sys.modules)\n"
        "sys.exit(code or ', '.join(heavy) or 0)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    for command in ("index", "search", "explain", "demo", "models", "eval"):
        assert command in finished.stdout


@pytest.mark.parametrize("command", ["index", "search", "explain", "demo"])
def test_every_command_has_help_with_examples(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert "Examples" in outcome.out
    assert f"trlm {command} " in outcome.out


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"trlm-retrieval {cli.__version__}\n"


def test_json_is_for_results_only(run: Run, folder: Path) -> None:
    outcome = run("search", "generator", "--index", folder, "--model", "no-such", "--json")
    fails(outcome, "no-such")
    with pytest.raises(json.JSONDecodeError):
        json.loads(outcome.out)


def test_json_holds_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"score": float("nan"), "gains": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"score": None, "gains": [None, 1.5]}
