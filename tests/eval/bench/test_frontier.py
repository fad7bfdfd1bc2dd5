"""The picture of quality against cost: its points, and files that do not belong together."""

import itertools
import json

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.bench import first_stages
from trlm_retrieval.eval.bench import frontier as module
from trlm_retrieval.eval.bench.benchmark import Benchmark, Row
from trlm_retrieval.eval.bench.frontier import Frontier, Point, System, draw, frontier
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.result import summarise
from trlm_retrieval.eval.retrieval import first_stage

RATES = {
    "plain": 2.0,
    "plain_int8": 4.0,
    "states_warm": 20.0,
    "states_warm_int8": 40.0,
    "trlm-small": 10.0,
    "trlm-small, states": 400.0,
    "cross-encoder peer": 8.0,
}
FIRST_STAGES = {"BM25": 0.001, "minilm": 0.02, "BM25 + minilm": 0.05}


@pytest.fixture
def bench(tmp_path):
    def write(rates=RATES, first_stages=FIRST_STAGES, model="smollm2-135m"):
        rows = [Row(name, 100, 1, rate, 1.0, 0.0) for name, rate in rates.items()]
        rows += [Row(name, 10, 1, 7.0, 1.0, 0.0) for name in rates]  # cases that do not count
        rows += [Row(name, 100, 16, 9.0, 1.0, 0.0) for name in rates]
        found = Benchmark(model, "float32", 2, "x86_64, 2 CPUs", 100.0, rows)
        found.first_stages = first_stages
        found.write_json(tmp_path / "bench.json")
        return tmp_path / "bench.json"

    return write


@pytest.fixture
def result(tmp_path):
    numbers = itertools.count()

    def write(data, model, systems, queries=4, **settings):
        """Each system's values begin with the one named, and fall by 0.1 from query to query."""
        per_query = {
            name: {"nDCG@10": {f"q{i}": value - 0.1 * i for i in range(queries)}}
            for name, value in systems.items()
        }
        common = {"first_stage": "BM25 + minilm", "rerank": 20, "dtype": "float32"}
        common |= {"cross_encoder": "peer"}
        found = summarise(data, model, per_query, "nDCG@10", [], {}, common | settings, [])
        path = tmp_path / f"{data}{next(numbers)}.json"
        found.write_json(path)
        return path

    return write


STAGES = {"bm25": 0.5, "dense": 0.6, "fusion": 0.7}


def test_points_by_hand(result, bench):
    peers = {"cross-encoder": 0.72, "cross-encoder mixed": 0.78}
    files = [
        result("a", "trlm-small", {**STAGES, **peers, "default": 0.8}),
        result("a", "smollm2-135m", {"fusion": 0.7, "default": 0.9}),
        result("a", "smollm2-135m", {"default": 0.88}, dtype="int8"),
        result("b", "trlm-small", {**STAGES, **peers, "default": 0.6}),
        result("b", "smollm2-135m", {"default": 0.7}),
        result("b", "smollm2-135m", {"default": 0.68}, dtype="int8"),
    ]
    found = {point.label: point for point in frontier(files, bench()).points}
    assert {label: round(point.seconds, 3) for label, point in found.items()} == {
        "BM25": 0.001,
        "dense (minilm)": 0.02,
        "fusion": 0.05,
        # What is reranked is found first.
        "cross-encoder": 12.55,
        "cross-encoder + fusion": 12.55,
        "trlm-small, plain": 10.05,
        "trlm-small, states kept": 0.3,
        "smollm2-135m, plain": 50.05,
        "smollm2-135m, states kept": 5.05,
        "smollm2-135m int8, plain": 25.05,
        "smollm2-135m int8, states kept": 2.55,
    }
    # 0, 0.1, 0.2 and 0.3 less for the four queries
    assert {label: round(point.quality + 0.15, 6) for label, point in found.items()} == {
        "BM25": 0.5,
        "dense (minilm)": 0.6,
        "fusion": 0.7,
        "cross-encoder": 0.72,
        "cross-encoder + fusion": 0.78,
        "trlm-small, plain": 0.7,
        "trlm-small, states kept": 0.7,
        "smollm2-135m, plain": 0.8,
        "smollm2-135m, states kept": 0.8,
        "smollm2-135m int8, plain": 0.78,
        "smollm2-135m int8, states kept": 0.78,
    }


def test_systems_are_compared_on_the_queries_that_they_share(result, bench):
    files = [
        result("a", "trlm-small", {**STAGES, "default": 0.8}, queries=4),
        result("a", "smollm2-135m", {"default": 0.9}, queries=2),
    ]
    found = frontier(files, bench())
    quality = {point.label: point.quality for point in found.points}
    assert quality["trlm-small, plain"] == pytest.approx(0.75)
    assert quality["smollm2-135m, plain"] == pytest.approx(0.85)
    assert "a (2 queries)" in found.caption and "first 20 of BM25 + minilm" in found.caption


