"""The passage index: build, open, search, add, delete."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from trlm_retrieval.errors import PassageIndexError
from trlm_retrieval.models.embedder import Embedder, shared_embedder
from trlm_retrieval.passage_index import files
from trlm_retrieval.passage_index.bm25 import BM25, load_bm25
from trlm_retrieval.passage_index.dense import KINDS, DenseIndex, FaissKind, unit
from trlm_retrieval.passage_index.documents import StoredDocuments
from trlm_retrieval.passage_index.filters import Filters, check_filters, matches
from trlm_retrieval.passage_index.writing import check_vector, duplicate, without_duplicates, write
from trlm_retrieval.text.words import query_words


@dataclass(frozen=True)
class _Snapshot:
    """One state of the index; searches that began with it end with it."""

    manifest: dict[str, Any]
    documents: StoredDocuments
    bm25: BM25
    dense: DenseIndex | None


class PassageIndex:
    """
    Documents that can be searched by words (BM25) and by meaning (FAISS), kept in one folder.

    ```python
    from haystack import Document
    from trlm_retrieval.passage_index import PassageIndex

    documents = [
        Document(content="A generator yields values."),
        Document(content="Sets are unordered."),
    ]
    index = PassageIndex.build("trlm-index", documents, embedder=None)
    print(index.search_bm25("what does a generator yield")[0].content)
    ```

    Make one with `build` or `open`. Searches may run in several threads at once, also while
    documents are added or deleted: each sees the index as it was when the search began.
    """

    def __init__(self, folder: Path, snapshot: _Snapshot, embedder: Embedder | None) -> None:
        self.folder = folder
        self._snapshot = snapshot
        self._given_embedder = embedder
        self._warm_embedder: Embedder | None = None

    @classmethod
    def build(
        cls,
        folder: str | Path,
        documents: Iterable[Document],
        *,
        embedder: Embedder | str | None = "minilm",
        faiss_kind: FaissKind = "flat",
        policy: DuplicatePolicy = DuplicatePolicy.FAIL,
        meta_fields_to_embed: Sequence[str] = ("title",),
        show_progress: bool = False,
    ) -> "PassageIndex":
        """
        Index documents, replacing the index that was in the folder once all is done.

        :param folder: the folder of the index; made where there is none.
        :param documents: documents with content and different ids. A document that brings an
            embedding is not embedded again. They may come from a generator.
        :param embedder: what embeds documents and queries: the name of a model, or any object with
            `name`, `dimension` and `embed`. None indexes the embeddings that the documents bring,
            and where they bring none leaves search by meaning out.
        :param faiss_kind: "flat" compares with every passage and is exact; "hnsw" follows a graph,
            which pays beyond some 100,000 passages.
        :param policy: what to do with an id that comes a second time: FAIL (the same as NONE), SKIP
            it, or OVERWRITE the earlier document.
        :param meta_fields_to_embed: meta fields put before the content, for BM25 and the embedder
            alike.
        :param show_progress: show bars with the time left on standard error.
        :raises ValueError: if there are no documents, one has no content, an id comes twice, or an
            embedding does not fit.
        :raises PassageIndexError: if the folder holds other things, or is being written.
        """
        if faiss_kind not in KINDS:
            raise ValueError(f"faiss_kind must be one of {KINDS}, but got {faiss_kind!r}")
        if isinstance(meta_fields_to_embed, str):
            raise ValueError("meta_fields_to_embed must be a list of names, but got a string")
        folder = Path(folder)
        given = shared_embedder(embedder) if isinstance(embedder, str) else embedder
        with files.write_lock(folder):
            write(
                folder,
                without_duplicates(documents, policy),
                given,
                faiss_kind,
                tuple(meta_fields_to_embed),
                show_progress,
            )
        return cls.open(folder, embedder=given)

    @classmethod
    def open(cls, folder: str | Path, *, embedder: Embedder | None = None) -> "PassageIndex":
        """
        Open an index after checking all of its files.

        :param folder: the folder given to `build`.
        :param embedder: embeds queries in place of the one the index names.
        :raises PassageIndexError: if there is no index, or a file is missing or damaged.
        """
        folder = Path(folder)
        return cls(folder, _read(folder), embedder)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the index holds: counts, settings, and the size and checksum of each file."""
        return copy.deepcopy(self._snapshot.manifest)

    @property
    def meta_fields(self) -> tuple[str, ...]:
        """Meta fields that stand before the content of what is indexed."""
        return tuple(self._snapshot.manifest["meta_fields_to_embed"])

    def __len__(self) -> int:
        return len(self._snapshot.documents)

    def get(self, id: str) -> Document:
        """
        Return a copy of a document.

        :param id: the id of the document.
        :raises KeyError: if there is none with this id.
        """
        documents = self._snapshot.documents
        return _copy(documents[documents.positions[id]], None)

    def documents(self) -> Iterator[Document]:
        """Yield copies of all documents in the order in which they were indexed."""
        return (_copy(document, None) for document in self._snapshot.documents)

    def search_bm25(
        self, query: str, *, top_k: int = 10, filters: Filters | None = None
    ) -> list[Document]:
        """
        Find documents that share words with the query.

        :param query: the query.
        :param top_k: at most so many documents.
        :param filters: only documents that match, in Haystack's filter syntax; `top_k` counts
            those that match.
        :returns: copies with the BM25 score, best first; documents with none of the words are left
            out.
        :raises ValueError: if the query is blank, `top_k` not positive, or the filters are
            malformed.
        """
        _check(query, top_k)
        snapshot = self._snapshot
        scores = snapshot.bm25.scores(query_words(query))
        found = np.flatnonzero(scores > 0)
        order = found[np.argsort(-scores[found], kind="stable")]
        ranked = ((int(position), float(scores[position])) for position in order)
        return _top(ranked, snapshot.documents, top_k, filters)

    def search_dense(
        self,
        query: str | None = None,
        *,
        top_k: int = 10,
        filters: Filters | None = None,
        query_embedding: Sequence[float] | None = None,
    ) -> list[Document]:
        """
        Find documents whose embedding is near that of the query.

        :param query: the query; not needed with `query_embedding`.
        :param top_k: at most so many documents.
        :param filters: only documents that match, in Haystack's filter syntax; `top_k` counts
            those that match. Filtered searches compare with every vector, also in an HNSW index.
        :param query_embedding: the embedding of the query, where there is one already.
        :returns: copies with the cosine, from -1 to 1, as score, best first.
        :raises ValueError: if the query is blank, `top_k` not positive, the embedding does not
            fit, or the filters are malformed.
        :raises PassageIndexError: if the index holds no embeddings.
        """
        snapshot = self._snapshot
        if query_embedding is None:
            _check(query, top_k)
        else:
            _check("query_embedding", top_k)
        dense = self._dense(snapshot)
        if query_embedding is None:
            vector = self._embedder(snapshot).embed([query or ""])[0]
        else:
            vector = np.asarray(query_embedding, dtype=np.float32)
        check_vector(vector, dense.dimension, "the query embedding")
        ranked = dense.ranked(unit(vector[None, :])[0], top_k, exact=bool(filters))
        return _top(ranked, snapshot.documents, top_k, filters)

    def load_embedder(self) -> None:
        """
        Load the model that embeds queries, which the first search by meaning would do otherwise.

        Costs nothing where it was done before: Haystack warms a pipeline up before each run.

        :raises PassageIndexError: if the index holds no embeddings.
        """
        snapshot = self._snapshot
        self._dense(snapshot)
        if self._given_embedder is not None or snapshot.manifest["embedder"] is not None:
            embedder = self._embedder(snapshot)
            if embedder is not self._warm_embedder:
                embedder.embed(["warm up"])
                self._warm_embedder = embedder

    def add(
        self,
        documents: Iterable[Document],
        policy: DuplicatePolicy = DuplicatePolicy.FAIL,
        show_progress: bool = False,
    ) -> int:
        """
        Add documents. Only new ones are embedded, but the files are written anew, so that many
        documents are better added in one call than one by one.

        :param documents: as for `build`.
        :param policy: what to do with an id that is there already: FAIL (the same as NONE), SKIP
            the new document, or OVERWRITE the one in the index.
        :param show_progress: show bars with the time left on standard error.
        :returns: how many documents were written.
        :raises ValueError: as for `build`.
        :raises PassageIndexError: if the index is being written, or can no longer be read.
        """
        new = {document.id: document for document in without_duplicates(documents, policy)}
        written = 0

        def merged(old: _Snapshot) -> Iterator[Document]:
            nonlocal written
            known = old.documents.positions
            if policy is DuplicatePolicy.SKIP:
                chosen = {id_: doc for id_, doc in new.items() if id_ not in known}
            else:
                chosen = dict(new)
            if policy in (DuplicatePolicy.FAIL, DuplicatePolicy.NONE):
                for id_ in chosen:
                    if id_ in known:
                        raise ValueError(duplicate(id_))
            written = len(chosen)
            for document in _with_embeddings(old):
                yield chosen.pop(document.id, document)
            yield from chosen.values()

        self._rewrite(merged, show_progress)
        return written

    def upsert(self, passages: Sequence[Document], show_progress: bool = False) -> int:
        """
        Add passages; what the index held under their ids, or as parts of the same documents, goes.

        :param passages: as for `build`; a part names its document in `meta["source_id"]`.
        :param show_progress: show bars with the time left on standard error.
        :returns: how many passages of the index were replaced.
        :raises ValueError: as for `build`.
        :raises PassageIndexError: as for `add`.
        """
        new = {passage.id: passage for passage in passages}
        whole = {passage.meta.get("source_id") for passage in passages} - {None}
        replaced = 0

        def merged(old: _Snapshot) -> Iterator[Document]:
            nonlocal replaced
            left = dict(new)
            for document in _with_embeddings(old):
                if not {document.id, document.meta.get("source_id")} & (whole | new.keys()):
                    yield document
                    continue
                replaced += 1
                if document.id in left:
                    yield left.pop(document.id)
            yield from left.values()

        self._rewrite(merged, show_progress)
        return replaced

    def delete(self, ids: Sequence[str], show_progress: bool = False) -> None:
        """
        Delete documents. The files are written anew, but nothing is embedded.

        :param ids: the ids of the documents.
        :param show_progress: show bars with the time left on standard error.
        :raises ValueError: if an id is not in the index, or no document would be left.
        :raises PassageIndexError: if the index is being written, or can no longer be read.
        """
        if isinstance(ids, str):
            raise ValueError("ids must be a list of ids, but got a string")
        doomed = set(ids)

        def kept(old: _Snapshot) -> Iterator[Document]:
            unknown = doomed - old.documents.positions.keys()
            if unknown:
                raise ValueError(f"no document in the index has the id {min(unknown)!r}")
            if len(doomed) == len(old.documents):
                raise ValueError("this would delete every document: delete the folder instead")
            return (document for document in _with_embeddings(old) if document.id not in doomed)

        self._rewrite(kept, show_progress)

    def _rewrite(
        self, change: Callable[[_Snapshot], Iterator[Document]], show_progress: bool
    ) -> None:
        """Write the documents that `change` makes of those now in the folder."""
        with files.write_lock(self.folder):
            old = _read(self.folder)  # another process may have written since
            manifest = old.manifest
            embedder = self._given_embedder
            if embedder is None and manifest["embedder"] is not None:
                embedder = shared_embedder(manifest["embedder"]["name"])
            write(
                self.folder,
                change(old),
                embedder,
                manifest["faiss"] or "flat",
                tuple(manifest["meta_fields_to_embed"]),
                show_progress,
            )
        self._snapshot = _read(self.folder)

    def _dense(self, snapshot: _Snapshot) -> DenseIndex:
        if snapshot.dense is None:
            raise PassageIndexError(
                f"the index at {self.folder} holds no embeddings: build it with an embedder"
            )
        return snapshot.dense

    def _embedder(self, snapshot: _Snapshot) -> Embedder:
        if self._given_embedder is not None:
            return self._given_embedder
        named = snapshot.manifest["embedder"]
        if named is None:
            raise PassageIndexError(
                f"the index at {self.folder} names no embedder, because its documents brought "
                "their embeddings: give query_embedding, or open it with an embedder"
            )
        return shared_embedder(named["name"])


