"""The demo corpus: the Python language reference that ships with CPython, with questions for it.

The text is read from the running interpreter (``pydoc_data.topics``); only questions and relevance
judgements are kept here. See the README beside this file for how they were made.
"""

import csv
import json
from pathlib import Path

from haystack import Document

from .topics import cut_topics

QUERIES = Path(__file__).with_name("queries.jsonl")
QRELS = Path(__file__).parent / "qrels" / "test.tsv"
JUDGED_VERSION = (3, 11)


def demo_documents() -> list[Document]:
    """The passages, with ``title`` (the headings above it) and ``topic`` as meta."""
    from pydoc_data.topics import topics

    return [
        Document(
            id=passage.id,
            content=passage.text,
            meta={"title": " › ".join(passage.headings), "topic": passage.topic},
        )
        for passage in cut_topics(topics)
    ]


def demo_queries() -> dict[str, str]:
    """Question ids with their texts."""
    with QUERIES.open(encoding="utf-8") as lines:
        return {entry["_id"]: entry["text"] for entry in map(json.loads, lines)}


def demo_qrels(file: Path = QRELS) -> dict[str, dict[str, int]]:
    """For each question id, the judged passage ids with their grades, 0 to 3."""
    qrels: dict[str, dict[str, int]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return qrels


def missing_judged_ids() -> list[str]:
    """Judged passages that this interpreter's reference does not hold, in alphabetical order.

    None on CPython 3.11, on which the judgements were made; other versions word some sections
    differently, and a passage may be cut elsewhere.
    """
    there = {document.id for document in demo_documents()}
    judged = {passage for grades in demo_qrels().values() for passage in grades}
    return sorted(judged - there)
