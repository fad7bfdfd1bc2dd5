"""Files and folders of text, Markdown, PDF, HTML and JSON lines, read as Haystack documents.

What cannot be read is never left out silently: it comes back with the reason.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from haystack import Document
from haystack.components.preprocessors import RecursiveDocumentSplitter

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.progress import track

BEIR_CORPUS = "corpus.jsonl"
_CONVERTED = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
}
DEFAULT_MAX_CHARACTERS = 800  # some 130 English words: what small sentence embedders read whole
_SEPARATORS = ["\n\n", ".\n", ". ", "\n", " "]


class Converter(Protocol):
    """A Haystack component that turns files into documents."""

    def run(self, sources: list[Any]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Skipped:
    """A file that gave no document, and why."""

    path: str
    reason: str


@dataclass
class Reading:
    """What was read.

    :ivar passages: documents to index, in the order of the paths. Ids are the rows' own, or the
        path of the file; the parts of a document that was cut have ``#1``, ``#2``, ... added.
    :ivar documents: how many documents they come from.
    :ivar cut: how many of these were cut into several passages.
    :ivar skipped: files and rows that gave no document, and why.
    """

    passages: list[Document] = field(default_factory=list)
    documents: int = 0
    cut: int = 0
    skipped: list[Skipped] = field(default_factory=list)


def read(
    paths: Sequence[str | Path],
    max_characters: int = DEFAULT_MAX_CHARACTERS,
    show_progress: bool = False,
) -> Reading:
    """Read files, and folders with all that is under them, as passages to index.

    A folder that holds ``corpus.jsonl`` is taken for a collection in BEIR layout: that file is
    read, its queries and judgements are not, and its documents stay whole, as the judgements
    refer to them. Hidden files and folders are skipped.

    A JSON lines file holds one object a line: its text under ``text`` or ``content``, its id
    (optional) under ``_id`` or ``id``; ``title``, the fields of ``meta`` or ``metadata`` and all
    other fields become meta fields. A row with a title and no text is read as its title.

    :param paths: files and folders.
    :param max_characters: longer documents are cut, see :func:`split`.
    :param show_progress: show a bar.
    :raises DataError: if a path does not exist, or a line of a JSON lines file is malformed; the
        message names the file and the line.
    :raises ValueError: if ``max_characters`` is not positive.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")
    reading = Reading()
    files = [file for path in paths for file in _files(Path(path), reading.skipped)]
    converters: dict[str, Converter] = {}
    for file in track(list(dict.fromkeys(files)), "Reading", enabled=show_progress):
        suffix = file.suffix.lower()
        kind = _CONVERTED.get(suffix)
        if suffix == ".jsonl":
            documents = _read_jsonl(file, reading.skipped)
        elif kind is not None:
            if kind not in converters:
                converters[kind] = _converter(kind)
            documents = _convert(file, kind, converters[kind], reading.skipped)
        else:
            what = f"{suffix} files" if suffix else "files without an ending"
            reading.skipped.append(Skipped(str(file), f"{what} are not read"))
            continue
        reading.documents += len(documents)
        for document in documents:
            whole = file.name == BEIR_CORPUS
            parts = [document] if whole else split([document], max_characters)
            reading.cut += len(parts) > 1
            reading.passages += parts
    return reading


def split(documents: Iterable[Document], max_characters: int) -> list[Document]:
    """Cut long documents at paragraphs, else at sentences, lines or words.

    :param documents: documents with content; the short ones are passed on as they are.
    :param max_characters: the most characters in a passage.
    :returns: passages; those of a cut document have its meta, its id with ``#1``, ``#2``, ...
        added, and the id itself as ``meta["source_id"]``.
    :raises ValueError: if ``max_characters`` is not positive.
    """
    if max_characters <= 0:
        raise ValueError(f"max_characters must be positive, not {max_characters}")
    splitter = RecursiveDocumentSplitter(
        split_length=max_characters, split_unit="char", separators=_SEPARATORS
    )
    passages = []
    for document in documents:
        if len(document.content or "") <= max_characters:
            passages.append(document)
            continue
        parts = [
            part for part in splitter.run([document])["documents"] if (part.content or "").strip()
        ]
        for number, part in enumerate(parts, start=1):
            meta = {
                **document.meta,
                "source_id": document.id,
                "page_number": part.meta["page_number"],
            }
            text = (part.content or "").strip()
            passages.append(
                replace(document, id=f"{document.id}#{number}", content=text, meta=meta)
            )
    return passages


