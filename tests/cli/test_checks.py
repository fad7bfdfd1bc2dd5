"""Mistakes are told before torch is imported, in a process of its own as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trlm_retrieval.cli import _checks
from trlm_retrieval.passage_index import PassageIndex

from .conftest import DOCUMENTS

LATE = ("torch", "transformers", "haystack", "numpy")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with one file of each kind, good and bad."""
    PassageIndex.build(tmp_path / "words", DOCUMENTS, embedder=None)
    PassageIndex.build(tmp_path / "cut", DOCUMENTS, embedder=None)
    largest = max((tmp_path / "cut").rglob("data-*/*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text('{"format": 2, "data": "x", "files": 3}')
    (tmp_path / "cross").mkdir()
    config = {"architectures": ["BertForSequenceClassification"]}
    (tmp_path / "cross" / "config.json").write_text(json.dumps(config))
    (tmp_path / "note.txt").write_text("A note.")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("search q --index none", "there is no index at none"),
        ("search q --index cut", "bytes instead of"),
        ("search q --index damaged", "is damaged"),
        ("search q --index words --model smolm2", "did you mean 'smollm2-135m'?"),
        ("search q --index words --model minilm", "is an encoder"),
        ("search q --index words --model cross", "is a cross-encoder"),
        ("search q --index words --model note.txt", "neither a model folder nor"),
        ("search q --index words --model owner/name", "HF_HUB_OFFLINE"),
        ("search q --index words", "trlm models pull smollm2-135m"),
        ("explain q --index words --output no/page.html", "there is no folder no"),
        ("serve --index none", "there is no index at none"),
        ("cite --answer note.txt --sources none", "no such file or folder: none"),
        ("cite --answer note.txt --sources note.txt --search magic", "'magic' is not one of"),
        ("score --input none.jsonl --output out", "no such file or folder: none.jsonl"),
        ("score --input note.txt --output out --direction up", "'up' is not one of"),
        ("score --input note.txt --output out --dtype int7", "'int7' is not one of"),
        ("score --input note.txt --output out --device gpu", "'gpu' is none"),
        ("index none", "no such file or folder: none"),
        ("index note.txt --embedder bge-smal", "did you mean 'bge-small'?"),
        ("index note.txt --append --index none", "there is no index at none"),
        ("eval retrieval --data none", "--data none: no such folder"),
        ("eval citation --data none.jsonl --model trlm-small", "none.jsonl"),
        ("bench --data none", "--data none: no such folder"),
        ("train finetune trlm-smal --pairs note.txt -o out", "did you mean 'trlm-small'?"),
        ("train finetune trlm-small --pairs none.txt:40 -o out", "none.txt"),
        ("prompt tokens --model trlm-smal", "did you mean 'trlm-small'?"),
    ],
)
def test_a_mistake_is_told_before_torch_is_imported(here: Path, command: str, told: str) -> None:
    program = (
        "import sys\n"
        "from trlm_retrieval.cli import run\n"
        "code = run(sys.argv[2:])\n"
        "print(*sorted(set(sys.argv[1].split(',')) & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(LATE), *command.split()],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert told in done.stderr
    assert done.stdout == "\n", f"imported {done.stdout}"


def test_what_is_right_passes(here: Path) -> None:
    _checks.check_model("trlm-small")
    _checks.check_index(here / "words", "trlm-small")
    _checks.check_data("demo")
    _checks.check_data("BeIR/scifact")
    _checks.check_paths(["-", here / "note.txt"])
    _checks.check_extras("json")


def test_an_extra_that_is_not_installed() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _checks.check_extras("json", "no_such_module")
