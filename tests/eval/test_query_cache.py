"""The cache of generated queries: a passage is read once, and a killed write is made again."""

import numpy as np
import pytest

from trlm_retrieval.eval.query_cache import QueryCache
from trlm_retrieval.lm.generation import Sampling


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
