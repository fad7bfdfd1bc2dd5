"""`trlm index --expand`: predicted queries are kept, and BM25 finds passages by their words."""

import json

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import generate_queries
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.documents import passage_text


def test_bm25_counts_the_words_of_predicted_queries(run, tmp_path, tiny_lm_folder):
    (tmp_path / "note.txt").write_text("A generator yields values one at a time.")
    outcome = run("index", "note.txt", "--expand", 2, "--model", tiny_lm_folder, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["predicted_queries"] == 2
    index = PassageIndex.open("trlm-index")
    [document] = index.documents()
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder)
    [expected] = generate_queries(lm, [passage_text(document)], 2, max_passage_tokens=512)
    queries = document.meta["predicted_queries"]
    assert queries == [query.text for query in expected]
    assert index.search_bm25(queries[0])
    plain = run("index", "note.txt", "--index", "plain", "--json")
    assert json.loads(plain.out)["predicted_queries"] == 0
    [unexpanded] = PassageIndex.open("plain").documents()
    assert "predicted_queries" not in unexpanded.meta


def test_bad_input(run):
    assert run("index", "note.txt", "--expand", -1).code == 2
    assert "files and folders" in run("index", "--expand", 2, "--states").err
    assert "--expand" in run("index", "note.txt", "--model", "x").err
