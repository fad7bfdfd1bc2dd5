"""ScoreJoiner: several retrievers' lists become one by their standardised scores."""

import logging

import numpy as np
import pytest
from haystack import Document, Pipeline

from trlm_retrieval.components import ScoreJoiner


def documents(**scores: float | None) -> list[Document]:
    return [Document(id=name, content=name, score=score) for name, score in scores.items()]


def joined(*lists: list[Document], **settings) -> dict[str, float | None]:
    found = ScoreJoiner(**settings).run(list(lists))["documents"]
    return {document.id: document.score for document in found}


def test_the_mean_of_standardised_scores_whatever_their_scale():
    words, meaning = documents(a=9.0, b=5.0, c=1.0), documents(c=0.7, b=0.6, a=0.2)
    z = {
        name: (np.array([9, 5, 1])[n] - 5) / np.std([9, 5, 1]) / 2
        + (np.array([0.2, 0.6, 0.7])[n] - 0.5) / np.std([0.7, 0.6, 0.2]) / 2
        for n, name in enumerate("abc")
    }
    found = joined(words, meaning)
    assert list(found) == sorted(z, key=lambda name: -z[name])
    assert found == pytest.approx(z)
    stretched = documents(**{d.id: 100 * d.score + 7 for d in meaning})
    assert joined(words, stretched) == pytest.approx(found)


def test_how_far_one_stands_above_the_others_counts_and_ranks_alone_do_not():
    # Both have the same ranks in both; what differs is by how much.
    surely, hardly = documents(a=9.0, b=1.0, c=0.9, d=0.8), documents(b=0.6, a=0.5, c=0.1, d=0.1)
    assert next(iter(joined(surely, hardly))) == "a"
    hardly, surely = documents(a=4.0, b=3.9, c=1.0, d=0.9), documents(b=0.9, a=0.2, c=0.1, d=0.1)
    assert next(iter(joined(hardly, surely))) == "b"


def test_what_a_retriever_did_not_find_has_its_lowest_score_or_one_deviation_below_its_mean():
    found = joined(documents(a=9.0, b=8.0, c=1.0), documents(d=0.5))
    lowest = (1 - 6) / np.std([9, 8, 1])
    assert lowest < -1
    assert found["c"] == pytest.approx((lowest - 1) / 2)
    assert found["d"] == pytest.approx((lowest + 0) / 2)
    # A single hit stands above what its retriever did not find.
    assert next(iter(joined(documents(a=3.0), documents(b=0.5, a=0.5)))) == "a"


def test_weights_and_how_many():
    words, meaning = documents(a=2.0, b=1.0), documents(b=0.9, a=0.1)
    assert list(joined(words, meaning, weights=[3, 1])) == ["a", "b"]
    assert list(joined(words, meaning, weights=[1, 3])) == ["b", "a"]
    assert joined(words, meaning, weights=[1, 0]) == pytest.approx({"a": 1.0, "b": -1.0})
    assert len(joined(words, meaning, top_k=1)) == 1
    assert len(ScoreJoiner(top_k=1).run([words, meaning], top_k=2)["documents"]) == 2


def test_nothing_found_and_documents_found_twice():
    assert joined() == joined([], []) == {}
    assert list(joined([], documents(a=2.0, b=1.0))) == ["a", "b"]
    twice = [*documents(a=3.0, b=2.0), *documents(a=1.0)]
    assert list(joined(twice)) == ["a", "b"]


def test_documents_given_are_left_as_they_are():
    given = documents(a=2.0, b=1.0)
    ScoreJoiner().run([given])
    assert [document.score for document in given] == [2.0, 1.0]


def test_a_missing_or_odd_score_is_told_and_fails_nothing(caplog):
    odd = documents(a=2.0, b=1.0, c=None, d=float("nan"), e=float("inf"))
    with caplog.at_level(logging.WARNING):
        found = joined(odd)
    assert list(found)[:2] == ["a", "b"]
    assert all(np.isfinite(list(found.values())))
    assert "3 documents" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_k": 0}, "top_k must be positive"),
        ({"weights": [1.0, -1.0]}, "weights must be"),
        ({"weights": [0.0, 0.0]}, "weights must be"),
        ({"weights": [float("nan")]}, "weights must be"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ScoreJoiner(**settings)


def test_bad_runs():
    with pytest.raises(ValueError, match="2 weights do not fit 1 list"):
        ScoreJoiner(weights=[1.0, 2.0]).run([documents(a=1.0)])
    with pytest.raises(ValueError, match="top_k must be positive"):
        ScoreJoiner().run([], top_k=-1)


def test_it_stands_in_a_pipeline_that_is_written_and_read():
    pipeline = Pipeline()
    pipeline.add_component("one", ScoreJoiner())
    pipeline.add_component("other", ScoreJoiner())
    pipeline.add_component("fusion", ScoreJoiner(weights=[1.0, 2.0], top_k=2))
    pipeline.connect("one.documents", "fusion.documents")
    pipeline.connect("other.documents", "fusion.documents")
    data = {
        "one": {"documents": documents(a=2.0, b=1.0, c=0.5)},
        "other": {"documents": documents(b=0.9, a=0.1)},
    }
    loaded = Pipeline.loads(pipeline.dumps())
    found = loaded.run(data)["fusion"]["documents"]
    assert [document.id for document in found] == ["b", "a"]
    assert loaded.dumps() == pipeline.dumps()
