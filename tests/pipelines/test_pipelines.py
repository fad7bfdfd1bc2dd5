"""The YAML pipelines load as they are and run unchanged over an index folder."""

import re
from pathlib import Path

import pytest
import yaml
from haystack import Document, Pipeline
from haystack.core.errors import DeserializationError, PipelineRuntimeError

from trlm_retrieval.components import (
    BM25Retriever,
    FAISSRetriever,
    LocalChatGenerator,
    PassageIndexWriter,
    TRLMAnswerRanker,
    TRLMCitationAttributor,
    TRLMQueryGenerator,
    TRLMRanker,
    TRLMSafetyFilter,
)
from trlm_retrieval.errors import ModelError
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index import index as index_module
from trlm_retrieval.pipelines import load, names, path
from trlm_retrieval.pipelines.settings import run_for_client, search_inputs

OWN = ["cited_rag", "indexing", "rag", "retrieval"]
QUERY = "how does the with statement call exit"
DOCUMENTS = [
    Document(id="with", content="The with statement calls enter and exit.", meta={"title": "with"}),
    Document(id="gen", content="A generator yields values one at a time.", meta={"title": "yield"}),
    Document(id="dict", content="A dictionary keeps insertion order.", meta={"title": "dict"}),
]


@pytest.fixture
def here(tmp_path, monkeypatch, word_embedder):
    """A working folder with an index at the place that the pipelines name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_module, "shared_embedder", lambda name: word_embedder)
    PassageIndex.build("trlm-index", DOCUMENTS, embedder="minilm")
    return tmp_path


def with_model(name: str, folder: Path) -> Pipeline:
    """The pipeline with another model in place of the pulled one; nothing else is changed."""
    text = path(name).read_text(encoding="utf-8")
    assert "smollm2-135m" in text
    return Pipeline.loads(text.replace("smollm2-135m", str(folder)))


def test_every_pipeline_loads_and_survives_a_round_trip():
    assert names() == sorted([*OWN, "elasticsearch", "pgvector", "qdrant"])
    for name in OWN:  # tests/stores loads the others, which need an extra
        pipeline = load(name)
        again, once = Pipeline.loads(pipeline.dumps()).to_dict(), pipeline.to_dict()
        assert again["components"] == once["components"]
        assert sorted(map(str, again["connections"])) == sorted(map(str, once["connections"]))
        assert path(name).read_text(encoding="utf-8").startswith("#")


def test_an_unknown_pipeline():
    with pytest.raises(ValueError, match="there are cited_rag, elasticsearch, indexing, "):
        load("retrievel")


@pytest.mark.parametrize(
    ("former", "new"),
    [
        ("bm25_retriever", BM25Retriever),
        ("faiss_retriever", FAISSRetriever),
        ("local_chat_generator", LocalChatGenerator),
        ("passage_index_writer", PassageIndexWriter),
        ("trlm_answer_ranker", TRLMAnswerRanker),
        ("trlm_citation_attributor", TRLMCitationAttributor),
        ("trlm_query_generator", TRLMQueryGenerator),
        ("trlm_ranker", TRLMRanker),
        ("trlm_safety_filter", TRLMSafetyFilter),
    ],
)
def test_a_former_path_is_told_the_new_one(former, new):
    kind = f"trlm_retrieval.components.{former}.{new.__name__}"
    text = yaml.dump({"components": {"x": {"type": kind, "init_parameters": {}}}})
    message = re.escape(f"{kind} is now {new.__module__}.{new.__name__}: change this `type`")
    with pytest.raises(DeserializationError, match=message):
        Pipeline.loads(text)


def test_retrieval_runs(here, tiny_lm_folder):
    pipeline = with_model("retrieval", tiny_lm_folder)
    inputs = {name: {"query": QUERY} for name in ("bm25", "dense", "ranker")}
    documents = pipeline.run(inputs)["ranker"]["documents"]
    assert {document.id for document in documents} == {"with", "gen", "dict"}
    ranks = {document.meta["trlm"]["first_stage_rank"] for document in documents}
    assert ranks == {1, 2, 3}
    assert [d.score for d in documents] == sorted((d.score for d in documents), reverse=True)


async def test_retrieval_runs_async(here, tiny_lm_folder):
    pipeline = with_model("retrieval", tiny_lm_folder)
    inputs = {name: {"query": QUERY} for name in ("bm25", "dense", "ranker")}
    found = await pipeline.run_async(inputs)
    assert len(found["ranker"]["documents"]) == 3


def test_rag_answers_from_the_passages(here, tiny_lm_folder, monkeypatch):
    from haystack.dataclasses import ChatMessage

    seen = []

    def reply(messages, generation_kwargs=None):
        seen.append(messages[0].text)
        return {"replies": [ChatMessage.from_assistant("It calls both.")]}

    pipeline = with_model("rag", tiny_lm_folder)
    monkeypatch.setattr(pipeline.get_component("generator"), "run", reply)
    inputs = {name: {"query": QUERY} for name in ("bm25", "dense", "ranker", "answer")}
    found = pipeline.run({**inputs, "prompt": {"question": QUERY}})
    [answer] = found["answer"]["answers"]
    assert answer.data == "It calls both." and answer.query == QUERY
    assert {document.id for document in answer.documents} == {"with", "gen", "dict"}
    assert QUERY in seen[0] and all(document.content in seen[0] for document in DOCUMENTS)


def test_cited_rag_attributes_the_answer(here, tiny_lm_folder, monkeypatch):
    from haystack.dataclasses import ChatMessage

    def reply(messages, generation_kwargs=None):
        return {"replies": [ChatMessage.from_assistant("It calls both [7]. So it is.")]}

    pipeline = with_model("cited_rag", tiny_lm_folder)
    monkeypatch.setattr(pipeline.get_component("generator"), "run", reply)
    pipeline.get_component("citations").score_threshold = -1e9
    inputs = {name: {"query": QUERY} for name in ("bm25", "dense", "ranker", "answer")}
    found = pipeline.run({**inputs, "prompt": {"question": QUERY}})
    [answer] = found["citations"]["answers"]
    first, second = answer.meta["trlm"]["sentences"]
    assert first["markers"][0]["document_id"] is None
    numbers = [sentence["citations"][0]["number"] for sentence in (first, second)]
    assert answer.data == "It calls both [7] [{}]. So it is [{}].".format(*numbers)
    assert answer.query == QUERY and len(answer.documents) == 3


@pytest.mark.parametrize("name", ["rag", "cited_rag"])
def test_nothing_is_generated_where_no_passage_is_found(here, tiny_lm_folder, monkeypatch, name):
    def reply(messages, generation_kwargs=None):
        raise AssertionError("the generator was asked")

    pipeline = with_model(name, tiny_lm_folder)
    monkeypatch.setattr(pipeline.get_component("generator"), "run", reply)
    monkeypatch.setattr(pipeline.get_component("generator"), "warm_up", lambda: None)
    nowhere = {"field": "meta.title", "operator": "==", "value": "nowhere"}
    asked = {"query": QUERY, "filters": nowhere}
    inputs = {name: {"query": QUERY} for name in ("ranker", "answer")}
    inputs |= {"bm25": asked, "dense": asked, "prompt": {"question": QUERY}}
    assert pipeline.run(inputs) == {"found": {"nothing": "no passage found"}}


def test_a_mistake_of_the_client_is_told_apart(here, tiny_lm_folder, monkeypatch):
    def fail(**inputs):
        raise ModelError("the model is damaged") from ValueError("not JSON")

    pipeline = with_model("retrieval", tiny_lm_folder)
    malformed = search_inputs(QUERY, 3, False, {"field": "meta.title"})
    with pytest.raises(ValueError, match="filters: 'operator' is missing"):
        run_for_client(pipeline, malformed)
    monkeypatch.setattr(pipeline.get_component("ranker"), "run", fail)
    with pytest.raises(PipelineRuntimeError, match="the model is damaged"):
        run_for_client(pipeline, search_inputs(QUERY, 3, False))


def test_indexing_writes_what_the_retrievers_read(tmp_path, monkeypatch, word_embedder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(index_module, "shared_embedder", lambda name: word_embedder)
    (tmp_path / "a.md").write_text("# Title\n\nA note about generators.\n")
    (tmp_path / "b.txt").write_text("Plain text about dictionaries. " * 60)
    (tmp_path / "c.html").write_text(
        "<html><body><p>A page about context managers, which is long enough to be taken "
        "for the main text of it.</p></body></html>"
    )
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("def drain():\n    return 1\n")
    (tmp_path / "code/b.csv").write_text("name,price\nPump,10\n")
    (tmp_path / "code/c.png").write_bytes(b"x")
    pipeline = load("indexing")
    written = pipeline.run({"reader": {"sources": ["a.md", "b.txt", "c.html", "code"]}})
    index = PassageIndex.open("trlm-index")
    assert len(index) == written["writer"]["documents_written"] >= 4
    assert written["reader"]["skipped"] == [
        {"path": "code/c.png", "reason": ".png files are not read"}
    ]
    assert "drain" in index.search_bm25("drain", top_k=1)[0].content
    assert "generators" in index.search_bm25("generators", top_k=1)[0].content
    assert all(len(d.content) <= 800 for d in index.documents())
    again = load("indexing").run({"reader": {"sources": ["a.md"]}})
    assert again["writer"]["documents_written"] >= 1
    assert len(PassageIndex.open("trlm-index")) == len(index)


def test_an_unknown_key_is_named():
    broken = yaml.safe_load(path("retrieval").read_text(encoding="utf-8"))
    broken["components"]["ranker"]["init_parameters"]["modle"] = "x"
    with pytest.raises(DeserializationError, match="modle"):
        Pipeline.loads(yaml.safe_dump(broken))


@pytest.mark.slow
def test_rag_with_the_pulled_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PassageIndex.build("trlm-index", DOCUMENTS, embedder="minilm")
    inputs = {name: {"query": QUERY} for name in ("bm25", "dense", "ranker", "answer")}
    found = load("rag").run({**inputs, "prompt": {"question": QUERY}})
    [answer] = found["answer"]["answers"]
    assert answer.documents[0].id == "with" and len(answer.data) > 10
