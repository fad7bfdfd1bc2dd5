"""Retrieval collections: a BEIR folder, a hub id, one of ir_datasets, or the demo."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from haystack import Document

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import COMPRESSED, read_json_lines
from trlm_retrieval.passage_index.documents import passage_text

from . import irds
from .judgements import (
    ENDINGS,
    Contradictions,
    Judgement,
    Qrels,
    gather,
    read_judgements,
    whole_grade,
)

DEMO = "demo"

_LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"


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


class _Table(NamedTuple):
    """Numbered rows of a file or of a table of the hub, and how to name one of them."""

    source: str
    unit: str
    rows: Iterable[tuple[int, dict[str, Any]]]

    def where(self, number: int) -> str:
        return f"{self.source}, {self.unit} {number}"


class _Judged(NamedTuple):
    """Judgements of a file or of a table of the hub, and how to name one of them."""

    source: str
    unit: str
    rows: Iterable[Judgement]


def load_dataset(
    data: str, split: str = "test", *, judgements: Contradictions = "strict"
) -> RetrievalDataset:
    """Load a collection.

    :param data: a BEIR folder (``corpus.jsonl``, ``queries.jsonl``, ``qrels/SPLIT.tsv``, each of
        them compressed or not), the hub id of one, ``irds:NAME`` for one of ir_datasets, or
        ``demo``.
    :param split: which judgements; the demo has only one, and names of ir_datasets say which.
    :param judgements: what is done about a document with two grades for one query: ``strict``
        raises, ``highest`` takes the higher grade.
    :raises DataError: if files are missing, a line is malformed or stands twice (named with its
        number), or nothing is left to evaluate.
    """
    if data == DEMO:
        return _demo()
    if data.startswith(irds.PREFIX):
        return _assemble(data, *_from_irds(data), judgements)
    folder = Path(data)
    if folder.is_dir():
        return _assemble(folder.resolve().name, *_from_folder(folder, split), judgements)
    # Beside a folder that is there it is a mistyped path, which no hub needs to be asked about.
    if data.count("/") == 1 and not data.startswith((".", "/")) and not folder.parent.is_dir():
        return _assemble(data, *_from_hub(data, split), judgements)
    raise DataError(
        f"--data {data}: no such folder; give a BEIR folder, a hub id, irds:NAME or 'demo'"
    )


def _demo() -> RetrievalDataset:
    from trlm_retrieval.index_data import (
        demo_documents,
        demo_qrels,
        demo_queries,
        missing_judged_ids,
    )

    documents = {document.id: document for document in demo_documents()}
    qrels = {
        query: {document: grade for document, grade in grades.items() if document in documents}
        for query, grades in demo_qrels().items()
    }
    missing = missing_judged_ids()
    warnings = [f"{len(missing)} judged passages are not in this Python's reference"]
    return _checked(DEMO, documents, demo_queries(), qrels, warnings if missing else [])


def _from_folder(folder: Path, split: str) -> tuple[_Table, _Table, _Judged]:
    texts = [_one_of(folder, [name]) for name in ("corpus.jsonl", "queries.jsonl")]
    for path in texts:
        if not path.is_file():
            raise DataError(f"{path} does not exist; {_LAYOUT}")
    qrels = _one_of(folder / "qrels", [f"{split}{ending}" for ending in ENDINGS])
    if not qrels.is_file():
        there = sorted(
            file.name.partition(".")[0]
            for file in qrels.parent.glob("*")
            if file.name.removesuffix(file.suffix if file.suffix in COMPRESSED else "").endswith(
                ENDINGS
            )
        )
        raise DataError(
            f"{qrels} does not exist; "
            + (f"--split can be {', '.join(there)}" if there else _LAYOUT)
        )
    corpus, queries = (_Table(str(path), "line", read_json_lines(path)) for path in texts)
    return corpus, queries, _Judged(str(qrels), "line", read_judgements(qrels))


def _one_of(folder: Path, names: list[str]) -> Path:
    """The first file that is there, compressed or not; else the first name."""
    paths = [folder / f"{name}{ending}" for name in names for ending in ("", *COMPRESSED)]
    return next((path for path in paths if path.is_file()), paths[0])


def _from_hub(name: str, split: str) -> tuple[_Table, _Table, _Judged]:
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
    return (
        _Table(f"{name}, corpus", "row", enumerate(corpus, start=1)),
        _Table(f"{name}, queries", "row", enumerate(queries, start=1)),
        _Judged(f"{name}-qrels, {split}", "row", _hub_judgements(f"{name}-qrels, {split}", judged)),
    )


def _from_irds(data: str) -> tuple[_Table, _Table, _Judged]:
    found = irds.open_collection(data)
    documents = irds.rows(data, found.docs_iter, "documents")
    queries = irds.rows(data, found.queries_iter, "queries")
    return (
        _Table(f"{data}, documents", "row", enumerate(documents, start=1)),
        _Table(f"{data}, queries", "row", enumerate(queries, start=1)),
        _Judged(f"{data}, judgements", "row", irds.judgements(data, found.qrels_iter)),
    )


def _hub_judgements(source: str, rows: Iterable[dict[str, Any]]) -> Iterator[Judgement]:
    for number, row in enumerate(rows, start=1):
        try:
            grade = whole_grade(row["score"])
            yield Judgement(number, str(row["query-id"]), str(row["corpus-id"]), grade)
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{source}, row {number}: needs query-id, corpus-id and a whole score ({error})"
            ) from error


def _assemble(
    name: str, corpus: _Table, queries: _Table, judged: _Judged, contradictions: Contradictions
) -> RetrievalDataset:
    documents: dict[str, Document] = {}
    titled = empty = 0
    for key, text, title in _texts(corpus, "document"):
        if text.strip():
            documents[key] = Document(id=key, content=text, meta={"title": title} if title else {})
        elif title.strip():
            documents[key] = Document(id=key, content=title)  # the title is all there is
            titled += 1
        else:
            empty += 1
    warnings = []
    if titled or empty:
        warnings.append(
            f"{titled + empty} documents have no text; {titled} of them are searched by their "
            f"title, {empty} have none and are left out"
        )
    texts = {key: text for key, text, _ in _texts(queries, "query")}
    qrels, oddities = gather(judged.rows, judged.source, judged.unit, texts, contradictions)
    return _checked(name, documents, texts, qrels, warnings + oddities)


def _texts(table: _Table, what: str) -> Iterator[tuple[str, str, str]]:
    """Id, text and title of each row.

    :raises DataError: if a row lacks one, or its id stood before.
    """
    first: dict[str, int] = {}
    for number, row in table.rows:
        where = table.where(number)
        key, title = row.get("_id"), row.get("title") or ""
        text = "" if "text" in row and row["text"] is None else row.get("text")
        if not isinstance(key, str | int) or key == "" or not isinstance(text, str):
            raise DataError(f"{where}: needs the keys _id and text, text a string or null")
        if not isinstance(title, str):
            raise DataError(f"{where}: title must be a string, found {type(title).__name__}")
        key = str(key)
        if key in first:
            raise DataError(
                f"{where}: {what} id {key!r} stood already in {table.unit} {first[key]}"
            )
        first[key] = number
        yield key, text, title


def _checked(
    name: str,
    documents: dict[str, Document],
    texts: dict[str, str],
    qrels: Qrels,
    warnings: list[str],
) -> RetrievalDataset:
    """Leave out what cannot be evaluated, and say how much.

    :raises DataError: if nothing is left.
    """
    if not documents:
        raise DataError(f"{name}: the corpus holds no document with text")
    if not qrels:
        raise DataError(f"{name}: no judgement is for one of the queries")
    warnings = list(warnings)
    bare = sum(query not in qrels for query in texts)
    if bare:
        warnings.append(f"{bare} queries have no judgement in this split and are left out")
    blank = {query for query in qrels if not texts[query].strip()}
    if blank:
        warnings.append(f"{len(blank)} judged queries have no text and are left out")
    relevant = {
        query: {document for document, grade in grades.items() if grade > 0}
        for query, grades in qrels.items()
        if query not in blank
    }
    useless = sum(not found for found in relevant.values())
    if useless:
        warnings.append(f"{useless} queries have no relevant document and are left out")
    kept = {query: qrels[query] for query, found in relevant.items() if found}
    if not kept:
        raise DataError(f"{name}: no query with text has a relevant document")
    unknown = {d for grades in kept.values() for d in grades if d not in documents}
    if unknown:
        warnings.append(f"{len(unknown)} judged documents are not in the corpus")
    lost = sum(relevant[query].isdisjoint(documents) for query in kept)
    if lost:
        warnings.append(f"{lost} queries have no relevant document in the corpus and count 0")
    queries = {query: texts[query] for query in kept}
    return RetrievalDataset(name, list(documents.values()), queries, kept, warnings)


def own_documents(dataset: RetrievalDataset) -> frozenset[str]:
    """Ids of queries that stand in the corpus as a document with the same id and text.

    Such a document (ArguAna has them) is the query itself and no result. Equal ids alone mean
    nothing: many collections number queries and documents alike.
    """
    return frozenset(
        document.id
        for document in dataset.documents
        if document.id in dataset.queries
        and _bare(dataset.queries[document.id])
        in {_bare(document.content or ""), _bare(passage_text(document))}
    )


def _bare(text: str) -> str:
    return " ".join(text.split())
