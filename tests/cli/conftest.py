"""Commands run in this process, over a tiny index, a tiny model and an embedder of no weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from haystack import Document

from trlm_retrieval.cli import _checks
from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index import index as index_module

DOCUMENTS = [
    Document(
        id="with",
        content="The with statement wraps a block with methods defined by a context manager.",
        meta={"title": "The with statement"},
    ),
    Document(id="gen", content="A generator yields values one at a time.", meta={"page": 4}),
    Document(id="dict", content="A dictionary keeps its keys in insertion order."),
    Document(id="hostile", content="A block \x1b[31m of <b>red</b> text."),
]


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word_embedder: Any) -> None:
    monkeypatch.setattr(index_module, "shared_embedder", lambda name: word_embedder)
    monkeypatch.setattr(_checks, "embedder_source", lambda name: name)
    monkeypatch.delenv("TRLM_INDEX", raising=False)
    monkeypatch.delenv("TRLM_DEBUG", raising=False)
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: ``run("search", "a question", "--json")``."""

    def run_command(*arguments: object) -> Outcome:
        code = run_cli([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run_command


@pytest.fixture
def folder(tmp_path: Path, word_embedder: Any) -> Path:
    """The folder of an index of four documents."""
    PassageIndex.build(tmp_path / "index", DOCUMENTS, embedder=word_embedder)
    return tmp_path / "index"
