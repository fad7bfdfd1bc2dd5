"""Expansion: the draw, BM25 with and without predicted queries, and the cache of queries."""

import numpy as np
import pytest
from haystack import Document

from trlm_retrieval.eval.dataset import RetrievalDataset
from trlm_retrieval.eval.query_cache import QueryCache
from trlm_retrieval.eval.studies.expansion import draw, evaluate_expansion
from trlm_retrieval.lm.generation import Sampling

DATASET = RetrievalDataset(
    "tiny",
    [Document(id=f"d{i}", content=f"passage about number {i}") for i in range(20)],
    {f"q{i}": f"which is {i}" for i in range(6)},
    {f"q{i}": {f"d{i}": 1, f"d{i + 6}": 0} for i in range(6)},
)


def test_the_draw_holds_what_is_relevant():
    drawn = draw(DATASET, 8)
    ids = {document.id for document in drawn.documents}
    assert len(ids) == 8 and len(drawn.queries) == 4
    assert all(f"d{query[1:]}" in ids for query in drawn.queries)
    assert draw(DATASET, 8) == drawn
    assert len(draw(DATASET, 100).documents) == 20 - 6  # judged ones that are not relevant go


def test_predicted_queries_change_what_bm25_finds(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setattr(
        QueryCache,
        "queries",
        lambda self, lm, texts, number, *rest: [[f"alpha{t[21:]}", "beta"][:number] for t in texts],
    )
    asking = RetrievalDataset(
        "tiny", DATASET.documents, {f"q{i}": f"alpha{i}" for i in range(6)}, DATASET.qrels
    )
    found = evaluate_expansion(asking, tiny_lm, "tiny", [1, 2], tmp_path).systems
    assert found["bm25"]["R@10"].mean == 0.0
    assert found["bm25 + 1 queries"]["R@10"].mean == 1.0
    assert found["bm25 + 2 queries"]["R@5"].mean == 1.0


def test_the_cache_generates_each_passage_once(tiny_lm, tmp_path, monkeypatch):
    path = tmp_path / "folder" / "queries.jsonl"
    template, sampling = tiny_lm.template("fo"), Sampling(max_tokens=4)

    def ask(passages, number=2, sampling=sampling):
        done = []
        found = QueryCache(path).queries(
            tiny_lm, passages, number, template, sampling, None, done.append
        )
        assert sum(done) == len(passages)
        return found

    first = ask(["one passage", "another"])
    with path.open("a") as file:
        file.write('{"key": "unfin')
    longer = ask(["another", "a third", "one passage"])
    assert [longer[2], longer[0]] == first
    monkeypatch.setattr(
        "trlm_retrieval.eval.query_cache.generate_queries",
        lambda *arguments, **options: pytest.fail("generated again"),
    )
    assert ask(["one passage", "a third"]) == [first[0], longer[1]]
    with pytest.raises(pytest.fail.Exception):
        ask(["one passage"], sampling=Sampling(max_tokens=4, seed=1))
    assert np.unique(longer[1]).size == len(longer[1])
