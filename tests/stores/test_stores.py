"""TRLMRanker behind external stores: PostgreSQL with pgvector, Qdrant in its local mode.

Needs the extra `stores`, which `make test-all` installs, and for pgvector Debian's `postgresql`.
"""

import asyncio
from dataclasses import replace

import pytest
from haystack import Pipeline
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.types import DuplicatePolicy

from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.index_data import demo_queries
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.pipelines import path

pytestmark = pytest.mark.slow

pytest.importorskip("haystack_integrations.document_stores.pgvector", reason="extra `stores`")

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
QUERY = "how does the with statement call enter and exit"


def loaded(name, minilm, model):
    """A pipeline as it is, but for the models: the pulled embedder, and another ranker."""
    text = path(name).read_text(encoding="utf-8")
    assert HUB_ID in text and "smollm2-135m" in text
    return Pipeline.loads(text.replace(HUB_ID, minilm).replace("smollm2-135m", str(model)))


def asked(query, *, words=None):
    inputs = {"embedder": {"text": query}, "ranker": {"query": query, "top_k": 20}}
    return {**inputs, **({words: {"query": query}} if words else {})}


@pytest.fixture(scope="module")
def table(postgres, passages):
    """The demo's passages in the table that the pipeline names."""
    from haystack_integrations.document_stores.pgvector import PgvectorDocumentStore

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PG_CONN_STR", postgres.url)
        store = PgvectorDocumentStore(table_name="trlm_passages", embedding_dimension=384)
        assert store.write_documents(passages, DuplicatePolicy.OVERWRITE) == len(passages)
        yield store


@pytest.fixture
def index(passages, tmp_path):
    return PassageIndex.build(tmp_path / "index", passages, embedder=None)


def test_pgvector_is_a_real_one(postgres, table, passages):
    import psycopg

    with psycopg.connect(postgres.url) as connection:
        version = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        assert tuple(map(int, version.fetchone()[0].split("."))) >= (0, 5)
        count = connection.execute("SELECT count(*) FROM trlm_passages").fetchone()[0]
    assert count == table.count_documents() == len(passages)


def test_pgvector_finds_what_faiss_finds(table, index, minilm, tiny_lm_folder):
    pipeline = loaded("pgvector", minilm, tiny_lm_folder)
    for query in list(demo_queries().values())[:3]:
        inputs = asked(query, words="words")
        found = pipeline.run(inputs, include_outputs_from={"dense", "embedder"})
        expected = index.search_dense(query_embedding=found["embedder"]["embedding"], top_k=100)
        scores = {document.id: document.score for document in found["dense"]["documents"]}
        assert scores == pytest.approx({d.id: d.score for d in expected}, abs=1e-4)
        assert len(scores) == len(index)


def test_the_ranker_scores_stored_passages_as_it_scores_those_of_memory(
    table, passages, minilm, tiny_lm_folder
):
    pipeline = loaded("pgvector", minilm, tiny_lm_folder)
    found = pipeline.run(asked(QUERY, words="words"), include_outputs_from={"fusion"})
    ranked, before = found["ranker"]["documents"], found["fusion"]["documents"]
    assert len(ranked) == 20
    by_id = {document.id: document for document in passages}
    for document in before:  # text and meta come back as they were written
        assert document.content == by_id[document.id].content
        assert document.meta == by_id[document.id].meta
    candidates = [replace(by_id[document.id], score=document.score) for document in before]
    again = TRLMRanker(str(tiny_lm_folder), top_k=20).run(QUERY, candidates)["documents"]
    assert [(d.id, d.score) for d in ranked] == [(d.id, pytest.approx(d.score)) for d in again]


def test_filters_and_async_runs(table, minilm, tiny_lm_folder):
    pipeline = loaded("pgvector", minilm, tiny_lm_folder)
    title = table.filter_documents()[0].meta["title"]
    inputs = asked(QUERY, words="words")
    inputs["dense"] = {"filters": {"field": "meta.title", "operator": "==", "value": title}}
    inputs["words"]["filters"] = inputs["dense"]["filters"]
    found = asyncio.run(pipeline.run_async(inputs))["ranker"]["documents"]
    assert found and {document.meta["title"] for document in found} == {title}


def test_after_a_crash_of_postgres_the_pipeline_goes_on(postgres, table, minilm, tiny_lm_folder):
    pipeline = loaded("pgvector", minilm, tiny_lm_folder)
    before = pipeline.run(asked(QUERY, words="words"))["ranker"]["documents"]
    postgres.kill()
    with pytest.raises(PipelineRuntimeError, match="connect"):
        pipeline.run(asked(QUERY, words="words"))
    postgres.start()
    after = pipeline.run(asked(QUERY, words="words"))["ranker"]["documents"]
    assert [(d.id, d.score) for d in after] == [(d.id, d.score) for d in before]


def test_the_shipped_pipeline_answers_a_question(table, minilm):
    pipeline = loaded("pgvector", minilm, "smollm2-135m")
    found = pipeline.run(asked(QUERY, words="words"))["ranker"]["documents"]
    assert "with" in found[0].meta["title"] and "__enter__" in found[0].content


def test_qdrant_without_a_server(passages, index, minilm, tiny_lm_folder, tmp_path, monkeypatch):
    from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

    monkeypatch.chdir(tmp_path)
    store = QdrantDocumentStore(path="trlm-qdrant", index="passages", embedding_dim=384)
    assert store.write_documents(passages, DuplicatePolicy.OVERWRITE) == len(passages)
    store._client.close()
    pipeline = loaded("qdrant", minilm, tiny_lm_folder)
    found = pipeline.run(asked(QUERY), include_outputs_from={"dense", "embedder"})
    expected = index.search_dense(query_embedding=found["embedder"]["embedding"], top_k=20)
    assert [d.id for d in found["dense"]["documents"]] == [d.id for d in expected]
    assert {d.id for d in found["ranker"]["documents"]} == {d.id for d in expected}


@pytest.mark.parametrize("name", ["elasticsearch", "pgvector", "qdrant"])
def test_the_yaml_loads_and_survives_a_round_trip(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PG_CONN_STR", "postgresql://nobody@127.0.0.1:1/none")
    pipeline = Pipeline.loads(path(name).read_text(encoding="utf-8"))
    again = Pipeline.loads(pipeline.dumps()).to_dict()
    assert again["components"] == pipeline.to_dict()["components"]
    assert "nobody" not in pipeline.dumps()  # the address stays in the environment
