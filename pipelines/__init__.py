"""Haystack pipelines that run as they are, as YAML beside this file.

::

    from trlm_retrieval.pipelines import load

    pipeline = load("retrieval")
    pipeline.run({"bm25": {"query": q}, "dense": {"query": q}, "ranker": {"query": q}})
"""

from pathlib import Path

from haystack import Pipeline

import trlm_retrieval.components  # noqa: F401 (lets Haystack create them from YAML)

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The pipelines there are."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def path(name: str) -> Path:
    """The YAML file of a pipeline.

    :raises ValueError: for an unknown name.
    """
    if name not in names():
        raise ValueError(f"unknown pipeline {name!r}; there are {', '.join(names())}")
    return _FOLDER / f"{name}.yaml"


def load(name: str) -> Pipeline:
    """The pipeline of that name.

    :raises ValueError: for an unknown name.
    """
    return Pipeline.loads(path(name).read_text(encoding="utf-8"))
