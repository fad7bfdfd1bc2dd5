"""Files and folders of text, Markdown, PDF, HTML and JSON lines, read as Haystack documents.

What cannot be read is never left out silently: it comes back with the reason.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from haystack import Document
from haystack.components.preprocessors import RecursiveDocumentSplitter

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import COMPRESSED, ending, read_json_lines
from trlm_retrieval.passage_index.converting import KINDS, Unreadable, convert
from trlm_retrieval.progress import track

BEIR_CORPUS = "corpus.jsonl"
_CORPORA = (BEIR_CORPUS, *(BEIR_CORPUS + suffix for suffix in COMPRESSED))
Duplicates = Literal["fail", "first", "last"]
DEFAULT_MAX_CHARACTERS = 800  # some 130 English words: what small sentence embedders read whole
_SEPARATORS = ["\n\n", ".\n", ". ", "\n", " "]


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
    :ivar notes: what else to know, such as files that are not UTF-8.
    """

    passages: list[Document] = field(default_factory=list)
    documents: int = 0
    cut: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(
    paths: Sequence[str | Path],
    max_characters: int = DEFAULT_MAX_CHARACTERS,
    show_progress: bool = False,
    *,
    duplicates: Duplicates = "fail",
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
    :param duplicates: what to do with a second document of the same id: ``fail``, or keep the
        ``first`` or the ``last``.
    :raises DataError: if a path does not exist, a line of a JSON lines file is malformed, or an id
        comes twice; the message names the file and the line.
    :raises ValueError: if ``max_characters`` is not positive.
    """
    _check(paths)
    reading = Reading()
    files = [file for path in paths for file in _files(Path(path), reading.skipped)]
    found: dict[str, tuple[str, Document, bool]] = {}
    for file in track(list(dict.fromkeys(files)), "Reading", enabled=show_progress):
        for where, document in _read_file(file, reading):
            earlier = found.get(document.id)
            if earlier is not None and duplicates == "fail":
                raise DataError(
                    f"{where}: the id {document.id!r} is also that of {earlier[0]}: make the ids "
                    "unique, or choose `--duplicates first` or `--duplicates last`"
                )
            if earlier is None or duplicates == "last":
                found[document.id] = where, document, _is_beir(file)
    reading.documents = len(found)
    for _, document, whole in found.values():
        parts = [document] if whole else split([document], max_characters)
        reading.cut += len(parts) > 1
        reading.passages += parts
    return reading


def read_sources(paths: Sequence[str | Path]) -> Reading:
    """Read files and folders as sources to cite: whole, and numbered as they were given.

    Every file and row keeps its place: given twice it comes twice, and one that cannot be read is
    there as a document without content.

    :raises DataError: if a path does not exist, or a line of a JSON lines file is malformed.
    """
    _check(paths)
    reading = Reading()
    for path in map(Path, paths):
        for file in _files(path, reading.skipped):
            before = len(reading.skipped)
            documents = [document for _, document in _read_file(file, reading)]
            reading.documents += len(documents)
            unread = [
                Document(id=skipped.path, content="", meta={"file_path": str(file)})
                for skipped in reading.skipped[before:]
                if file == path or ending(file) in (*KINDS, ".jsonl")
            ]
            if ending(file) == ".jsonl" and unread:
                documents = _in_file_order(file, documents, unread)
            else:
                documents += unread
            reading.passages += documents
    return reading


def _in_file_order(
    file: Path, read: Sequence[Document], unread: Sequence[Document]
) -> list[Document]:
    """Documents of a JSON lines file and its rows without text, each in the place of its row; a
    file without rows is one document without text."""
    blank = {document.id: document for document in unread}
    documents = iter(read)
    return [
        blank[where] if (where := f"{file}, line {number}") in blank else next(documents)
        for number, _ in read_json_lines(file)
    ] or list(unread)


def _check(paths: Sequence[str | Path]) -> None:
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")


def _is_beir(file: Path) -> bool:
    return file.name == BEIR_CORPUS or (
        file.suffix.lower() in COMPRESSED and file.stem == BEIR_CORPUS
    )


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
    elif corpus := next((path / name for name in _CORPORA if (path / name).is_file()), None):
        yield corpus
    else:
        for entry in sorted(path.iterdir()):
            if entry.name.startswith("."):
                skipped.append(Skipped(str(entry), "hidden"))
            elif entry.is_symlink() and entry.is_dir():
                skipped.append(Skipped(str(entry), "a link to a folder"))
            else:
                yield from _files(entry, skipped)


def _read_file(file: Path, reading: Reading) -> list[tuple[str, Document]]:
    """The documents of a file, each with where it stands; what gives none is noted as skipped."""
    kind = ending(file)
    if kind == ".jsonl":
        return _read_jsonl(file, reading.skipped)
    if kind not in KINDS:
        what = f"{kind} files" if kind else "files without an ending"
        reading.skipped.append(Skipped(str(file), f"{what} are not read"))
        return []
    try:
        found = convert(file)
    except Unreadable as error:
        reading.skipped.append(Skipped(str(file), str(error)))
        return []
    if found.encoding is not None:
        reading.notes.append(f"{file}: not UTF-8, read as {found.encoding}")
    meta = {**found.meta, "file_path": str(file)}
    return [(str(file), Document(id=file.as_posix(), content=found.text, meta=meta))]


def _read_jsonl(path: Path, skipped: list[Skipped]) -> list[tuple[str, Document]]:
    documents = []
    number = 0
    for number, row in read_json_lines(path):
        where = f"{path}, line {number}"
        document = _row(row, path, number)
        if (document.content or "").strip():
            documents.append((where, document))
        else:
            skipped.append(Skipped(where, "no text in it"))
    if not number:
        skipped.append(Skipped(str(path), "no row in it"))
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
        id=f"{path.as_posix()}#{number}" if identity in (None, "") else str(identity),
        content=text if text.strip() else title or "",
        meta={**meta, "title": title} if title else meta,
    )


def _take(
    row: dict[str, Any], names: Sequence[str], kinds: tuple[type, ...], what: str, where: str
) -> Any:
    """Remove the field from the row that stands under one of the names, and return its value."""
    found = [(name, row.pop(name)) for name in names if name in row]
    for name, value in found:
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise DataError(f"{where}: {name!r} must be {what}, found {type(value).__name__}")
    return next((value for _, value in found if value is not None), None)
