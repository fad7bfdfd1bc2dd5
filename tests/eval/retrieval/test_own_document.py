"""A query that stands in the corpus is no result of its own."""

import gzip
import json

import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.eval.dataset import load_dataset, own_documents
from trlm_retrieval.eval.retrieval.evaluation import evaluate_retrieval
from trlm_retrieval.eval.runs import read_run, write_run

ANSWER = "Nuclear power is costly and slow to build."
QUERY = "Nuclear power is cheap and quick to build."
NOTE = (
    "1 queries stand in the corpus as documents with their id and text; each is left out of its "
    "own results"
)


@pytest.fixture
def arguments(tmp_path):
    """A collection whose one query stands in its corpus; gives a function that writes it."""

    def write(own_id="q1", own_text=QUERY, title=""):
        folder = tmp_path / "arguments"
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        rows = [
            {"_id": own_id, "title": title, "text": own_text},
            {"_id": "d1", "text": ANSWER},
            {"_id": "d2", "text": "Coal is dug from mines."},
        ]
        (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": QUERY}) + "\n")
        (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
        return load_dataset(str(folder))

    return write


def evaluated(dataset, tmp_path, **settings):
    return evaluate_retrieval(
        dataset, None, "none", ["bm25"], cache_folder=tmp_path / "cache", **settings
    )


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("text", [QUERY, f" {QUERY}\n", QUERY.replace(" ", "  ")])
def test_it_is_left_out_and_counted(arguments, tmp_path, text, top_k):
    found = evaluated(arguments(own_text=text), tmp_path, top_k=top_k)
    assert found.result.systems["bm25"]["nDCG@10"].mean == 1.0
    assert "q1" not in found.runs["bm25"]["q1"] and NOTE in found.result.warnings


def test_a_title_that_is_part_of_the_query_counts(arguments):
    title, _, rest = QUERY.partition(" is ")
    assert own_documents(arguments(own_text=f"is {rest}", title=title)) == {"q1"}


@pytest.mark.parametrize(
    "changed", [{"own_text": "Coal is cheap and quick to build."}, {"own_id": "d9"}]
)
def test_an_equal_id_or_an_equal_text_alone_means_nothing(arguments, tmp_path, changed):
    dataset = arguments(**changed)
    found = evaluated(dataset, tmp_path)
    assert own_documents(dataset) == set() and NOTE not in found.result.warnings
    assert changed.get("own_id", "q1") in found.runs["bm25"]["q1"]


def test_it_is_left_out_of_a_given_run_and_of_the_judgements(arguments, tmp_path):
    dataset = arguments()
    dataset.qrels["q1"]["q1"] = 1
    given = {"q1": {"q1": 3.0, "d1": 2.0}}
    found = evaluate_retrieval(
        dataset, None, "none", ["fusion"], cache_folder=tmp_path, first_stage_run=given
    )
    assert found.runs["fusion"] == {"q1": {"d1": 2.0}}
    assert found.result.systems["fusion"]["AP"].mean == 1.0
    assert dataset.qrels["q1"] == {"d1": 1, "q1": 1}  # the caller's stays


def test_the_command_takes_a_compressed_run_and_a_relevance_level(arguments, tmp_path):
    arguments()
    plain = tmp_path / "x.run"
    write_run(plain, {"q1": {"d2": 2.0, "d1": 1.0}}, "x")
    packed = tmp_path / "x.run.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_run(packed) == read_run(plain)
    out = tmp_path / "out.json"
    command = ["eval", "retrieval", "--data", str(tmp_path / "arguments"), "--systems", "fusion"]
    command += ["--first-stage-run", str(packed), "--relevance-level", "2", "--json", str(out)]
    assert run_cli([*command, "--cache-dir", str(tmp_path / "cache")]) == 0
    result = json.loads(out.read_text())
    assert result["systems"]["fusion"]["AP(rel=2)"]["mean"] == 0
    assert any("no document of grade 2" in warning for warning in result["warnings"])
