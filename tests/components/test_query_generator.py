"""TRLMQueryGenerator writes queries for documents and replies, and BM25 counts their words."""

import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice

from trlm_retrieval.components import PassageIndexWriter, TRLMQueryGenerator
from trlm_retrieval.lm import Template
from trlm_retrieval.lm.generation import Sampling, generate_queries
from trlm_retrieval.passage_index import PassageIndex

DOCUMENTS = [
    Document(id="with", content="A block with a context manager.", meta={"title": "With"}),
    Document(id="empty", content=None),
    Document(id="gen", content="A generator yields values."),
]


def generator(lm, **settings):
    return TRLMQueryGenerator(lm, **{"number": 2, "max_tokens": 5, **settings})


def test_documents_are_copies_with_their_queries(tiny_lm):
    found = generator(tiny_lm).run(documents=DOCUMENTS)
    texts = ["With\nA block with a context manager.", "A generator yields values."]
    expected = generate_queries(tiny_lm, texts, 2, sampling=Sampling(max_tokens=5))
    [first, nothing, last] = found["queries"]
    assert [first, last] == [[query.text for query in queries] for queries in expected]
    assert nothing == []
    assert found["log_likelihoods"][0] == pytest.approx(
        [query.likelihood.sum for query in expected[0]], abs=1e-3
    )
    assert [doc.meta["predicted_queries"] for doc in found["documents"]] == [first, [], last]
    assert "predicted_queries" not in DOCUMENTS[0].meta


def test_replies_and_prompts(tiny_lm):
    replies = [ChatMessage.from_assistant("A generator yields values."), ChatMessage.from_user("")]
    found = generator(tiny_lm, direction="fo", prompt="Text: {passage}\nAsked:").run(
        replies=replies, number=3
    )
    template = Template("t", "forward", "Text: {passage}\nAsked:", " {query}")
    [expected] = generate_queries(
        tiny_lm, [replies[0].text or ""], 3, direction=template, sampling=Sampling(max_tokens=5)
    )
    assert found["queries"] == [[query.text for query in expected], []]
    assert found["documents"] == []
    assert generator(tiny_lm).run(replies=[" "])["queries"] == [[]]


def test_what_is_cut_is_counted(tiny_lm):
    short, long = "A generator yields values.", "A generator yields values. " * 9
    found = generator(tiny_lm, max_passage_tokens=30).run(replies=[long, short, ""])
    [pair] = tiny_lm.encode([("", long)], max_passage_tokens=30)
    assert found["cut_tokens"] == [pair.cut_tokens, 0, 0] and pair.cut_tokens > 0


def test_bm25_finds_documents_by_their_predicted_queries(tmp_path, tiny_lm):
    document = Document(id="a", content="Paris.", meta={"predicted_queries": ["french capital"]})
    other = Document(id="b", content="Berlin.")
    index = PassageIndex.build(tmp_path / "index", [document, other], embedder=None)
    assert [found.id for found in index.search_bm25("which capital")] == ["a"]
    index.add([Document(id="c", content="Rome.")])
    assert [found.id for found in index.search_bm25("which capital")] == ["a"]


def test_stands_before_an_index_writer(tmp_path, tiny_lm, tiny_lm_folder):
    pipeline = Pipeline()
    pipeline.add_component(
        "queries",
        TRLMQueryGenerator(
            str(tiny_lm_folder),
            number=2,
            direction="fo",
            prompt="{passage} Asked:",
            temperature=0.9,
            top_p=0.8,
            max_tokens=4,
            seed=7,
            meta_fields_to_embed=[],
            max_passage_tokens=50,
            device=ComponentDevice.from_str("cpu"),
            dtype="float32",
        ),
    )
    pipeline.add_component("writer", PassageIndexWriter(str(tmp_path / "i"), embedder=None))
    pipeline.connect("queries.documents", "writer.documents")
    again = Pipeline.loads(pipeline.dumps())
    first = pipeline.get_component("queries").to_dict()
    assert again.get_component("queries").to_dict() == first
    again.run({"queries": {"documents": [DOCUMENTS[0], DOCUMENTS[2]]}})
    assert all(
        len(document.meta["predicted_queries"]) == 2
        for document in PassageIndex.open(tmp_path / "i").documents()
    )
    with pytest.raises(ValueError, match="loaded model cannot be serialised"):
        generator(tiny_lm).to_dict()


async def test_runs_async(tiny_lm):
    found = await generator(tiny_lm).run_async(documents=DOCUMENTS)
    expected = generator(tiny_lm).run(documents=DOCUMENTS)
    assert found["queries"] == expected["queries"]
    for one, other in zip(found["log_likelihoods"], expected["log_likelihoods"], strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_bad_input(tiny_lm):
    with pytest.raises(ValueError, match="either documents or replies"):
        generator(tiny_lm).run()
    with pytest.raises(ValueError, match="either documents or replies"):
        generator(tiny_lm).run(documents=DOCUMENTS, replies=["a"])
    for number in (0, -1):
        with pytest.raises(ValueError, match="number must be positive"):
            generator(tiny_lm).run(documents=DOCUMENTS, number=number)
    with pytest.raises(ValueError, match=r"hold \{passage\} once"):
        generator(tiny_lm, prompt="no place")
    for settings in ({"number": 0}, {"max_passage_tokens": 0}, {"temperature": -1}):
        with pytest.raises(ValueError, match="must be"):
            generator(tiny_lm, **settings)
