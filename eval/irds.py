"""Collections of the package ir_datasets, as ``irds:NAME``.

It reads what is on the disk and downloads what is not, if it may: both only for the collection that
is named.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from trlm_retrieval.errors import DataError

from .judgements import Judgement, whole_grade

PREFIX = "irds:"

_PARTS = {"docs": "documents", "queries": "queries", "qrels": "judgements"}


def open_collection(data: str) -> Any:
    """A collection of ir_datasets; nothing of it is read yet.

    :param data: its name there behind ``irds:``, as in ``irds:beir/scifact/test``.
    :raises DataError: if the name is unknown, or documents, queries or judgements are missing.
    """
    import ir_datasets

    try:
        found = ir_datasets.load(data.removeprefix(PREFIX))
    except KeyError as error:
        raise DataError(
            f"--data {data}: ir_datasets has no collection of that name; `ir_datasets list` prints "
            "those that it has"
        ) from error
    missing = [told for part, told in _PARTS.items() if not found.has(part)]
    if missing:
        raise DataError(
            f"--data {data}: the collection has no {' and no '.join(missing)}; often an id below "
            "it has them, as irds:beir/scifact/test has the judgements that irds:beir/scifact lacks"
        )
    return found


def rows(data: str, read: Callable[[], Iterable[Any]], what: str) -> Iterator[dict[str, Any]]:
    """Documents or queries as BEIR has them: ``_id``, ``title`` and ``text``.

    :param read: gives them as ir_datasets has them.
    :raises DataError: if they cannot be read, or hold no plain text.
    """
    for one in _reading(data, read):
        if hasattr(one, "text"):
            yield {"_id": one[0], "title": getattr(one, "title", ""), "text": one.text}
        elif hasattr(one, "default_text"):
            yield {"_id": one[0], "text": one.default_text()}
        else:
            raise DataError(f"--data {data}: its {what} hold no plain text, only {one._fields}")


def judgements(data: str, read: Callable[[], Iterable[Any]]) -> Iterator[Judgement]:
    """Its judgements, numbered.

    :param read: gives them as ir_datasets has them.
    :raises DataError: if they cannot be read, or a grade is not a whole number.
    """
    for number, row in enumerate(_reading(data, read), start=1):
        try:
            grade = whole_grade(row.relevance)
        except ValueError as error:
            raise DataError(f"{data}, judgement {number}: {error}") from error
        yield Judgement(number, str(row.query_id), str(row.doc_id), grade)


def _reading(data: str, read: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """What is read; ir_datasets downloads it here if it is not on the disk."""
    try:
        yield from read()
    except (EOFError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"--data {data}: ir_datasets cannot give it ({type(error).__name__}: {error}); if it "
            "is not on this disk and cannot be downloaded here, run the command once where it can, "
            "and copy ~/.ir_datasets from there, or let IR_DATASETS_HOME name a folder that has it"
        ) from error
