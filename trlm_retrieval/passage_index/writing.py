"""Writing an index: from documents to a complete data folder."""

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from trlm_retrieval.models.embedder import Embedder, Vectors
from trlm_retrieval.passage_index import files
from trlm_retrieval.passage_index.bm25 import K1, B, build_bm25
from trlm_retrieval.passage_index.dense import DenseIndex, FaissKind, unit
from trlm_retrieval.passage_index.documents import (
    DocumentWriter,
    StoredDocuments,
    counted_text,
    passage_text,
)
from trlm_retrieval.progress import progress_bar, track
from trlm_retrieval.text.words import words

# Vectors handed to FAISS between two steps of the progress bar.
_CHUNK = 1024


def write(
    folder: Path,
    documents: Iterable[Document],
    embedder: Embedder | None,
    faiss_kind: FaissKind,
    meta_fields: tuple[str, ...],
    show_progress: bool,
) -> None:
    """
    Fill a new data folder and put it in the place of the current one.

    :param folder: the folder of the index, under its write lock.
    :param documents: documents with different ids; those with an embedding are not embedded.
    :param embedder: embeds the others; None where all or none bring an embedding.
    :param faiss_kind: "flat" or "hnsw".
    :param meta_fields: meta fields put before the content.
    :param show_progress: show bars with the time left on standard error.
    :raises ValueError: if there are no documents, or one cannot be indexed.
    """
    with files.new_data_folder(folder) as data:
        vocabulary: dict[str, str] = {}  # one object for each word, however often it occurs
        counted: list[list[str]] = []
        brought: dict[int, Vectors] = {}
        with DocumentWriter(data) as writer:
            for document in track(documents, "Reading", enabled=show_progress):
                if not (document.content or "").strip():
                    raise ValueError(
                        f"document {document.id!r} has no content: leave it out, or put the text "
                        "to be found into its content"
                    )
                if document.embedding is not None:
                    brought[len(counted)] = np.asarray(document.embedding, dtype=np.float32)
                text = counted_text(document, meta_fields)
                counted.append([vocabulary.setdefault(word, word) for word in words(text)])
                writer.write(document)
        if not counted:
            raise ValueError("documents is empty: there is nothing to index")
        bm25 = build_bm25(counted)
        bm25.save(data)
        del counted, vocabulary
        stored = StoredDocuments(data)
        dense = _build_dense(stored, brought, embedder, faiss_kind, meta_fields, show_progress)
        if dense is not None:
            dense.save(data)
        files.commit(
            data,
            {
                "package_version": version("trlm-retrieval"),
                "documents": len(stored),
                "meta_fields_to_embed": list(meta_fields),
                "bm25": {"library": bm25.library, "k1": K1, "b": B},
                "faiss": faiss_kind if dense is not None else None,
                "embedder": None
                if embedder is None or dense is None
                else {"name": embedder.name, "dimension": dense.dimension},
            },
        )


def _build_dense(
    documents: StoredDocuments,
    brought: dict[int, Vectors],
    embedder: Embedder | None,
    kind: FaissKind,
    meta_fields: tuple[str, ...],
    show_progress: bool,
) -> DenseIndex | None:
    """Embed the documents that brought no embedding, and index all of them."""
    missing = [position for position in range(len(documents)) if position not in brought]
    if embedder is None and not brought:
        return None
    if embedder is None and missing:
        raise ValueError(
            f"document {documents.ids[missing[0]]!r} has no embedding, as others have: give an "
            "embedder, or embed all documents or none"
        )
    vectors = dict(brought)
    if embedder is None:
        dimension = len(next(iter(brought.values())))
    else:
        dimension = embedder.dimension
        if missing:
            texts = [passage_text(documents[position], meta_fields) for position in missing]
            vectors |= zip(missing, embedder.embed(texts, show_progress), strict=True)
    for position, vector in vectors.items():
        check_vector(vector, dimension, f"document {documents.ids[position]!r}")
    dense = DenseIndex.empty(dimension, kind)
    with progress_bar("Indexing", len(documents), show_progress) as advance:
        for start in range(0, len(documents), _CHUNK):
            positions = range(start, min(start + _CHUNK, len(documents)))
            dense.append(unit(np.stack([vectors[position] for position in positions])))
            advance(len(positions))
    return dense


def without_duplicates(
    documents: Iterable[Document], policy: DuplicatePolicy
) -> Iterable[Document]:
    """
    Apply the policy to ids that come more than once.

    :raises ValueError: if the policy is FAIL or NONE; from the iteration.
    """
    if policy is DuplicatePolicy.OVERWRITE:
        return {document.id: document for document in documents}.values()
    return _first_of_each(documents, policy)


def _first_of_each(documents: Iterable[Document], policy: DuplicatePolicy) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        if document.id not in seen:
            seen.add(document.id)
            yield document
        elif policy is not DuplicatePolicy.SKIP:
            raise ValueError(duplicate(document.id))


def duplicate(id_: str) -> str:
    """Say that an id comes twice, and what to do."""
    return (
        f"the document id {id_!r} comes twice: make the ids unique, or choose the policy SKIP or "
        "OVERWRITE"
    )


def check_vector(vector: Vectors, dimension: int, whose: str) -> None:
    """
    Check the shape and the numbers of an embedding.

    :param whose: how to name its owner in an error.
    :raises ValueError: if it has not the shape (dimension,), or holds NaN or infinity.
    """
    if vector.shape != (dimension,):
        raise ValueError(
            f"{whose} has an embedding of shape {vector.shape}, and the index takes "
            f"({dimension},): embed documents and queries with the same model"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"the embedding of {whose} holds NaN or infinity")
