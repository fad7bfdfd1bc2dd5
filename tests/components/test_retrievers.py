import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner

import trlm_retrieval.components  # noqa: F401 - lets Pipeline.loads create the components
from trlm_retrieval.components.retrievers import BM25Retriever, FAISSRetriever
from trlm_retrieval.errors import PassageIndexError
from trlm_retrieval.passage_index import PassageIndex, index

DOCUMENTS = [
    Document(id="a", content="alpha beta", embedding=[1.0, 0.0], meta={"n": 1}),
    Document(id="b", content="beta gamma", embedding=[0.0, 1.0], meta={"n": 2}),
    Document(id="c", content="gamma alpha alpha", embedding=[1.0, 1.0], meta={"n": 3}),
]


class AxisEmbedder:
    name = "axis"
    dimension = 2

    def embed(self, texts: Sequence[str], show_progress: bool = False) -> np.ndarray:
        return np.array([[1.0, 0.1] for _ in texts], dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(index, "shared_embedder", lambda name: AxisEmbedder())
    PassageIndex.build(tmp_path / "index", DOCUMENTS, embedder="axis")
    return str(tmp_path / "index")


def ids(result: dict[str, list[Document]]) -> list[str]:
    return [document.id for document in result["documents"]]


def test_bm25_retriever(folder: str) -> None:
    retriever = BM25Retriever(folder)
    assert ids(retriever.run("alpha")) == ["c", "a"]
    assert ids(retriever.run("alpha", top_k=1)) == ["c"]
    only_a = {"field": "meta.n", "operator": "<", "value": 3}
    assert ids(retriever.run("alpha", filters=only_a, top_k=1)) == ["a"]
    assert ids(BM25Retriever(folder, top_k=1, filters=only_a).run("alpha")) == ["a"]
    assert ids(retriever.run("unknown")) == []


def test_faiss_retriever(folder: str) -> None:
    retriever = FAISSRetriever(folder)
    assert ids(retriever.run("anything")) == ["a", "c", "b"]
    assert ids(retriever.run(query_embedding=[0.0, 1.0], top_k=1)) == ["b"]
    assert ids(retriever.run("anything", query_embedding=[0.0, 1.0], top_k=1)) == ["b"]
    not_a = {"field": "meta.n", "operator": ">", "value": 1}
    assert ids(FAISSRetriever(folder, top_k=1, filters=not_a).run("anything")) == ["c"]


@pytest.mark.parametrize("kind", [BM25Retriever, FAISSRetriever])
def test_bad_input(kind: Any, folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="top_k must be greater than 0"):
        kind(folder, top_k=0)
    with pytest.raises(ValueError, match="top_k must be greater than 0"):
        kind(folder).run("alpha", top_k=0)
    with pytest.raises(ValueError, match="query is empty"):
        kind(folder).run(" ")
    missing = kind(str(tmp_path / "missing"))  # making it touches no file
    for call in (missing.warm_up, lambda: missing.run("alpha")):
        with pytest.raises(PassageIndexError, match="there is no index"):
            call()


def test_faiss_retriever_needs_embeddings(tmp_path: Path) -> None:
    PassageIndex.build(tmp_path, [Document(content="x")], embedder=None)
    with pytest.raises(PassageIndexError, match="holds no embeddings"):
        FAISSRetriever(str(tmp_path)).warm_up()


@pytest.mark.parametrize("kind", [BM25Retriever, FAISSRetriever])
def test_to_dict_and_back(kind: Any) -> None:
    filters = {"field": "meta.n", "operator": "==", "value": 1}
    data = kind("somewhere", top_k=7, filters=filters).to_dict()
    assert data["init_parameters"] == {"index": "somewhere", "top_k": 7, "filters": filters}
    assert kind.from_dict(data).to_dict() == data


@pytest.mark.parametrize("kind", [BM25Retriever, FAISSRetriever])
async def test_run_async_gives_the_same_and_leaves_the_event_loop_free(
    kind: Any, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = kind(folder)
    expected = retriever.run("alpha")
    assert await retriever.run_async("alpha") == expected

    go_on = threading.Event()
    search = "search_bm25" if kind is BM25Retriever else "search_dense"
    original = getattr(PassageIndex, search)

    def slow(*arguments: Any, **named: Any) -> list[Document]:
        assert go_on.wait(10)
        return original(*arguments, **named)

    monkeypatch.setattr(PassageIndex, search, slow)
    task = asyncio.create_task(retriever.run_async("alpha"))
    await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    assert await task == expected


def test_retrievers_share_one_index_and_follow_its_changes(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = PassageIndex.open
    monkeypatch.setattr(
        PassageIndex, "open", lambda path, **named: opened.append(path) or original(path, **named)
    )
    words, vectors = BM25Retriever(folder), FAISSRetriever(folder)
    words.warm_up()
    vectors.warm_up()
    words.run("alpha")
    vectors.run("alpha")
    assert len(opened) == 1
    original(folder).delete(["c"])
    assert ids(words.run("alpha")) == ["a"]
    assert ids(vectors.run("alpha")) == ["a", "b"]


def test_a_pipeline_survives_dumps_and_loads(folder: str) -> None:
    pipeline = Pipeline()
    pipeline.add_component("bm25", BM25Retriever(folder, top_k=2))
    pipeline.add_component("faiss", FAISSRetriever(folder, top_k=2))
    pipeline.add_component("joiner", DocumentJoiner(join_mode="reciprocal_rank_fusion"))
    pipeline.connect("bm25", "joiner")
    pipeline.connect("faiss", "joiner")
    data = {"bm25": {"query": "alpha"}, "faiss": {"query": "alpha"}}
    expected = pipeline.run(data)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.run(data) == expected
    assert set(ids(expected["joiner"])) == {"a", "c"}
