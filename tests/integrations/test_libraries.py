"""The adapters in the real libraries, each where it is installed; `make test-all` installs them."""

import pytest

from trlm_retrieval import Reranker

TEXTS = ["a small red tree", "the window beside a lamp", "many long words about nothing at all"]
QUERY = "red lamp"


@pytest.fixture
def reranker(tiny_lm):
    return Reranker(tiny_lm)


@pytest.fixture
def expected(reranker):
    """(index, score) of the texts, best first."""
    return [(found.index, found.score) for found in reranker.rank(QUERY, TEXTS)]


@pytest.fixture
def mixed(tiny_lm):
    """The same where the texts come with scores 3, 2, 1."""
    given = [{"text": text, "score": 3.0 - n} for n, text in enumerate(TEXTS)]
    return [(found.index, found.score) for found in Reranker(tiny_lm).rank(QUERY, given)]


async def test_langchain(reranker, expected):
    pytest.importorskip("langchain_core")
    from langchain_core.documents import Document

    from trlm_retrieval.integrations.langchain import TRLMCompressor

    documents = [Document(page_content=text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    compressor = TRLMCompressor(reranker=reranker, top_n=2)
    found = compressor.compress_documents(documents, QUERY)
    assert [document.metadata["n"] for document in found] == [index for index, _ in expected[:2]]
    assert [document.metadata["relevance_score"] for document in found] == pytest.approx(
        [score for _, score in expected[:2]], abs=1e-3
    )
    assert found[0].metadata["cut_tokens"] == 0 and "cut_tokens" not in documents[0].metadata
    later = await compressor.acompress_documents(documents, QUERY)
    assert [document.page_content for document in later] == [d.page_content for d in found]
    assert compressor.compress_documents([], QUERY) == []
    with pytest.raises(ValueError, match="top_n"):
        TRLMCompressor(reranker=reranker, top_n=0)


async def test_llamaindex(reranker, expected, mixed):
    pytest.importorskip("llama_index.core")
    from llama_index.core.schema import NodeWithScore, TextNode

    from trlm_retrieval.integrations.llamaindex import TRLMPostprocessor

    def nodes(scores):
        return [
            NodeWithScore(node=TextNode(id_=str(n), text=text), score=score)
            for n, (text, score) in enumerate(zip(TEXTS, scores, strict=True))
        ]

    postprocessor = TRLMPostprocessor(reranker, top_n=2)
    found = postprocessor.postprocess_nodes(nodes([None] * 3), query_str=QUERY)
    assert [int(node.node.id_) for node in found] == [index for index, _ in expected[:2]]
    assert [node.score for node in found] == pytest.approx([s for _, s in expected[:2]], abs=1e-3)
    later = await postprocessor.apostprocess_nodes(nodes([3.0, 2.0, 1.0]), query_str=QUERY)
    assert [int(node.node.id_) for node in later] == [index for index, _ in mixed[:2]]
    assert postprocessor.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(ValueError, match="a query is needed"):
        postprocessor.postprocess_nodes(nodes([None] * 3))


def test_pyterrier(reranker, expected, mixed):
    pytest.importorskip("pyterrier")
    import pandas as pd

    from trlm_retrieval.integrations.pyterrier import TRLMTransformer

    frame = pd.DataFrame(
        [
            {"qid": qid, "query": QUERY, "docno": f"d{n}", "text": text}
            for qid in ("q1", "q2")
            for n, text in enumerate(TEXTS)
        ]
    )
    transformer = TRLMTransformer(reranker)
    found = transformer(frame)
    for _, rows in found.groupby("qid"):
        ordered = rows.sort_values("rank")
        assert list(ordered["docno"]) == [f"d{index}" for index, _ in expected]
        assert list(ordered["score"]) == pytest.approx([s for _, s in expected], abs=1e-3)
    found = transformer(frame.assign(score=[3.0, 2.0, 1.0] * 2))
    ordered = found[found["qid"] == "q2"].sort_values("rank")
    assert list(ordered["docno"]) == [f"d{index}" for index, _ in mixed]
    assert not len(transformer(frame.iloc[:0]))


async def test_rerankers(reranker, expected):
    pytest.importorskip("rerankers")
    from rerankers import Document

    from trlm_retrieval.integrations.rerankers import TRLMRerankers

    ranker = TRLMRerankers(reranker)
    found = ranker.rank(QUERY, TEXTS, doc_ids=["a", "b", "c"])
    assert [result.doc_id for result in found] == ["abc"[index] for index, _ in expected]
    assert [result.rank for result in found] == [1, 2, 3]
    assert found.get_score_by_docid("b") == pytest.approx(dict(expected)[1], abs=1e-3)
    assert ranker.score(QUERY, TEXTS[1]) == pytest.approx(dict(expected)[1], abs=1e-3)
    documents = [Document(text=text, doc_id=n) for n, text in enumerate(TEXTS)]
    assert [r.doc_id for r in ranker.rank(QUERY, documents).top_k(1)] == [expected[0][0]]
    assert len((await ranker.rank_async(QUERY, TEXTS)).results) == 3
    assert ranker.rank(QUERY, []).results == []
