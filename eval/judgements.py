"""Files of relevance judgements (qrels), as TREC and BEIR write them.

TREC writes ``query iteration document grade``, BEIR ``query document grade`` below a header. Tabs
or blanks separate the columns; a header may be there or not, and may name the columns in any order.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_lines

Qrels = dict[str, dict[str, int]]
Contradictions = Literal["strict", "highest"]

ENDINGS = (".tsv", ".txt", ".qrels", ".qrel")

_QUERY = {"query", "queryid", "qid", "q", "topic", "topicid"}
_DOCUMENT = {"corpus", "corpusid", "document", "documentid", "doc", "docid", "docno", "did"}
_GRADE = {"score", "grade", "relevance", "rel", "rating", "label", "judgment", "judgement"}


class Judgement(NamedTuple):
    """One row: the grade of a document for a query, and where the row stands."""

    number: int
    query: str
    document: str
    grade: int


def read_judgements(path: Path) -> Iterator[Judgement]:
    """Rows of a file; blank lines are passed over. Compressed files are decompressed.

    :raises DataError: if a line is malformed; named with its number.
    """
    places: tuple[int, int, int] | None = None
    width = 0
    for number, line in enumerate(read_lines(path), start=1):
        try:
            cells = _cells(line)
            if not cells:
                continue
            if places is None:
                width, header = len(cells), _header(cells)
                places = header or ((0, 1, 2) if width == 3 else (0, 2, 3))
                if header:
                    continue
            if len(cells) != width or max(places) >= width:
                raise ValueError(f"it has {len(cells)} columns")
            query, document, grade = (cells[place] for place in places)
            if not query or not document:
                raise ValueError("an id is empty")
            yield Judgement(number, query, document, whole_grade(grade))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: needs a query id, a document id and a whole grade (BEIR), "
                f"or these with TREC's second column, separated by tabs or blanks ({error})"
            ) from error


def whole_grade(value: object) -> int:
    """A grade as a whole number; ``1.0`` is 1.

    :raises ValueError: if it is none.
    """
    found = float(str(value))
    if not found.is_integer():  # neither is NaN, nor infinity
        raise ValueError(f"the grade {value} is not a whole number")
    return int(found)


def gather(
    rows: Iterable[Judgement],
    source: str,
    unit: str,
    queries: Collection[str],
    contradictions: Contradictions = "strict",
) -> tuple[Qrels, list[str]]:
    """The judgements by query, and one sentence for each kind of oddity, counted.

    Rows for a query that is not there, and repeated rows, are left out and counted.

    :param source: where the rows are from, and ``unit`` what a row is called, for messages.
    :param contradictions: what is done when a document has two grades for a query: ``strict``
        raises, ``highest`` takes the higher grade and counts the pair.
    :raises DataError: if rows contradict each other under ``strict``; names both.
    """
    if contradictions not in get_args(Contradictions):
        raise DataError(f"judgements can be strict or highest, not {contradictions!r}")
    first: dict[tuple[str, str], int] = {}
    qrels: Qrels = {}
    strays: set[str] = set()
    repeated, differing = 0, set()
    for number, query, document, grade in rows:
        if query not in queries:
            strays.add(query)
            continue
        grades = qrels.setdefault(query, {})
        known = grades.setdefault(document, grade)
        there = first.setdefault((query, document), number)
        if there == number:
            continue
        if known == grade:
            repeated += 1
        elif contradictions == "highest":
            differing.add((query, document))
            grades[document] = max(known, grade)
        else:
            raise DataError(
                f"{source}, {unit} {number}: gives document {document!r} the grade {grade} for "
                f"query {query!r}, and {unit} {there} gives it {known}; correct one of them, or "
                "pass --judgements highest to take the higher grade"
            )
    warnings = {
        f"{len(strays)} judged queries are not among the queries and are left out": strays,
        f"{repeated} judgements are repeated and count once": repeated,
        f"{len(differing)} documents have two grades for one query; the higher one counts": (
            differing
        ),
    }
    return qrels, [text for text, found in warnings.items() if found]


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig").strip("\r\n ")
    cells = text.split("\t") if "\t" in text else text.split()
    found = [cell.strip() for cell in cells]
    return found if any(found) else []


def _header(cells: list[str]) -> tuple[int, int, int] | None:
    """Where query, document and grade stand, if these are the names of columns."""
    names = ["".join(filter(str.isalnum, cell.lower())) for cell in cells]
    places = []
    for usual in (_QUERY, _DOCUMENT, _GRADE):
        found = [place for place, name in enumerate(names) if name in usual]
        if len(found) != 1:
            return None
        places += found
    query, document, grade = places
    return query, document, grade
