"""Runs notebooks and writes what they print into them: `make notebooks`.

``python tests/notebooks/execute.py NOTEBOOK…``
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

# No progress bars, no wide tables, no warning that names a path of this machine.
QUIET = {
    "COLUMNS": "72",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "PYTHONWARNINGS": "ignore:IProgress not found",
    "TQDM_DISABLE": "1",
}


def executed(path: Path) -> NotebookNode:
    """The notebook with new outputs.

    :raises CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # finds `trlm`
    client = NotebookClient(notebook, timeout=1800, record_timing=False, coalesce_streams=True)
    return client.execute(env={**os.environ, **QUIET, "PATH": commands})


if __name__ == "__main__":
    for name in sys.argv[1:]:
        nbformat.write(executed(Path(name)), name)
