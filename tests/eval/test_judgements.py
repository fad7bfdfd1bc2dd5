"""Judgements are read in every dialect, and what is odd is told."""

import gzip

import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.judgements import read_judgements

WANTED = {"q1": {"d1": 2, "d4": 0}, "q2": {"d2": 1}, "q3": {"d3": 1, "d1": 0}}
ROWS = [(q, d, g) for q, grades in WANTED.items() for d, g in grades.items()]


def lines(row, *, header=""):
    return "".join(f"{line}\n" for line in [*([header] if header else []), *map(row, ROWS)])


DIALECTS = {
    "TREC with blanks": lines(lambda row: "{} 0 {} {}".format(*row)),
    "TREC with tabs": lines(lambda row: "{}\t0\t{}\t{}".format(*row)),
    "TREC in wide columns": lines(lambda row: "{:8}  Q0   {:8}  {} ".format(*row)),
    "BEIR": lines(lambda row: "{}\t{}\t{}".format(*row)),
    "BEIR with blanks": lines(lambda row: "{} {} {}".format(*row)),
    "other names": lines(lambda row: "{}\t{}\t{}".format(*row), header="qid\tdocno\trelevance"),
    "spaced names": lines(lambda row: "{}\t{}\t{}".format(*row), header="Query ID\tDoc ID\tLabel"),
    "TREC with a header": lines(
        lambda row: "{} 0 {} {}".format(*row), header="query_id iteration doc_id relevance"
    ),
    "another order": lines(
        lambda row: "{1}\t{2}\t{0}".format(*row), header="corpus-id\tscore\tquery-id"
    ),
    "more columns": lines(
        lambda row: "{}\t{}\t{}\tme".format(*row), header="query\tdocument\tgrade\tassessor"
    ),
    "numbers with a point": lines(lambda row: "{}\t{}\t{:.1f}".format(*row)),
    "a mark of the byte order": "\ufeff" + lines(lambda row: "{} 0 {} {}".format(*row)),
    "Windows": lines(lambda row: "{} 0 {} {}\r".format(*row)),
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=DIALECTS.keys())
def test_every_dialect_reads_the_same(beir, text):
    (beir / "qrels" / "test.tsv").write_bytes(text.encode())
    dataset = load_dataset(str(beir))
    assert dataset.qrels == WANTED and dataset.warnings == []


@pytest.mark.parametrize("name", ["test.txt", "test.qrels", "test.tsv.gz", "test.qrels.gz"])
def test_the_file_may_have_another_ending(beir, name):
    old = beir / "qrels" / "test.tsv"
    data = old.read_bytes()
    old.unlink()
    (beir / "qrels" / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert load_dataset(str(beir)).qrels == WANTED
    with pytest.raises(DataError, match=r"--split can be test$"):
        load_dataset(str(beir), "dev")


def test_ids_may_hold_blanks_where_tabs_separate(tmp_path):
    file = tmp_path / "q.tsv"
    file.write_text("first question\tdoc one\t1\n")
    assert [row[1:] for row in read_judgements(file)] == [("first question", "doc one", 1)]


def test_columns_must_stay_as_they_began(tmp_path):
    file = tmp_path / "q.tsv"
    file.write_text("q1 0 d1 1\nq1 d2 1\n")
    with pytest.raises(DataError, match=r"line 2: .*3 columns"):
        list(read_judgements(file))


def test_strays_and_repeated_rows_are_counted(beir):
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("q8\td1\t1\nq8\td2\t1\nq9\td1\t1\nq2\td2\t1\nq2\td2\t1.0\n")
    dataset = load_dataset(str(beir))
    assert dataset.qrels == WANTED
    assert dataset.warnings == [
        "2 judged queries are not among the queries and are left out",
        "2 judgements are repeated and count once",
    ]


@pytest.mark.parametrize("grades", [(1, 2), (2, 1), (1, 2, 1)])
def test_contradictions_stop_unless_the_higher_grade_is_asked_for(beir, grades, capsys):
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.writelines(f"q3\td2\t{grade}\n" for grade in grades)
    with pytest.raises(DataError, match=r"line 8: .*and line 7 .*--judgements highest"):
        load_dataset(str(beir))
    dataset = load_dataset(str(beir), judgements="highest")
    assert dataset.qrels["q3"]["d2"] == 2
    assert "1 documents have two grades for one query; the higher one counts" in dataset.warnings
    command = ["eval", "retrieval", "--data", str(beir), "--systems", "bm25"]
    assert run_cli([*command, "--cache-dir", str(beir / "cache")]) != 0
    assert run_cli([*command, "--cache-dir", str(beir / "c"), "--judgements", "highest"]) == 0
    assert run_cli([*command, "--judgements", "lowest"]) != 0
    assert "strict or highest" in capsys.readouterr().err
