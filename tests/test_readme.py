"""The README's Python runs, with a tiny model in place of the pulled one."""

import re
from pathlib import Path

import pytest

from trlm_retrieval.index_data import demo_documents
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index import index as index_module

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


@pytest.fixture
def here(tmp_path, monkeypatch, word_embedder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.setattr(index_module, "shared_embedder", lambda name: word_embedder)
    PassageIndex.build("trlm-index", demo_documents()[:40], embedder="minilm")
    return tmp_path


def test_there_are_scripts_of_at_most_fifteen_lines():
    assert len(BLOCKS) == 6
    assert all(len(block.strip().splitlines()) <= 15 for block in BLOCKS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_script_runs(number, here, tiny_lm_folder, monkeypatch, capsys):
    monkeypatch.setattr("trlm_retrieval.models.source.resolve", lambda name, hub: tiny_lm_folder)
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), {})
    printed = capsys.readouterr().out.strip()
    assert printed and "False" not in printed.splitlines()
