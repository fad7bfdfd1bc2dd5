"""Run files in TREC format: ``query Q0 document rank score tag``, one line a retrieved document."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_lines, write_text

Run = dict[str, dict[str, float]]


def check_ids(ids: Iterable[str]) -> None:
    """Check that ids can stand in a run file, whose columns are separated by white space.

    :raises DataError: if one holds white space.
    """
    for name in ids:
        if name.split() != [name]:
            raise DataError(
                f"the id {name!r} holds white space, which separates the columns of a run file; "
                "do without --run-dir, or change the id"
            )


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Documents by falling score; of equal scores the one that was found first stands first.

    This is the order of every measure and of the run files. The order in which documents were
    found is the order of the dict: of the corpus for BM25, of the lines for a run that is read.
    """
    return sorted(scores, key=lambda document: -scores[document])


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write a run, best documents first, with scores that fall from line to line.

    Tools that read run files sort them by the score, in single precision, and each breaks ties in
    its own way: so an equal score is written as the next smaller number.

    :raises DataError: if an id holds white space.
    """
    check_ids(run)
    check_ids(document for scores in run.values() for document in scores)
    lines = []
    for query, scores in run.items():
        last = np.float32(np.inf)
        for rank, document in enumerate(ranked(scores), start=1):
            score = scores[document]
            with np.errstate(over="ignore", under="ignore"):
                single = np.float32(score)
            if not single < last:
                single = np.nextafter(last, np.float32(-np.inf))
                score = float(single)
            last = single
            lines.append(f"{query} Q0 {document} {rank} {score!r} {tag}\n")
    write_text(path, "".join(lines))


def read_run(path: Path) -> Run:
    """Read a run; a compressed file is decompressed.

    :raises DataError: if the file is missing, a line is malformed, or a document stands twice.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a run file in TREC format")
    run: Run = {}
    first: dict[tuple[str, str], int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            query, _, document, _, score, _ = line.decode("utf-8-sig").split()
            value = float(score)
            if not math.isfinite(value):
                raise ValueError(score)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: needs six columns, query Q0 document rank score tag, "
                "and a finite score"
            ) from error
        earlier = first.setdefault((query, document), number)
        if earlier != number:
            raise DataError(
                f"{path}, line {number}: query {query!r} has document {document!r} already in line "
                f"{earlier}; keep one of the two, for a document counts once"
            )
        run.setdefault(query, {})[document] = value
    if not run:
        raise DataError(f"{path} holds no line")
    return run
