"""The score cache: shared by evaluations, named in every error."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.eval import score_cache
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.evaluation import evaluate_retrieval
from trlm_retrieval.eval.score_cache import ScoreCache
from trlm_retrieval.passage_index import PassageIndex


@pytest.fixture
def file(tmp_path):
    return tmp_path / "scores.sqlite"


@pytest.fixture
def score(tiny_lm, file):
    """Scores twelve pairs with the cache at ``file``; gives the sums and how many were computed."""

    def run(prefix=""):
        pairs = [(f"{prefix}query {i}", f"passage {i % 3}") for i in range(12)]
        template = tiny_lm.template("fo")
        found, computed = ScoreCache(file).score(tiny_lm, pairs, template, 64, lambda steps: None)
        return [score.sum for score in found], computed

    return run


def test_many_evaluations_write_one_cache(score, file, monkeypatch):
    monkeypatch.setattr(score_cache, "_PAIRS_A_COMMIT", 1)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(score, [str(i % 3) for i in range(6)]))
    for i, (sums, _) in enumerate(results):
        assert sums == pytest.approx(results[i % 3][0], abs=1e-3)
    assert [score(str(i))[1] for i in range(3)] == [0, 0, 0]
    rows = sqlite3.connect(file).execute("SELECT count(*) FROM scores").fetchone()
    assert rows == (36,)


def test_many_evaluations_begin_one_cache(tmp_path):
    def begin(file, together):
        together.wait()
        ScoreCache(file)

    with ThreadPoolExecutor(8) as pool:
        for turn in range(50):
            file, together = tmp_path / f"{turn}.sqlite", Barrier(8)
            list(pool.map(begin, [file] * 8, [together] * 8))


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("writing", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@pytest.fixture
def writer(score, file):
    """Another process in the middle of a write; ends it when it reads a line."""
    score()
    command = [sys.executable, "-c", WRITER, file]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_waits_while_another_process_writes(writer, score):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(score, "new ")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        writer.communicate("done\n")
        assert waiting.result()[1] == 12


def test_a_writer_that_never_ends_is_named(writer, score, file, monkeypatch):
    monkeypatch.setattr(score_cache, "_WAIT_SECONDS", 0.1)
    with pytest.raises(DataError, match=r"cannot be used .*locked.*--cache-dir") as raised:
        score("new ")
    assert str(file) in str(raised.value)


def test_a_file_that_is_no_cache(file):
    file.write_text("not a database at all, but long enough to be read")
    with pytest.raises(DataError, match=r"is not a score cache.*delete it") as raised:
        ScoreCache(file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize("table", ["notes (text TEXT)", "scores (player TEXT, points INTEGER)"])
def test_a_database_of_something_else_is_left_alone(table, file):
    with sqlite3.connect(file) as connection:
        connection.execute(f"CREATE TABLE {table}")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"something else.*--cache-dir"):
        ScoreCache(file)
    assert file.read_bytes() == before


def test_a_damaged_cache_is_named_with_the_remedy(score, file):
    score()
    sqlite3.connect(file).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    assert len(data) > size
    data[size:] = b"\xff" * (len(data) - size)  # the page of the rows; the header stays whole
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"is damaged.*delete it") as raised:
        score()
    assert str(file) in str(raised.value)


def test_a_model_that_gives_no_number_is_an_error_and_is_not_kept(make_tiny_lm, file):
    lm = make_tiny_lm("both", seed=7)
    with torch.no_grad():
        next(lm.network.model.parameters()).fill_(float("nan"))
    for _ in range(2):
        with pytest.raises(ModelError, match="score of nan"):
            ScoreCache(file).score(lm, [("a", "b")], lm.template("fo"), 64, lambda steps: None)


def test_evaluations_that_share_a_cache_wait_for_one_index(beir, tiny_lm, tmp_path, monkeypatch):
    built = []
    build = PassageIndex.build

    def counted(*arguments, **settings):
        built.append(1)
        return build(*arguments, **settings)

    monkeypatch.setattr(PassageIndex, "build", counted)
    dataset = load_dataset(str(beir))

    def evaluate(_):
        return evaluate_retrieval(dataset, tiny_lm, "tiny", ["reverse"], cache_folder=tmp_path)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(evaluate, range(4)))
    assert built == [1]
    assert all(one.runs["fusion"] == found[0].runs["fusion"] for one in found)


def test_an_index_whose_building_was_killed_is_built_again(beir, tmp_path):
    dataset = load_dataset(str(beir))
    first = evaluate_retrieval(dataset, None, "none", ["fusion"], cache_folder=tmp_path)
    [manifest] = tmp_path.glob("indexes/*/manifest.json")
    manifest.unlink()
    again = evaluate_retrieval(dataset, None, "none", ["fusion"], cache_folder=tmp_path)
    assert again.runs == first.runs
