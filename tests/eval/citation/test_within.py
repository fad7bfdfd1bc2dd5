"""Evaluation of the searches inside one source."""

import json

import numpy as np
import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.citation.data import Grounded, load_grounded
from trlm_retrieval.eval.citation.evaluation import evaluate_citation
from trlm_retrieval.eval.citation.scorer import Scorer
from trlm_retrieval.eval.citation.within import DEFAULT_METHODS, METHODS, measure
from trlm_retrieval.eval.score_cache import ScoreCache

LINES = [
    {
        "question": "with?",
        "answer": "The with statement calls exit. Keys keep their order.",
        "sentences": [
            "Blocks are wrapped.",
            "The with statement calls exit.",
            "Nothing to see.",
            "Keys keep their order.",
            "The end.",
        ],
        "selected": [1, 3],
    },
    {"question": "nothing?", "answer": "", "sentences": ["One.", "Two."], "selected": []},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)) + "\n")
    return path


def test_measures_by_hand():
    answers = [
        Grounded("a", "?", ("x",), ("1", "2", "3"), frozenset({0, 1})),
        Grounded("b", "?", ("x",), ("1", "2"), frozenset({1})),
    ]
    found = measure(answers, [({1, 2}, 4), (set(), 0)])
    assert found == {
        "F1": {"a": 0.5, "b": 0.0},
        "precision": {"a": 0.5, "b": 0.0},
        "recall": {"a": 0.5, "b": 0.0},
        "calls": {"a": 4.0, "b": 0.0},
    }


@pytest.fixture
def cross_encoder(make_cross_encoder):
    return make_cross_encoder([*LINES[0]["sentences"], LINES[0]["answer"]])


def test_every_search_and_its_calls(file, tiny_lm, tmp_path):
    result = evaluate_citation(file, tiny_lm, "tiny", cache_folder=tmp_path / "cache")
    assert tuple(result.systems) == DEFAULT_METHODS
    assert set(METHODS) - set(DEFAULT_METHODS) == {"cross-encoder"}
    assert result.queries == 1
    assert result.warnings == ["1 answers have no selected sentence and are left out"]
    assert result.systems["overlap"]["F1"].mean == 1.0
    assert result.systems["everything"]["recall"].mean == 1.0
    calls = {name: found["calls"].mean for name, found in result.systems.items()}
    assert calls["reverse_linear"] == calls["forward_linear"] == 10
    assert calls["reverse_exclusion"] == calls["forward_exclusion"] == 12
    assert 4 <= calls["reverse_binary"] <= 12
    assert "reverse_binary vs forward_binary" in result.tests


def test_the_cross_encoder_picks_a_sentence_for_each_claim(
    file, tiny_lm, cross_encoder, tmp_path, monkeypatch
):
    answers, _ = load_grounded(file)
    scorer = Scorer(tiny_lm, ScoreCache(tmp_path / "s.sqlite"), None, 512, False, cross_encoder)
    with monkeypatch.context() as patched:
        patched.setattr(
            cross_encoder, "scores", lambda pairs, _: np.array([float(c == s) for c, s in pairs])
        )
        assert METHODS["cross-encoder"](answers[:1], scorer) == [({1, 3}, 10)]
    tests = evaluate_citation(
        file,
        tiny_lm,
        "tiny",
        methods=["default", "cross-encoder"],
        cross_encoder=cross_encoder,
        cache_folder=tmp_path / "cache",
    ).tests
    assert set(tests) == {"default vs cross-encoder"}


def test_an_encoder_decoder_runs_what_it_can(file, encoder_decoder, tmp_path):
    found = evaluate_citation(file, encoder_decoder, "trlm-small", cache_folder=tmp_path)
    assert {"overlap", "reverse_binary", "default"} <= set(found.systems)
    assert not any(name.startswith("forward") for name in found.systems)
    assert "forward_linear, forward_binary, forward_exclusion are left out" in found.warnings[1]


def test_the_command(file, tiny_lm_folder, tmp_path, capsys):
    arguments = ["eval", "citation", "--data", file, "--model", tiny_lm_folder]
    arguments += ["--methods", "overlap,default", "--json", tmp_path / "o.json"]
    arguments += ["--cache-dir", tmp_path / "cache", "--answers", 1]
    assert run_cli([str(a) for a in arguments]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "o.json").read_text())
    assert set(found["systems"]["default"]) == {"F1", "precision", "recall", "calls"}


def test_nothing_to_evaluate(file, tiny_lm, tmp_path):
    with pytest.raises(DataError, match="unknown method 'magic'"):
        evaluate_citation(file, tiny_lm, "tiny", methods=["magic"], cache_folder=tmp_path)
    file.write_text(json.dumps(LINES[1]) + "\n")
    with pytest.raises(DataError, match="no answer with a selected sentence"):
        evaluate_citation(file, tiny_lm, "tiny", cache_folder=tmp_path)
