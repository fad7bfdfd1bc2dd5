"""The notebooks of docs/ are as they were run, and run again with the same outcome."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
SLOW = pytest.mark.slow  # needs the pulled models

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def headlines(notebook):
    """What the cells marked so print: the outcome that the text tells."""
    return [
        "".join("".join(output["text"]) for output in cell["outputs"])
        for cell in code_cells(notebook)
        if cell["metadata"].get("headline")
    ]


def test_it_was_run_from_the_top_without_an_error_and_names_no_place_of_a_machine(path):
    assert path.stat().st_size < 200_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not re.search(
        r"/(root|home|tmp|usr|opt|Users)/|site-packages|\.venv", json.dumps(outputs)
    )
    assert all(headlines(notebook)) and headlines(notebook)


@SLOW
def test_it_runs_and_comes_to_what_the_text_says(path):
    from .execute import executed

    told = headlines(json.loads(path.read_text(encoding="utf-8")))
    assert headlines(executed(path)) == told