def test_files_that_do_not_belong_together(result, bench):
    whole = {**STAGES, "default": 0.8}
    first = result("a", "trlm-small", whole)

    def refused(message, *others, bench_file=None):
        with pytest.raises(DataError, match=message):
            frontier([first, *others], bench_file or bench())

    lacking = result("b", "trlm-small", {"fusion": 0.7, "default": 0.6})
    refused(rf"'bm25' on b.*leave out .*{lacking.name}", lacking)
    # The other way round the first file is the one that lacks a system.
    more = result("b", "smollm2-135m", whole)
    refused(rf"'default smollm2-135m' on a.*leave out .*{first.name}", more)
    deeper = result("b", "trlm-small", whole, rerank=100)
    refused(rf"{deeper.name} does not belong with .*{first.name}: rerank is 100", deeper)
    given = result("b", "trlm-small", whole, first_stage="given run")
    refused(rf"{given.name} reranks what 'given run' found; .*: BM25 \+ minilm", given)
    words = result("b", "trlm-small", whole, first_stage="BM25")
    refused(rf"{words.name} reranks what 'BM25' found", words)
    other = result("a", "smollm2-135m", {"fusion": 0.75, "default": 0.9})
    refused(rf"disagree about 'fusion' on a: .*{first.name}.*{other.name}", other)
    empty = result("a", "smollm2-135m", {"default": 0.9})
    written = json.loads(empty.read_text())
    written["per_query"]["default"]["nDCG@10"] = {"another": 0.9}
    empty.write_text(json.dumps(written))
    refused(rf"{empty.name} has no query of a that all of .*{first.name}", empty)


def test_a_bench_that_lacks_a_system(result, bench):
    small = result("a", "trlm-small", {**STAGES, "default": 0.8})
    fewer = {name: rate for name, rate in RATES.items() if name != "trlm-small, states"}
    with pytest.raises(DataError, match=r"bench.json has not timed 'trlm-small, states'"):
        frontier([small], bench(fewer))
    with pytest.raises(DataError, match=r"bench.json has not timed 'cross-encoder other'"):
        other = {**STAGES, "cross-encoder": 0.7}
        frontier([result("a", "no model", other, cross_encoder="other")], bench())
    with pytest.raises(DataError, match=r"bench.json has timed: none: run `trlm bench`"):
        frontier([small], bench(first_stages={}))


def test_files_of_something_else(result, bench, tmp_path):
    good = result("a", "trlm-small", {**STAGES, "default": 0.8})
    with pytest.raises(DataError, match=r"bench.json is no result that `trlm eval retrieval"):
        frontier([bench()], bench())
    with pytest.raises(DataError, match=f"{good.name} is no file that `trlm bench"):
        frontier([good], good)
    with pytest.raises(DataError, match="does not exist"):
        frontier([tmp_path / "none.json"], bench())
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    with pytest.raises(DataError, match=r"bad\.json"):
        frontier([bad], bench())


def test_labels_do_not_overlap():
    """Eight points in nearly one place, and one at each corner."""
    spots = [(1.0 + 0.02 * i, 0.5 + 0.001 * (i % 3)) for i in range(8)]
    spots += [(0.001, 0.4), (0.001, 0.6), (100.0, 0.4), (100.0, 0.6)]
    points = [
        Point(System("default", f"m{i}"), f"the name of model {i}", *spot)
        for i, spot in enumerate(spots)
    ]
    figure = draw(Frontier(points, "A caption."))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    [axes] = figure.axes
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    assert [label.get_text() for label in labels] == [point.label for point in points]
    boxes = [Text.get_window_extent(label, canvas.get_renderer()) for label in labels]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    around = axes.get_window_extent()
    assert all(around.contains(box.x0, box.y0) for box in boxes)
    assert all(around.contains(box.x1, box.y1) for box in boxes)


def test_first_stages_are_timed_a_question(beir, monkeypatch):
    def search(dataset, *arguments):
        found = first_stage.search(dataset, *arguments)
        seconds = arguments[5]
        assert set(seconds) == {"index", "bm25", "dense", "fusion"}
        seconds |= {"bm25": 3.0, "dense": 6.0, "fusion": 1.5}
        return found

    monkeypatch.setattr(first_stages, "search", search)
    seconds = first_stages.first_stage_seconds(load_dataset(str(beir)), "minilm")
    assert seconds == {"BM25": 1.0, "minilm": 2.0, "BM25 + minilm": 3.5}  # of three questions


def test_the_command_reads_what_evaluation_and_bench_write(
    beir, tiny_lm_folder, bench, tmp_path, monkeypatch, capsys
):
    arguments = ["eval", "retrieval", "--data", beir, "--model", tiny_lm_folder, "--systems"]
    arguments += ["bm25,dense,fusion,default", "--cache-dir", tmp_path / "cache"]
    monkeypatch.setattr("trlm_retrieval.cli.evaluate.retrieval.check_embedder", lambda name: None)
    assert run_cli([str(a) for a in [*arguments, "--json", tmp_path / "r.json"]]) == 0
    file = bench(model=str(tiny_lm_folder))
    command = ["frontier", tmp_path / "r.json", "--bench", file, "-o", tmp_path / "f.png"]
    monkeypatch.setattr("sys.argv", [str(a) for a in command])
    module.main()
    printed = capsys.readouterr().out
    for point in module.frontier([tmp_path / "r.json"], file).points:
        assert f"{point.label}: nDCG@10 {point.quality:.3f}, " in printed
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("sys.argv", [str(a) for a in ["frontier", file, *command[2:]]])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 2 and "bench.json is no result" in capsys.readouterr().err
