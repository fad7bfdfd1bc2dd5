"""Files of pairs, and what a naive loop makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

QUERIES = [f"what does passage {i % 5} tell about keys" for i in range(40)]
PASSAGES = [f"Passage {i} tells of {'generators and ' * (i % 7)}keys." for i in range(40)]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder of two Parquet files, 25 and 15 pairs, one with several row groups."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    table = pa.table({"pair": [f"p{i}" for i in range(40)], "query": QUERIES, "passage": PASSAGES})
    pq.write_table(table.slice(0, 25), folder / "a.parquet", row_group_size=4)
    pq.write_table(table.slice(25), folder / "b.parquet")
    return folder


@pytest.fixture
def read_parts() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the rows of all parts of an output folder, in order."""

    def read(folder: Path) -> list[dict[str, Any]]:
        parts = sorted(folder.glob("part-*.parquet"))
        return [row for part in parts for row in pq.read_table(part).to_pylist()]

    return read
