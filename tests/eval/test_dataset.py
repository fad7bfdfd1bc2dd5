"""Collections: what is wrong with one is told, with file and line."""

import json

import datasets
import pytest
from haystack import Document

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.evaluation import sample_queries


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
        ("queries.jsonl", '{"_id": "q7", "text": 7}', r"queries\.jsonl, line 4"),
        ("queries.jsonl", '{"_id": "q7"}', r"queries\.jsonl, line 4"),
        (
            "corpus.jsonl",
            '{"_id": "d1", "text": "x"}',
            r"corpus\.jsonl, line 5: .*'d1' stood already in line 1",
        ),
        (
            "queries.jsonl",
            '{"_id": "q1", "text": "x"}',
            r"queries\.jsonl, line 4: .*'q1' stood already in line 1",
        ),
        ("corpus.jsonl", '{"_id": "", "text": "x"}', r"corpus\.jsonl, line 5"),
        ("corpus.jsonl", '{"_id": null, "text": "x"}', r"corpus\.jsonl, line 5"),
        ("corpus.jsonl", '{"_id": "d7", "text": "x", "title": 5}', "title must be a string"),
        ("corpus.jsonl", '{"_id": "d7", "text": "caf\xe9"}', r"corpus\.jsonl, line 5"),
        ("qrels/test.tsv", "q1\td2\t1\tmore", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\tcaf\xe9\t1", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\td2", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\td2\thigh", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\td2\t1.5", r"test\.tsv, line 7.*not a whole number"),
        ("qrels/test.tsv", "q1\td2\tnan", r"test\.tsv, line 7"),
        ("qrels/test.tsv", "q1\t\t1", r"test\.tsv, line 7.*an id is empty"),
        ("qrels/test.tsv", "q1\td1\t1", r"line 7: .* the grade 1 .*, and line 2 gives it 2"),
    ],
)
def test_malformed_lines_are_errors(beir, file, line, message):
    with (beir / file).open("a", encoding="latin-1") as out:
        out.write(line + "\n")
    with pytest.raises(DataError, match=message):
        load_dataset(str(beir))


def test_a_null_is_no_text_and_fails_nothing_else(beir):
    before = len(load_dataset(str(beir)).documents)
    for row in ({"title": "Only a title"}, {"title": None}, {}):
        number = sum(1 for _ in (beir / "corpus.jsonl").open())
        append(beir / "corpus.jsonl", json.dumps({"_id": f"n{number}", "text": None} | row))
    append(beir / "queries.jsonl", json.dumps({"_id": "q4", "text": None}))
    append(beir / "qrels" / "test.tsv", "q4\td1\t1")
    dataset = load_dataset(str(beir))
    assert [document.content for document in dataset.documents[before:]] == ["Only a title"]
    assert "q4" not in dataset.queries
    assert any("3 documents have no text; 1 of them" in told for told in dataset.warnings)


def test_a_judged_query_without_text_is_left_out(beir):
    append(beir / "queries.jsonl", json.dumps({"_id": "q4", "text": " \n"}))
    append(beir / "qrels" / "test.tsv", "q4\td1\t1")
    dataset = load_dataset(str(beir))
    assert "q4" not in dataset.queries and "q4" not in dataset.qrels
    assert dataset.warnings == ["1 judged queries have no text and are left out"]


def test_a_query_that_nothing_can_answer_is_told(beir):
    append(beir / "queries.jsonl", json.dumps({"_id": "q4", "text": "where"}))
    append(beir / "qrels" / "test.tsv", "q4\tnowhere\t1")
    dataset = load_dataset(str(beir))
    assert dataset.qrels["q4"] == {"nowhere": 1}
    assert "1 queries have no relevant document in the corpus and count 0" in dataset.warnings


