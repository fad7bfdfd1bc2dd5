"""Files and folders read as Haystack documents.

What cannot be read is never left out silently: it comes back with the reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from haystack import Document

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import COMPRESSED, ending
from trlm_retrieval.passage_index.converted import Section, Unreadable
from trlm_retrieval.passage_index.converting import KINDS, convert
from trlm_retrieval.passage_index.cutting import DEFAULT_MAX_CHARACTERS, cut
from trlm_retrieval.passage_index.rows import KINDS as ROWS
from trlm_retrieval.passage_index.rows import read_rows
from trlm_retrieval.passage_index.source_code import LANGUAGES
from trlm_retrieval.progress import track

BEIR_CORPUS = "corpus.jsonl"
_CORPORA = (BEIR_CORPUS, *(BEIR_CORPUS + suffix for suffix in COMPRESSED))
Duplicates = Literal["fail", "first", "last"]


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


@dataclass(frozen=True)
class _Found:
    """A document, where it stands, and along what it may be cut."""

    where: str
    document: Document
    sections: Sequence[Section] = ()
    language: str | None = None


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
    other fields become meta fields. A row with a title and no text is read as its title. The
    objects of a list in a JSON file, and the rows of a CSV or TSV file, are read in the same way;
    one without a text is read as a line ``name: value`` for each of its fields.

    :param paths: files and folders.
    :param max_characters: longer documents are cut, see :func:`cut`.
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
    found: dict[str, tuple[_Found, bool]] = {}
    for file in track(list(dict.fromkeys(files)), "Reading", enabled=show_progress):
        for one in _read_file(file, reading.notes):
            if isinstance(one, Skipped):
                reading.skipped.append(one)
                continue
            earlier = found.get(one.document.id)
            if earlier is not None and duplicates == "fail":
                raise DataError(
                    f"{one.where}: the id {one.document.id!r} is also that of {earlier[0].where}: "
                    "make the ids unique, or choose `--duplicates first` or `--duplicates last`"
                )
            if earlier is None or duplicates == "last":
                found[one.document.id] = one, _is_beir(file)
    reading.documents = len(found)
    for one, whole in found.values():
        parts = [one.document] if whole else _cut(one, max_characters)
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
            for one in _read_file(file, reading.notes):
                if isinstance(one, Skipped):
                    reading.skipped.append(one)
                    if file == path or ending(file) in (*KINDS, *ROWS):
                        blank = Document(id=one.path, content="", meta={"file_path": str(file)})
                        reading.passages.append(blank)
                else:
                    reading.documents += 1
                    reading.passages.append(one.document)
    return reading


def _check(paths: Sequence[str | Path]) -> None:
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")


def _is_beir(file: Path) -> bool:
    return file.name == BEIR_CORPUS or (
        file.suffix.lower() in COMPRESSED and file.stem == BEIR_CORPUS
    )


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


def _read_file(file: Path, notes: list[str]) -> list[_Found | Skipped]:
    """The documents of a file in their order; what gives none is told in its place."""
    kind = ending(file)
    try:
        if kind in ROWS:
            rows = read_rows(file)
            notes += rows.notes
            return [
                _Found(where, one) if isinstance(one, Document) else Skipped(where, one)
                for where, one in rows.found
            ]
        if kind not in KINDS:
            what = f"{kind} files" if kind else "files without an ending"
            raise Unreadable(f"{what} are not read")
        found = convert(file)
    except Unreadable as error:
        return [Skipped(str(file), str(error))]
    if found.encoding is not None:
        notes.append(f"{file}: not UTF-8, read as {found.encoding}")
    meta = {**found.meta, "file_path": str(file)}
    document = Document(id=file.as_posix(), content=found.text, meta=meta)
    return [_Found(str(file), document, found.sections, LANGUAGES.get(kind))]


def _cut(found: _Found, max_characters: int) -> list[Document]:
    return cut(found.document, found.sections, max_characters, found.language)