def _files(path: Path, skipped: list[Skipped]) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif not path.is_dir():
        skipped.append(Skipped(str(path), "neither a file nor a folder"))
    elif (path / BEIR_CORPUS).is_file():
        yield path / BEIR_CORPUS
    else:
        for entry in sorted(path.iterdir()):
            if entry.name.startswith("."):
                skipped.append(Skipped(str(entry), "hidden"))
            elif entry.is_symlink() and entry.is_dir():
                skipped.append(Skipped(str(entry), "a link to a folder"))
            else:
                yield from _files(entry, skipped)


def _converter(kind: str) -> Converter:
    # Imported here: each brings a library of the extra `convert` with it.
    from haystack.components.converters import (
        HTMLToDocument,
        MarkdownToDocument,
        PyPDFToDocument,
        TextFileToDocument,
    )

    made: dict[str, Callable[[], Converter]] = {
        "text": TextFileToDocument,
        "markdown": lambda: MarkdownToDocument(progress_bar=False),
        "html": HTMLToDocument,
        "pdf": PyPDFToDocument,
    }
    try:
        return made[kind]()
    except ImportError as error:
        raise DataError(
            f"reading {kind} files needs the extra 'convert': pip install "
            f"'trlm-retrieval[convert]' ({error.__cause__ or error})"
        ) from error


def _convert(file: Path, kind: str, converter: Converter, skipped: list[Skipped]) -> list[Document]:
    with _warnings() as warnings:
        found = converter.run(sources=[file])["documents"]
    documents = [document for document in found if (document.content or "").strip()]
    if not documents:
        skipped.append(Skipped(str(file), _reason(warnings)))
        return []
    title = _title(file, kind)
    meta = {"file_path": str(file)} | ({"title": title} if title else {})
    return [replace(document, id=file.as_posix(), meta=meta) for document in documents]


def _title(file: Path, kind: str) -> str | None:
    """The title that a Markdown or HTML file gives itself."""
    if kind == "markdown":
        text = file.read_text(encoding="utf-8", errors="replace")
        heading = re.search(r"^#\s+(.+?)\s*#*\s*$", text, re.MULTILINE)
        return heading.group(1) if heading else None
    if kind == "html":
        from trafilatura import extract_metadata

        found = extract_metadata(file.read_bytes())
        return found.title if found else None
    return None


def _read_jsonl(path: Path, skipped: list[Skipped]) -> list[Document]:
    documents = []
    for number, row in read_json_lines(path):
        document = _row(row, path, number)
        if (document.content or "").strip():
            documents.append(document)
        else:
            skipped.append(Skipped(f"{path}, line {number}", "no text in it"))
    return documents


def _row(row: dict[str, Any], path: Path, number: int) -> Document:
    where = f"{path}, line {number}"
    if not {"text", "content", "title"} & row.keys():
        raise DataError(f"{where}: the object has no 'text' or 'content'")
    identity = _take(row, ("_id", "id"), (str, int), "text or a number", where)
    text = _take(row, ("text", "content"), (str,), "text", where) or ""
    title = _take(row, ("title",), (str,), "text", where)
    own_meta = _take(row, ("meta", "metadata"), (dict,), "an object", where) or {}
    meta = {**row, **own_meta}
    return Document(
        id=f"{path.as_posix()}#{number}" if identity is None else str(identity),
        content=text if text.strip() else title or "",
        meta={**meta, "title": title} if title else meta,
    )


def _take(
    row: dict[str, Any], names: Sequence[str], kinds: tuple[type, ...], what: str, where: str
) -> Any:
    """Remove the field from the row that stands under one of the names, and return its value."""
    found = [(name, row.pop(name)) for name in names if name in row]
    for name, value in found:
        if value is not None and not isinstance(value, kinds):
            raise DataError(f"{where}: {name!r} must be {what}, found {type(value).__name__}")
    return next((value for _, value in found if value is not None), None)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what converters warn about, instead of showing it."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith("haystack"):
                collected.append(record.getMessage())

    collector = Collector(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("haystack", "pypdf", "trafilatura")]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.propagate = False
    try:
        yield collected
    finally:
        for logger, propagate in zip(loggers, propagated, strict=True):
            logger.removeHandler(collector)
            logger.propagate = propagate


def _reason(warnings: Sequence[str]) -> str:
    """Why a converter gave nothing: what it said last, without the file's name."""
    if not warnings:
        return "no text in it"
    told = re.split(r"Error(?: message)?: |skipping\. ", warnings[-1])[-1]
    return " ".join(told.split()) or "it cannot be read"
