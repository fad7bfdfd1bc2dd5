"""The Python in docs/ runs, with a tiny model in place of the pulled one."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_script_runs(block, tiny_lm_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trlm_retrieval.models.source.resolve", lambda name: tiny_lm_folder)
    exec(compile(block, "docs", "exec"), {})
    assert capsys.readouterr().out.strip()
