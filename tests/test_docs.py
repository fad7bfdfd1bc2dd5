"""The Python in docs/ runs, with a tiny model in place of others; the reference is whole."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from trlm_retrieval.models.calibration import Calibration

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    )
]


PUBLIC = ("", ".components", ".integrations", ".lm", ".offline", ".passage_index")


@pytest.fixture
def calibrated_folder(make_tiny_lm, tmp_path):
    lm = make_tiny_lm("both")
    lm.calibration = Calibration(str(lm.template()), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    lm.save(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("block", BLOCKS)
def test_the_script_runs(block, calibrated_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trlm_retrieval.models.source.resolve", lambda name, hub: calibrated_folder)
    exec(compile(block, "docs", "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("package", PUBLIC)
def test_the_reference_has_every_public_name(package):
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    there = {place.rpartition(".")[2] for place in re.findall(r"^::: (\S+)$", page, re.M)}
    missing = set(import_module(f"trlm_retrieval{package}").__all__) - there
    assert not missing


def test_every_page_stands_in_the_menu():
    menu = (DOCS.parent / ".mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS) for page in DOCS.rglob("*") if page.suffix in (".md", ".ipynb")]
    assert not [page for page in pages if f": {page.as_posix()}\n" not in menu]


def test_the_libraries_are_named_in_the_versions_that_the_tests_run_with():
    pinned = (DOCS.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    page = (DOCS / "integrations.md").read_text(encoding="utf-8")
    named = re.findall(r"\| `([\w-]+)` ([\d.]+) \|", page)
    assert len(named) == 4
    assert not [(name, version) for name, version in named if f"{name}=={version}" not in pinned]
