"""Calibration: fitted on half, honest about the other half."""

import json
import re

import numpy as np
import pytest
from haystack import Document

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.calibration import (
    Query,
    draw,
    examples,
    fit,
    halves,
    reliability,
)
from trlm_retrieval.eval.retrieval.evaluation import evaluate_retrieval
from trlm_retrieval.models.calibration import Calibration


def made_up(bias, slope, length, queries=300, seed=0):
    """Queries whose passages are relevant with known odds."""
    chosen = np.random.default_rng(seed)
    found = []
    for _ in range(queries):
        tokens = int(chosen.integers(3, 30))
        gains = chosen.normal(size=20)
        odds = bias + slope * gains + length * np.log(tokens)
        relevant = chosen.random(20) < 1 / (1 + np.exp(-odds))
        found.append(Query(tokens, gains, gains / 2, relevant))
    return found


def test_the_fit_finds_what_made_the_data(tiny_lm):
    found = fit(tiny_lm, [made_up(-2.0, 1.5, 0.4), made_up(-2.0, 1.5, 0.4, seed=1)])
    assert found.alone == pytest.approx((-2.0, 1.5, 0.4), abs=0.15)
    assert found.mixed == pytest.approx((-2.0, 3.0, 0.4), abs=0.3)
    fresh = [made_up(-2.0, 1.5, 0.4, seed=2)]
    assert reliability(found, fresh, mixed=False).error < 0.02


def test_each_collection_weighs_the_same(tiny_lm):
    few, many = made_up(-3.0, 1.0, 0.0, 40), made_up(1.0, 1.0, 0.0, 400, seed=1)
    [one, other] = fit(tiny_lm, [few, many]), fit(tiny_lm, [few * 10, many])
    assert one.alone == pytest.approx(other.alone, abs=1e-3)


def test_errors_and_the_threshold_are_counted_by_hand():
    always = Calibration("t", (0.0, 1e-9, 0.0), (0.0, 1.0, 0.0))  # 0.5 for all
    queries = [Query(1, np.zeros(4), np.zeros(4), np.array([True, False, False, False]))]
    found = reliability(always, [queries], mixed=False)
    assert found.error == pytest.approx(0.25) and found.base_rate == 0.25
    assert found.precision == 0.25 and found.recall == 1.0
    never = Calibration("t", (-20.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    found = reliability(never, [queries], mixed=False)
    assert found.precision is None and found.recall == 0.0
    assert found.error == pytest.approx(0.25, abs=1e-6)


def test_what_teaches_nothing_is_refused(tiny_lm):
    none = [Query(5, np.arange(4.0), np.arange(4.0), np.zeros(4, bool))]
    with pytest.raises(DataError, match="needs relevant candidates and others"):
        fit(tiny_lm, [none])
    wrong = [Query(5, -query.alone, -query.mixed, query.relevant) for query in made_up(-1, 2, 0)]
    with pytest.raises(DataError, match="nothing to calibrate"):
        fit(tiny_lm, [wrong])


def test_gains_are_those_of_the_ranker(beir, tiny_lm, tmp_path):
    dataset = load_dataset(str(beir))
    evaluation = evaluate_retrieval(
        dataset, tiny_lm, "tiny", ["reverse"], top_k=4, cache_folder=tmp_path / "cache"
    )
    found = examples(evaluation, tiny_lm, 0.45)
    by_id = {document.id: document for document in dataset.documents}
    for name, query in found.items():
        ids = list(evaluation.likelihoods["reverse"][name])
        ranked = TRLMRanker(tiny_lm, first_stage_weight=0.0, explain=True).run(
            dataset.queries[name], [by_id[document] for document in ids]
        )["documents"]
        gains = {d.id: d.meta["trlm"]["gain"] / query.tokens for d in ranked}
        assert query.alone == pytest.approx([gains[document] for document in ids], abs=1e-3)
        graded = [dataset.qrels[name].get(document, 0) > 0 for document in ids]
        assert query.relevant.tolist() == graded
    first, second = halves(found)
    assert len(first) + len(second) == len(found) and len(first) >= len(second) > 0


def test_the_command_saves_what_the_ranker_reads(beir, tiny_lm, tmp_path, capsys):
    tiny_lm.save(tmp_path / "model")
    command = ["eval", "calibrate", "--data", str(beir), "--model", str(tmp_path / "model")]
    command += ["--cache-dir", str(tmp_path / "cache"), "--plot", str(tmp_path / "plot.png")]
    code = run_cli([*command, "--save"])
    shown = capsys.readouterr()
    if "nothing to calibrate" in shown.err:  # a random model may rank the wrong way round
        pytest.fail("choose another seed for the tiny model")
    assert code == 0 and re.search(r"tiny, alone +│ 0\.\d{3}", shown.out)
    settings = json.loads((tmp_path / "model" / "trlm_config.json").read_text())
    assert settings["order"] == tiny_lm.order and settings["calibration"]["alone"]
    ranker = TRLMRanker(str(tmp_path / "model"), scale_score=True)
    [document] = ranker.run("insertion order", [Document(content="Keys keep order.")])["documents"]
    assert 0 < document.score < 1
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_diagram_of_nothing_relevant_is_drawn(tmp_path):
    queries = [Query(2, np.arange(3.0), np.arange(3.0), np.zeros(3, bool))]
    calibration = Calibration("t", (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    lines = {"none": reliability(calibration, [queries], mixed=True)}
    draw({"mixed": lines}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file()