_shared: dict[Path, tuple[object, PassageIndex]] = {}
_shared_lock = threading.Lock()


def shared_index(folder: str | Path) -> PassageIndex:
    """
    Open an index once for all callers in this process, and again after it has changed on disk.

    :param folder: the folder of the index.
    :raises PassageIndexError: if there is no index, or a file is missing or damaged.
    """
    path = Path(folder).resolve()
    with _shared_lock:
        stamp = files.manifest_stamp(path)
        if path not in _shared or _shared[path][0] != stamp:
            _shared.pop(path, None)
            _shared[path] = stamp, PassageIndex.open(path)
        return _shared[path][1]


# What readers raise for files that are damaged or of the wrong shape.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError)


def _read(folder: Path) -> _Snapshot:
    """Read what is in the folder, once more where a writer replaced it meanwhile."""
    stamp = files.manifest_stamp(folder)
    try:
        manifest = files.read_manifest(folder)
        try:
            data = files.verify(folder, manifest)
            return _Snapshot(
                manifest,
                StoredDocuments(data),
                load_bm25(data, manifest["bm25"]["library"]),
                DenseIndex.load(data) if manifest["faiss"] else None,
            )
        except _UNREADABLE as error:
            raise PassageIndexError(
                f"the index at {folder} cannot be read ({error}). {files.REMEDY}"
            ) from error
    except PassageIndexError:
        if files.manifest_stamp(folder) == stamp:
            raise
    return _read(folder)


def _with_embeddings(snapshot: _Snapshot) -> Iterator[Document]:
    for position, document in enumerate(snapshot.documents):
        if snapshot.dense is None:
            yield document
        else:
            yield replace(document, embedding=snapshot.dense.vector(position).tolist())


def _top(
    ranked: Iterable[tuple[int, float]],
    documents: StoredDocuments,
    top_k: int,
    filters: Filters | None,
) -> list[Document]:
    """Copy the first `top_k` documents that match."""
    if filters:
        check_filters(filters)
    chosen: list[Document] = []
    for position, score in ranked:
        document = documents[position]
        if not filters or matches(filters, document):
            chosen.append(_copy(document, score))
            if len(chosen) == top_k:
                break
    return chosen


def _copy(document: Document, score: float | None) -> Document:
    return replace(document, meta=copy.deepcopy(document.meta), score=score)


def _check(query: str | None, top_k: int) -> None:
    if query is None or not query.strip():
        raise ValueError("query is empty: give the words to look for")
    if top_k <= 0:
        raise ValueError(f"top_k must be greater than 0, but got {top_k}")