def test_judgements_with_a_mark_of_the_byte_order_blank_lines_or_no_header(beir):
    qrels = beir / "qrels" / "test.tsv"
    expected = load_dataset(str(beir)).qrels
    text = qrels.read_text()
    for variant in ("\ufeff" + text, text.replace("\n", "\r\n\r\n"), text.partition("\n")[2]):
        qrels.write_bytes(variant.encode())
        assert load_dataset(str(beir)).qrels == expected


def test_the_demo_tells_what_this_python_does_not_hold(monkeypatch):
    """Another Python cuts passages elsewhere: what it lacks is told, never counted as zero."""
    from trlm_retrieval import index_data

    monkeypatch.setattr(index_data, "demo_qrels", lambda: {"q": {"gone": 3}, "r": {"here": 1}})
    monkeypatch.setattr(index_data, "demo_queries", lambda: {"q": "one", "r": "two"})
    monkeypatch.setattr(index_data, "demo_documents", lambda: [Document(id="here", content="x")])
    dataset = load_dataset("demo")
    assert dataset.queries == {"r": "two"}
    assert dataset.warnings == [
        "1 judged passages are not in this Python's reference",
        "1 queries have no relevant document and are left out",
    ]


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
    with pytest.raises(DataError, match=r"corpus\.jsonl does not exist; a BEIR folder holds"):
        load_dataset(str(beir))


@pytest.fixture
def hub(monkeypatch):
    """Tables that the hub holds, by what is asked for; all other names are unknown."""
    tables = {
        ("BeIR/tiny", "corpus"): [{"_id": "d1", "title": "T", "text": "one"}],
        ("BeIR/tiny", "queries"): [{"_id": "q1", "title": "", "text": "first"}],
        ("BeIR/tiny-qrels", "dev"): [{"query-id": "q1", "corpus-id": "d1", "score": 1}],
    }

    def load(name, config=None, split=None):
        if (name, split) not in tables:
            raise ValueError(f"no {split} in {name}")
        return datasets.Dataset.from_list(tables[name, split])

    monkeypatch.setattr(datasets, "load_dataset", load)
    return tables


def test_loads_a_hub_id(hub):
    dataset = load_dataset("BeIR/tiny", "dev")
    assert dataset.name == "BeIR/tiny" and dataset.queries == {"q1": "first"}
    assert [(d.id, d.content, d.meta) for d in dataset.documents] == [("d1", "one", {"title": "T"})]
    assert dataset.qrels == {"q1": {"d1": 1}}
    hub["BeIR/tiny", "corpus"] *= 2
    with pytest.raises(DataError, match=r"BeIR/tiny, corpus, row 2: .* already in row 1"):
        load_dataset("BeIR/tiny", "dev")


def test_a_hub_id_that_is_unknown_and_a_path_that_looks_like_one(hub, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="neither a folder nor a collection that the hub gives"):
        load_dataset("BeIR/unknown")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="no such folder"):
        load_dataset("data/mistyped")


def test_no_relevant_document_at_all(beir):
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(DataError, match="no judgement is for one of the queries"):
        load_dataset(str(beir))
    (beir / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\n")
    with pytest.raises(DataError, match="no query with text has a relevant document"):
        load_dataset(str(beir))


def test_samples_are_seeded_and_without_replacement(beir):
    dataset = load_dataset(str(beir))
    drawn = [set(sample_queries(dataset, 2, seed).queries) for seed in range(8)]
    assert all(len(queries) == 2 for queries in drawn)
    assert drawn[0] == set(sample_queries(dataset, 2, 0).queries)
    assert len({frozenset(queries) for queries in drawn}) > 1
    assert sample_queries(dataset, None, 0) is dataset
    assert sample_queries(dataset, 3, 0).warnings == []
    everything = sample_queries(dataset, 99, 0)
    assert everything.queries == dataset.queries
    [note] = everything.warnings
    assert note == "99 queries were asked for; there are 3 judged ones, all are used"
    with pytest.raises(DataError, match="--queries"):
        sample_queries(dataset, 0, 0)
