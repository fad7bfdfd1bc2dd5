"""Collections: what is wrong with one is told, with file and line."""

import json

import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval import sample_queries


def append(path, line):
    path.write_text(path.read_text() + line + "\n")


def test_loads_a_beir_folder(beir):
    dataset = load_dataset(str(beir))
    assert [document.id for document in dataset.documents] == ["d1", "d2", "d3", "d4"]
    assert dataset.documents[0].meta == {"title": "With"}
    assert dataset.qrels["q1"] == {"d1": 2, "d4": 0}
    assert set(dataset.queries) == {"q1", "q2", "q3"} and dataset.warnings == []


def test_oddities_are_counted_and_told(beir):
    append(beir / "qrels" / "test.tsv", "q2\tnowhere\t1")
    append(beir / "queries.jsonl", json.dumps({"_id": "q9", "text": "not judged"}))
    append(beir / "queries.jsonl", json.dumps({"_id": "q8", "text": "nothing relevant"}))
    append(beir / "qrels" / "test.tsv", "q8\td1\t0")
    append(beir / "corpus.jsonl", json.dumps({"_id": "d8", "title": "Only a title", "text": ""}))
    append(beir / "corpus.jsonl", json.dumps({"_id": "d9", "text": " "}))
    dataset = load_dataset(str(beir))
    told = "\n".join(dataset.warnings)
    assert "1 judged documents are not in the corpus" in told
    assert "1 queries have no judgement" in told
    assert "1 queries have no relevant document" in told
    assert "2 documents have no text; 1 of them" in told
    assert "q8" not in dataset.queries and "q9" not in dataset.queries
    assert [d.content for d in dataset.documents if d.id == "d8"] == ["Only a title"]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("corpus.jsonl", "{broken", r"corpus\.jsonl, line 5"),
        ("corpus.jsonl", '{"_id": "d7"}', "needs the keys _id and text"),
        ("corpus.jsonl", '{"_id": "d7", "text": 5}', r"corpus\.jsonl, line 5"),
        ("queries.jsonl", '{"_id": "q7", "text": null}', r"queries\.jsonl, line 4"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}', "'d1' stands twice"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}', "'q1' stands twice"),
        ("qrels/test.tsv", "q1\td2", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\td2\thigh", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\td1\t1", "judges document 'd1' twice"),
        ("qrels/test.tsv", "q7\td1\t1", "name query 'q7'"),
    ],
)
def test_malformed_lines_are_errors(beir, file, line, message):
    append(beir / file, line)
    with pytest.raises(DataError, match=message):
        load_dataset(str(beir))


def test_quotes_in_ids_are_ids(beir):
    append(beir / "corpus.jsonl", json.dumps({"_id": '"odd', "text": "an odd one"}))
    append(beir / "qrels" / "test.tsv", 'q1\t"odd\t1')
    append(beir / "qrels" / "test.tsv", "q2\td1\t1")
    qrels = load_dataset(str(beir)).qrels
    assert qrels["q1"]['"odd'] == 1 and qrels["q2"]["d1"] == 1


def test_missing_files_and_folders(beir):
    with pytest.raises(DataError, match="--split can be test"):
        load_dataset(str(beir), "dev")
    with pytest.raises(DataError, match="no such folder"):
        load_dataset("./nowhere")
    (beir / "corpus.jsonl").write_text("")
    with pytest.raises(DataError, match="no document with text"):
        load_dataset(str(beir))
    (beir / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(str(beir))


def test_no_relevant_document_at_all(beir):
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\n")
    with pytest.raises(DataError, match="no query has a relevant document"):
        load_dataset(str(beir))


def test_samples_are_seeded_and_without_replacement(beir):
    dataset = load_dataset(str(beir))
    drawn = [set(sample_queries(dataset, 2, seed).queries) for seed in range(8)]
    assert all(len(queries) == 2 for queries in drawn)
    assert drawn[0] == set(sample_queries(dataset, 2, 0).queries)
    assert len({frozenset(queries) for queries in drawn}) > 1
    assert sample_queries(dataset, 99, 0) is dataset
    with pytest.raises(DataError, match="--queries"):
        sample_queries(dataset, 0, 0)
