"""Offline scores are those of a plain loop; a run goes on where it was, and mixes with nothing."""

import json
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from haystack import Document

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.errors import DataError, ModelError, StatesError
from trlm_retrieval.lm.state_folder import StateParts, model_of_states
from trlm_retrieval.lm.states import StateFormat
from trlm_retrieval.offline import Job, run
from trlm_retrieval.offline.rows import Columns
from trlm_retrieval.offline.worker import Worker


@pytest.fixture
def job(tmp_path, tiny_lm_folder):
    def make(**settings):
        given = {"output": tmp_path / "scores", "model": str(tiny_lm_folder), "dtype": "float32"}
        return Job(**{**given, **settings})

    return make


@pytest.mark.parametrize("direction", ["ba", "fo", "forward"])
def test_scores_are_those_of_one_pair_at_a_time(pairs, job, read_parts, tiny_lm, direction):
    made = job(columns=Columns(id="pair"), direction=direction, max_passage_tokens=12, prior=True)
    summary = run(pairs, made, 7)
    found = read_parts(made.output)
    assert [row["row"] for row in found] == list(range(40))
    assert [row["id"] for row in found] == [f"p{i}" for i in range(40)]
    given = [row for file in sorted(pairs.iterdir()) for row in pq.read_table(file).to_pylist()]
    for row, pair in zip(found, given, strict=True):
        [alone] = tiny_lm.score(
            [(pair["query"], pair["passage"])], direction, prior=True, max_passage_tokens=12
        )
        assert row["log_likelihood"] == pytest.approx(alone.sum, abs=1e-3)
        assert row["gain"] == pytest.approx(alone.gain, abs=1e-3)
        assert row["prior"] == pytest.approx(alone.sum - alone.gain, abs=1e-3)
        assert (row["tokens"], row["cut_tokens"]) == (len(alone), alone.cut_tokens)
        assert row["error"] is None
    assert summary.parts == 7 and summary.rows == summary.rows_done == 40  # 4 of a, 3 of b
    assert summary.cut == sum(row["cut_tokens"] > 0 for row in found) > 0
    assert summary.unscored == 0


def test_a_row_that_cannot_be_scored_says_why_and_holds_up_no_other(
    tmp_path, job, read_parts, tiny_lm
):
    rows = [("good", "text"), (None, "text"), ("words " * 600, "text"), ("good", " "), ("so", "x")]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps({"query": q, "passage": p}) for q, p in rows))
    summary = run(path, job(), 10)
    found = read_parts(tmp_path / "scores")
    assert [row["log_likelihood"] is None for row in found] == [False, True, True, True, False]
    told = [row["error"] for row in found]
    assert told[0] is told[4] is None
    assert "query is empty" in told[1] and "leaves no room" in told[2]
    assert "passage is empty" in told[3]
    assert summary.unscored == 3
    [alone] = tiny_lm.score([("so", "x")])
    assert found[4]["log_likelihood"] == pytest.approx(alone.sum, abs=1e-3)


def test_only_missing_and_damaged_parts_are_made(pairs, job, read_parts):
    made = job()
    run(pairs, made, 10)
    whole = read_parts(made.output)
    stamps = {part.name: part.stat().st_mtime_ns for part in made.output.glob("part-*")}
    (made.output / "part-00001.parquet").unlink()
    (made.output / "part-00003.parquet").write_bytes(b"PAR1")
    (made.output / ".part-00001-left-by-a-killed-worker").mkdir()
    summary = run(pairs, made, 10)
    assert sorted(done.shard for done in summary.done) == [1, 3] and summary.parts == 5
    assert read_parts(made.output) == whole
    assert not list(made.output.glob(".part-*"))
    again = {part.name: part.stat().st_mtime_ns for part in made.output.glob("part-*")}
    assert {name for name in stamps if again[name] != stamps[name]} == {
        "part-00001.parquet",
        "part-00003.parquet",
    }
    assert run(pairs, made, 10).done == ()


def test_parts_of_other_settings_do_not_mix(pairs, job, read_parts, make_tiny_lm, tmp_path):
    run(pairs, job(), 10)
    make_tiny_lm("both", seed=1).save(tmp_path / "other")
    for settings, rows, told in [
        ({"model": str(tmp_path / "other")}, 10, "another model"),
        ({"direction": "fo"}, 10, "another template"),
        ({"max_passage_tokens": 9}, 10, "another max passage tokens"),
        ({"prior": True}, 10, "another prior"),
        ({"columns": Columns(passage=("query",))}, 10, "another columns"),
        ({}, 11, "another shard rows"),
    ]:
        with pytest.raises(DataError, match=told):
            run(pairs, job(**settings), rows)
    pq.write_table(pa.table({"query": ["a"], "passage": ["b"]}), pairs / "c.parquet")
    with pytest.raises(DataError, match="another input"):
        run(pairs, job(), 10)
    (pairs / "c.parquet").unlink()
    assert run(pairs, job(), 10).done == ()


def test_a_model_that_moved_is_the_same_model(pairs, job, make_tiny_lm, tmp_path):
    make_tiny_lm("both", seed=0).save(tmp_path / "moved")
    run(pairs, job(), 10)
    assert run(pairs, job(model=str(tmp_path / "moved")), 10).done == ()


