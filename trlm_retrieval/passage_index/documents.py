"""What of a document is indexed; documents as JSON lines, read one at a time from a mapped file."""

import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
from haystack import Document

from trlm_retrieval.files import finite

DEFAULT_META_FIELDS = ("title",)
PREDICTED_QUERIES = "predicted_queries"
"""The meta field of queries that a model expects for a document; BM25 counts their words."""

_LINES = "documents.jsonl"
_STARTS = "document_starts.npy"
_IDS = "ids.json"


def passage_text(document: Document, meta_fields: Sequence[str] = DEFAULT_META_FIELDS) -> str:
    """
    Join the named meta fields and the content, one a line.

    :param document: a document with content.
    :param meta_fields: meta fields that come first, such as "title"; absent ones are left out.
    :returns: the text that is embedded and that the ranker scores.
    """
    values = (document.meta.get(field) for field in meta_fields)
    return "\n".join([*(str(value) for value in values if value), document.content or ""])


def counted_text(document: Document, meta_fields: Sequence[str] = DEFAULT_META_FIELDS) -> str:
    """
    Join `passage_text` and the predicted queries of a document (doc2query), one a line.

    :returns: the text whose words BM25 counts.
    """
    queries = document.meta.get(PREDICTED_QUERIES) or []
    return "\n".join([passage_text(document, meta_fields), *map(str, queries)])


class DocumentWriter:
    """
    Writes documents one after the other; the files are complete when the ``with`` block ends.

    Everything is escaped to ASCII, so that NUL, control characters and unpaired surrogates come
    back as they went in.

    :param folder: an existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids: list[str] = []
        self._starts = [0]

    def __enter__(self) -> "DocumentWriter":
        self._file = (self._folder / _LINES).open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if error is None:
            np.save(self._folder / _STARTS, np.array(self._starts, dtype=np.int64))
            (self._folder / _IDS).write_text(json.dumps(self._ids), encoding="ascii")

    def write(self, document: Document) -> None:
        """
        Append a document, without its embedding and score; NaN in its meta becomes None.

        :raises ValueError: if its meta does not go into JSON.
        """
        fields = replace(document, embedding=None, score=None).to_dict(flatten=False)
        try:
            line = json.dumps(finite(fields), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the meta of document {document.id!r} cannot be stored as JSON ({error}): "
                "convert such values to text or numbers first"
            ) from error
        self._ids.append(document.id)
        self._starts.append(self._starts[-1] + self._file.write(line.encode("ascii") + b"\n"))


class StoredDocuments:
    """
    The documents that a `DocumentWriter` wrote. A document is decoded when it is first asked
    for, and kept from then on. Safe to read from several threads.

    :param folder: the folder given to the writer.
    """

    def __init__(self, folder: Path) -> None:
        self.ids: list[str] = json.loads((folder / _IDS).read_text(encoding="ascii"))
        self.positions = {id_: position for position, id_ in enumerate(self.ids)}
        self._starts: npt.NDArray[np.int64] = np.load(folder / _STARTS, allow_pickle=False)
        if len(self._starts) != len(self.ids) + 1:
            raise ValueError(f"{_STARTS} and {_IDS} do not belong together")
        with (folder / _LINES).open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._decoded: list[Document | None] = [None] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> Document:
        """Return the stored document itself: copy it before handing it on."""
        document = self._decoded[position]
        if document is None:
            start, end = self._starts[position], self._starts[position + 1]
            document = Document.from_dict(json.loads(self._lines[start:end]))
            self._decoded[position] = document
        return document

    def __iter__(self) -> Iterator[Document]:
        return (self[position] for position in range(len(self)))
