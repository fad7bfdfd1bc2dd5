"""Retrieval collections in BEIR layout: a folder, a hub id, or the demo."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haystack import Document

from trlm_retrieval.errors import DataError

Qrels = dict[str, dict[str, int]]

DEMO = "demo"


@dataclass
class RetrievalDataset:
    """A collection: documents, judged queries, graded judgements, and what is wrong with it.

    :ivar queries: text of each judged query, by id.
    :ivar qrels: for each query id, grades of judged document ids; 0 and below is not relevant.
    :ivar warnings: oddities found while loading, counted, one sentence each.
    """

    name: str
    documents: list[Document]
    queries: dict[str, str]
    qrels: Qrels
    warnings: list[str] = field(default_factory=list)


def load_dataset(data: str, split: str = "test") -> RetrievalDataset:
    """Load a collection.

    :param data: a BEIR folder (``corpus.jsonl``, ``queries.jsonl``, ``qrels/SPLIT.tsv``), the hub
        id of one, or ``demo``.
    :raises DataError: if files are missing, a line is malformed (named with its number), ids are
        doubled, or nothing is left to evaluate.
    """
    if data == DEMO:
        return _demo()
    folder = Path(data)
    if folder.is_dir():
        corpus = _read_texts(folder / "corpus.jsonl")
        queries = _read_texts(folder / "queries.jsonl")
        rows = _read_qrels(folder / "qrels" / f"{split}.tsv")
    elif "/" in data and not data.startswith((".", "/")):
        corpus, queries, rows = _from_hub(data, split)
    else:
        raise DataError(f"--data {data}: no such folder; give a BEIR folder, a hub id, or 'demo'")
    return _assemble(folder.name if folder.is_dir() else data, corpus, queries, rows)


def _demo() -> RetrievalDataset:
    from trlm_retrieval.index_data import (
        demo_documents,
        demo_qrels,
        demo_queries,
        missing_judged_ids,
    )

    missing = missing_judged_ids()
    warnings = [f"{len(missing)} judged passages are not in this Python's reference"]
    documents = demo_documents()
    there = {document.id for document in documents}
    qrels = {
        query: {document: grade for document, grade in grades.items() if document in there}
        for query, grades in demo_qrels().items()
    }
    queries = demo_queries()
    return RetrievalDataset(
        DEMO,
        documents,
        {query: queries[query] for query in qrels},
        qrels,
        warnings if missing else [],
    )


def _assemble(
    name: str,
    corpus: Iterator[dict[str, Any]],
    queries: Iterator[dict[str, Any]],
    rows: Iterator[tuple[str, str, int]],
) -> RetrievalDataset:
    documents: dict[str, Document] = {}
    blank = 0
    for entry in corpus:
        key, text = str(entry["_id"]), entry.get("text") or ""
        title = entry.get("title") or ""
        if key in documents:
            raise DataError(f"{name}: document id {key!r} stands twice in the corpus")
        if not text.strip():
            blank += 1
            text, title = title, ""  # the title is all there is
        documents[key] = Document(id=key, content=text, meta={"title": title} if title else {})
    texts: dict[str, str] = {}
    for entry in queries:
        if str(entry["_id"]) in texts:
            raise DataError(f"{name}: query id {entry['_id']!r} stands twice")
        texts[str(entry["_id"])] = entry["text"]
    qrels: Qrels = {}
    for query, document, grade in rows:
        if document in qrels.setdefault(query, {}):
            raise DataError(f"{name}: query {query!r} judges document {document!r} twice")
        qrels[query][document] = grade
    return _checked(name, documents, texts, qrels, blank)


def _checked(
    name: str, documents: dict[str, Document], texts: dict[str, str], qrels: Qrels, blank: int
) -> RetrievalDataset:
    """Leave out what cannot be evaluated, and say how much."""
    warnings = []
    empty = [key for key, document in documents.items() if not (document.content or "").strip()]
    for key in empty:
        del documents[key]
    if blank:
        warnings.append(
            f"{blank} documents have no text; {blank - len(empty)} of them are searched by their "
            f"title, {len(empty)} have none and are left out"
        )
    if not documents:
        raise DataError(f"{name}: the corpus holds no document with text")
    unknown = {d for grades in qrels.values() for d in grades if d not in documents}
    if unknown:
        warnings.append(f"{len(unknown)} judged documents are not in the corpus")
    nameless = [query for query in qrels if query not in texts]
    if nameless:
        raise DataError(
            f"{name}: the judgements name query {nameless[0]!r}, which queries.jsonl does not hold "
            f"({len(nameless)} such)"
        )
    useless = [query for query, grades in qrels.items() if max(grades.values(), default=0) <= 0]
    if useless:
        warnings.append(f"{len(useless)} queries have no relevant document and are left out")
        qrels = {query: grades for query, grades in qrels.items() if query not in set(useless)}
    if not qrels:
        raise DataError(f"{name}: no query has a relevant document")
    if len(texts) > len(qrels) + len(useless):
        warnings.append(
            f"{len(texts) - len(qrels) - len(useless)} queries have no judgement in this split"
        )
    queries = {query: texts[query] for query in qrels}
    return RetrievalDataset(name, list(documents.values()), queries, qrels, warnings)


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a JSON lines file; blank lines are passed over.

    :raises DataError: if the file is missing, or a line is no JSON object.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not valid JSON ({error})") from error
            if not isinstance(entry, dict):
                raise DataError(f"{path}, line {number}: needs a JSON object")
            yield number, entry


def _read_texts(path: Path) -> Iterator[dict[str, Any]]:
    for number, entry in read_json_lines(path):
        if "_id" not in entry or not isinstance(entry.get("text"), str):
            raise DataError(f"{path}, line {number}: needs the keys _id and text, text a string")
        yield entry


def _read_qrels(path: Path) -> Iterator[tuple[str, str, int]]:
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.tsv"))
        raise DataError(
            f"{path} does not exist; "
            + (f"--split can be {', '.join(there)}" if there else "a BEIR folder holds it")
        )
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(
            csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), start=1
        ):
            if number == 1 and row[:1] == ["query-id"]:
                continue
            try:
                query, document, grade = row
                yield query, document, int(grade)
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number}: needs query-id, corpus-id and a whole score, "
                    "separated by tabs"
                ) from error


def _from_hub(
    name: str, split: str
) -> tuple[Iterator[dict[str, Any]], Iterator[dict[str, Any]], Iterator[tuple[str, str, int]]]:
    from datasets import load_dataset as load
    from datasets.exceptions import DatasetNotFoundError

    try:
        corpus = load(name, "corpus", split="corpus")
        queries = load(name, "queries", split="queries")
        judged = load(f"{name}-qrels", split=split)
    except (OSError, ValueError, DatasetNotFoundError) as error:
        raise DataError(
            f"--data {name}: neither a folder nor a collection that the hub gives ({error})"
        ) from error
    rows = ((str(r["query-id"]), str(r["corpus-id"]), int(r["score"])) for r in judged)
    return iter(corpus), iter(queries), rows
