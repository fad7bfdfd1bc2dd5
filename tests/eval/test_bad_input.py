"""Bad input as a user meets it: exit code 2 and one line, or a result with notes."""

import json

import pytest

from trlm_retrieval.cli import run as run_cli


@pytest.fixture
def evaluate(beir, tmp_path, capsys):
    """Evaluates the tiny collection by BM25; gives exit code, lines on standard error, result."""

    def run(*arguments):
        out = tmp_path / "out.json"
        options = ["--data", beir, "--systems", "bm25", "--json", out]
        options += ["--cache-dir", tmp_path / "cache", *arguments]
        code = run_cli(["eval", "retrieval", *map(str, options)])
        lines = capsys.readouterr().err.splitlines()
        return code, lines, json.loads(out.read_text()) if code == 0 else None

    return run


def append(path, line):
    path.write_text(path.read_text() + line + "\n")


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("corpus.jsonl", '{"_id": "d7", "text": ', "line 5: not valid JSON"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}', "'d1' stood already in line 1"),
        ("queries.jsonl", '{"_id": "q7"}', "line 4: needs the keys _id and text"),
        (
            "qrels/test.tsv",
            "q1 0 d2 1",
            "line 7: needs a query id, a document id and a whole grade",
        ),
        ("qrels/test.tsv", "q1\td2\tnan", "the grade nan is not a whole number"),
    ],
)
def test_malformed_lines(file, line, told, beir, evaluate):
    append(beir / file, line)
    code, lines, _ = evaluate()
    assert code == 2 and len(lines) == 1
    assert lines[0].startswith(f"error: {beir / file}, ") and told in lines[0]


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("corpus.jsonl", '{"_id": "d7", "text": ""}', "1 documents have no text"),
        ("queries.jsonl", '{"_id": "q7", "text": "x"}', "1 queries have no judgement"),
        ("qrels/test.tsv", "q1\tnowhere\t1", "1 judged documents are not in the corpus"),
    ],
)
def test_oddities_are_noted(file, line, told, beir, evaluate):
    append(beir / file, line)
    code, lines, result = evaluate()
    assert code == 0 and result["queries"] == 3
    assert lines[0].startswith("note: ") and told in lines[0]
    assert len(result["warnings"]) == 1 and told in result["warnings"][0]


def test_an_empty_query_is_left_out_and_one_without_words_counts_zero(beir, evaluate):
    append(beir / "queries.jsonl", '{"_id": "q7", "text": ""}\n{"_id": "q8", "text": "?!"}')
    append(beir / "qrels/test.tsv", "q7\td1\t1\nq8\td1\t1")
    code, _, result = evaluate()
    assert code == 0 and result["queries"] == 4
    assert result["warnings"] == [
        "1 judged queries have no text and are left out",
        "bm25: 1 queries found nothing and count 0",
    ]
    assert result["per_query"]["bm25"]["nDCG@10"]["q8"] == 0.0


@pytest.mark.parametrize("text", ["", '{"_id": "d1", "title": "", "text": " "}\n'])
def test_an_empty_corpus(text, beir, evaluate):
    (beir / "corpus.jsonl").write_text(text)
    code, lines, _ = evaluate()
    assert code == 2 and lines == ["error: tiny: the corpus holds no document with text"]


def test_brackets_in_names_are_no_markup(beir, tmp_path, capsys):
    folder = beir.rename(tmp_path / "[red]")
    (folder / "queries.jsonl").open("a").write('{"_id": "q9", "text": "x"}\n')
    out, page = tmp_path / "[b].json", tmp_path / "[b].html"
    options = ["--data", folder, "--systems", "bm25", "--cache-dir", tmp_path / "cache"]
    options += ["--json", out, "--report", page, "--run-dir", tmp_path / "[i]"]
    assert run_cli(["eval", "retrieval", *map(str, options)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("[red]: 3 queries, no model")
    assert printed.err.splitlines() == [
        f"wrote {tmp_path / '[i]'}",
        f"wrote {page}",
        "note: 1 queries have no judgement in this split and are left out",
        f"wrote {out}",
    ]


def test_more_queries_than_there_are(evaluate):
    code, lines, result = evaluate("--queries", 99)
    assert code == 0 and result["queries"] == 3
    note = "99 queries were asked for; there are 3 judged ones, all are used"
    assert lines[0] == f"note: {note}" and result["warnings"] == [note]


def test_a_run_of_another_collection_or_with_a_score_that_is_no_number(tmp_path, evaluate):
    run = tmp_path / "given.trec"
    for line, told in (
        ("x1 Q0 d1 1 2.0 t", "no query of this collection"),
        ("q1 Q0 zz 1 2.0 t", "no query of this collection with a document of its corpus"),
        ("q1 Q0 d1 1 nan t", "given.trec, line 1"),
    ):
        run.write_text(line + "\n")
        code, lines, _ = evaluate("--systems", "fusion", "--first-stage-run", run)
        assert code == 2 and len(lines) == 1 and told in lines[0]


def test_a_run_that_lacks_queries_and_names_unknown_documents(tmp_path, evaluate):
    run = tmp_path / "given.trec"
    run.write_text("q1 Q0 d1 1 2.0 t\nq1 Q0 zz 2 1.0 t\n")
    code, _, result = evaluate("--systems", "fusion", "--first-stage-run", run)
    assert code == 0
    assert result["warnings"] == [
        "1 documents of the run are not in the corpus and are left out",
        "the run lacks 2 of 3 queries",
        "fusion: 2 queries found nothing and count 0",
    ]
    assert result["systems"]["fusion"]["nDCG@10"]["mean"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("option", ["--json", "--report", "--run-dir", "--cache-dir"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(option, beir, tmp_path, evaluate):
    place = beir / "corpus.jsonl" if option.endswith("dir") else beir
    code, lines, _ = evaluate(option, place)
    assert code == 2 and option in lines[-1] and str(place) in lines[-1]
    assert not (tmp_path / "cache").exists()


def test_ids_that_a_run_file_cannot_hold_are_told_before_the_work(beir, tmp_path, evaluate):
    append(beir / "corpus.jsonl", '{"_id": "a doc", "text": "spaced"}')
    code, lines, _ = evaluate("--run-dir", tmp_path / "runs")
    assert code == 2 and "the id 'a doc' holds white space" in lines[0]
    assert not (tmp_path / "cache").exists()
    assert evaluate()[0] == 0
