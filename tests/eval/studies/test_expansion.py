"""What is counted beside the passages, which queries are kept, and which setting wins."""

import sys

import numpy as np
import pytest

from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.first_stage import search
from trlm_retrieval.eval.runs import ranked
from trlm_retrieval.eval.studies import expansion
from trlm_retrieval.lm.generation import generate_queries
from trlm_retrieval.passage_index.documents import passage_text


def test_the_share_is_of_all_queries_and_not_of_each_passage():
    written = [["a", "b"], [], ["c", "d"]]
    scores = [[-1.0, -2.0], [], [-9.0, -3.0]]
    assert expansion.best_share(written, scores, 0.5) == [["a", "b"], [], []]
    assert expansion.best_share(written, scores, 0.75) == [["a", "b"], [], ["d"]]
    assert expansion.best_share(written, scores, 1.0) == written


def test_a_part_holds_queries_that_it_answers(beir):
    dataset = load_dataset(str(beir))
    assert expansion.part(dataset, None) is dataset
    assert expansion.part(dataset, 4) is dataset
    small = expansion.part(dataset, 2)
    ids = {document.id for document in small.documents}
    assert len(ids) == 2
    assert set(small.queries) == {
        query
        for query, grades in dataset.qrels.items()
        if any(grade > 0 for document, grade in grades.items() if document in ids)
    }
    assert all(set(grades) <= ids for grades in small.qrels.values())
    larger = {document.id for document in expansion.part(dataset, 3).documents}
    assert ids < larger


def test_without_queries_it_is_the_search_of_the_evaluation(beir, tmp_path, monkeypatch):
    dataset = load_dataset(str(beir))
    runs = search(dataset, ("bm25", "dense"), (), 100, "minilm", tmp_path, {}, False)
    nothing = [[] for _ in dataset.documents]
    assert expansion.bm25_run(dataset, nothing) == runs["bm25"]
    monkeypatch.setattr(expansion, "values_of", lambda measures, run, qrels: run)
    found = expansion.evaluate_settings(dataset, {expansion.PLAIN: nothing}, tmp_path)
    fused = found["fusion"][expansion.PLAIN]
    assert {q: ranked(run) for q, run in fused.items()} == {
        q: ranked(run) for q, run in runs["fusion"].items()
    }
    written = [["shell"], [], [], []]
    dataset.queries["q1"] = "shell"
    assert set(expansion.bm25_run(dataset, nothing)["q1"]) == {"d4"}
    assert set(expansion.bm25_run(dataset, written)["q1"]) == {"d1", "d4"}


def test_settings_are_those_queries_that_the_model_finds_best(beir, tiny_lm, tmp_path):
    texts = [passage_text(document) for document in load_dataset(str(beir)).documents]
    settings, cost = expansion.write_queries(tiny_lm, texts, 2, tmp_path)
    assert "processor time a passage" in cost
    assert "cache" in expansion.write_queries(tiny_lm, texts, 2, tmp_path)[1]
    found = generate_queries(tiny_lm, texts, 2, max_passage_tokens=512)
    assert settings["2 queries"] == [[query.text for query in queries] for queries in found]
    scored = [
        (text, query.text, *_scores(tiny_lm, query.text, text))
        for text, queries in zip(texts, found, strict=True)
        for query in queries
    ]
    for column, way in ((2, "likelihood"), (3, "likelihood a token"), (4, "gain")):
        best = sorted(scored, key=lambda row: -row[column])[: len(scored) // 2]
        kept = settings[f"2 queries, best 50% by {way}"]
        pairs = {(text, q) for text, queries in zip(texts, kept, strict=True) for q in queries}
        assert pairs == {row[:2] for row in best}


def _scores(lm, query, text):
    [one] = lm.score([(query, text)], prior=True)
    return one.sum, one.mean, one.gain


def test_one_half_chooses_and_the_other_is_reported():
    def values(*each):
        return {"nDCG@10": dict(zip("abcd", each, strict=True))}

    found = {
        expansion.PLAIN: values(1, 1, 1, 1),
        "one": values(0.9, 0, 0.5, 0),  # better where it is chosen
        "two": values(0.1, 1, 0.5, 1),
    }
    assert expansion.choose({"x": {"BM25": found}}, "BM25") == "one"
    assert expansion.half(found["two"], False)["nDCG@10"] == {"b": 1, "d": 1}
    assert np.isclose(expansion.mean(expansion.half(found["one"], True)), 0.7)


def test_the_command_prints_every_setting(beir, tiny_lm_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [str(beir), "--model", str(tiny_lm_folder), "--queries", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["expansion", *arguments])
    expansion.main()
    shown = capsys.readouterr().out
    assert shown.count("queries, best 50% by gain") >= 2
    assert "tiny, 1 other queries" in shown


@pytest.mark.parametrize("number", [0, -1])
def test_a_part_needs_a_passage(beir, number):
    with pytest.raises(ValueError, match="passages"):
        expansion.part(load_dataset(str(beir)), number)
