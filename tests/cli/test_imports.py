"""What a command imports: no package that it does not use, and nothing heavy before it must."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import embedder_folder

import trlm_retrieval
from trlm_retrieval import components, lm, passage_index
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.passage_index import PassageIndex

from .conftest import DOCUMENTS

# Packages, and parts of ours, that take a noticeable time to import.
HEAVY = {
    "datasets",
    "faiss",
    "fastapi",
    "haystack",
    "haystack_integrations",
    "ir_measures",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "sentence_transformers",
    "sklearn",
    "torch",
    "transformers",
    "trlm_retrieval.components.answer_ranker",
    "trlm_retrieval.components.chat_generator",
    "trlm_retrieval.components.citation_attributor",
    "trlm_retrieval.components.question_filter",
    "trlm_retrieval.eval",
    "trlm_retrieval.serving",
    "trlm_retrieval.training",
}
RANKING = {"faiss", "haystack", "numpy", "torch", "transformers"}


def heavy_imports(*arguments: object) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and what of HEAVY it imported."""
    program = (
        "import sys\n"
        "from trlm_retrieval.cli import run\n"
        "code = run(sys.argv[2:])\n"
        "found = set(sys.argv[1].split(',')) & set(sys.modules)\n"
        "print(','.join(sorted(found)), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(HEAVY), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    return done.returncode, set(last.split(",")) - {""}


@pytest.fixture
def index_of_vectors(tmp_path: Path) -> Path:
    """An index whose embedder is a folder."""
    embedder = embedder_folder(tmp_path / "embedder", "mean")
    PassageIndex.build(tmp_path / "index", DOCUMENTS, embedder=SentenceEmbedder(str(embedder)))
    return tmp_path / "index"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["search", "--help"], ["eval", "retrieval", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert heavy_imports(*arguments) == (0, set())


def test_search_imports_what_ranks(index_of_vectors: Path, tiny_lm_folder: Path) -> None:
    code, imported = heavy_imports(
        "search", "generator", "--index", index_of_vectors, "--model", tiny_lm_folder
    )
    assert code == 0
    assert imported == RANKING


def test_explain_imports_what_search_does(index_of_vectors: Path, tiny_lm_folder: Path) -> None:
    code, imported = heavy_imports(
        "explain", "generator", "--index", index_of_vectors, "--model", tiny_lm_folder
    )
    assert code == 0
    assert imported == RANKING


def test_public_names_are_listed_and_found() -> None:
    for package in (trlm_retrieval, components, lm, passage_index):
        names = package.__all__  # type: ignore[attr-defined]
        assert set(names) <= set(dir(package))
        for name in names:
            assert getattr(package, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    package: Any = trlm_retrieval
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018