def test_a_worker_with_another_model_is_refused(pairs, job):
    worker = Worker(job())
    with pytest.raises(ModelError, match="is not the model that the parts are made with"):
        worker.do(None, "the fingerprint of another")


def test_folders_of_something_else_and_of_another_run(pairs, job, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="files of something else"):
        run(pairs, job(output=other), 10)
    with pytest.raises(DataError, match="is a file"):
        run(pairs, job(output=other / "thesis.txt"), 10)
    run(pairs, job(), 10)
    with (
        FileLock(tmp_path / "scores" / "write.lock"),
        pytest.raises(DataError, match="another run is writing"),
    ):
        run(pairs, job(), 10)
    (tmp_path / "scores" / "settings.json").write_text("{")
    with pytest.raises(DataError, match=r"settings\.json is damaged"):
        run(pairs, job(), 10)


def test_states_of_a_corpus_serve_the_ranker(tmp_path, job, tiny_lm_folder):
    texts = [f"Passage {i} tells of keys and values." for i in range(12)]
    rows = [{"_id": i, "title": f"T{i}", "text": text} for i, text in enumerate(texts)]
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(map(json.dumps, [*rows, {"_id": 12, "title": "", "text": " "}])))
    made = job(
        columns=Columns(None, ("title", "text")), max_passage_tokens=30, states=StateFormat()
    )
    summary = run(path, made, 5)
    assert (summary.parts, summary.rows, summary.unscored) == (3, 13, 1)
    assert model_of_states(made.output) == str(tiny_lm_folder)
    documents = [Document(content=row["text"], meta={"title": row["title"]}) for row in rows]

    def ranked(folder):
        ranker = TRLMRanker(
            str(tiny_lm_folder),
            max_passage_tokens=30,
            first_stage_weight=0.0,
            top_k=12,
            states_folder=folder,
            dtype="float32",
        )
        found = ranker.run("what tells of values", documents)["documents"]
        return ranker._lm.states, [(document.id, document.score) for document in found]

    states, scores = ranked(str(made.output))
    _, plain = ranked(None)
    assert states.hits == 12 and states.misses == 0
    assert dict(scores) == pytest.approx(dict(plain), abs=1e-3)
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder, dtype="float32")
    assert len(StateParts(made.output, lm, max_passage_tokens=30)) == 12
    with pytest.raises(StatesError, match="another max passage tokens"):
        StateParts(made.output, lm, max_passage_tokens=29)
    assert run(path, made, 5).done == ()


def test_a_run_that_was_killed_goes_on(tmp_path, pairs, tiny_lm_folder, job, read_parts):
    table = pa.concat_tables([pq.read_table(pairs / "a.parquet")] * 40)
    pq.write_table(table, tmp_path / "many.parquet")
    output = tmp_path / "killed"
    options = ["--input", str(tmp_path / "many.parquet"), "--output", str(output)]
    options += ["--model", str(tiny_lm_folder), "--dtype", "float32", "--shard-rows", "50"]
    process = subprocess.Popen([sys.executable, "-m", "trlm_retrieval.cli", "score", *options])
    deadline = time.monotonic() + 60
    while not list(output.glob("part-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = {part.name: part.read_bytes() for part in output.glob("part-*")}
    assert 1 <= len(made) < 20
    assert run_cli(["score", *options]) == 0
    assert all((output / name).read_bytes() == data for name, data in made.items())
    assert not list(output.glob(".part-*")) and len(list(output.glob("part-*"))) == 20
    unbroken = job(output=tmp_path / "unbroken", max_passage_tokens=512)
    run(tmp_path / "many.parquet", unbroken, 50)
    assert read_parts(output) == read_parts(unbroken.output)


def test_the_command(tmp_path, pairs, tiny_lm_folder, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    arguments = ["score", "--input", "pairs", "--output", "out", "--model", str(tiny_lm_folder)]
    arguments += ["--shard-rows", "30", "--max-passage-tokens", "10"]
    assert run_cli(arguments) == 0
    printed = capsys.readouterr().out
    assert "40 pairs done in" in printed and "out holds 2 parts, 40 pairs" in printed
    assert run_cli([*arguments, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["parts"], facts["parts_done"], facts["rows"]) == (2, 0, 40)
    assert run_cli(arguments) == 0
    assert "nothing was missing: out holds 2 parts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--actors", "2"], "only --ray has actors"),
        (["--states", "--prior"], "states have none"),
        (["--states-precision", "int8"], "only --states needs it"),
        (["--direction", "up"], "is not one of 'ba', 'fo', 'forward'"),
        (["--query", "question"], "no column 'question'"),
    ],
)
def test_bad_options_are_told(pairs, tmp_path, tiny_lm_folder, capsys, options, told):
    arguments = ["--input", str(pairs), "--output", str(tmp_path / "out")]
    assert run_cli(["score", *arguments, "--model", str(tiny_lm_folder), *options]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("module", "extra"), [("pyarrow", "score"), ("ray", "ray")])
def test_without_the_extra_the_remedy_is_told(monkeypatch, capsys, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    options = ["--ray"] if module == "ray" else []
    assert run_cli(["score", "--input", "x", "--output", "y", *options]) == 2
    assert f"pip install 'trlm-retrieval[{extra}]'" in capsys.readouterr().err
