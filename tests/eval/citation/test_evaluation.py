"""Citation evaluation: scores, thresholds, measures, and bad files."""

import json

import numpy as np
import pytest

from trlm_retrieval.citation.support import CLAIM_GIVEN_SOURCE, SOURCE_GIVEN_CLAIM, SupportScorer
from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.eval.citation.claims import DEFAULT_METHODS, METHODS, best_threshold, measure
from trlm_retrieval.eval.citation.data import Claim, load_claims
from trlm_retrieval.eval.citation.evaluation import evaluate_citation
from trlm_retrieval.eval.citation.scorer import Scorer
from trlm_retrieval.eval.score_cache import ScoreCache

ANSWERS = [
    {
        "question": "with?",
        "claims": [
            {"text": "It calls exit at the end.", "sources": [1]},
            {"text": "Nobody knows.", "sources": []},
        ],
        "passages": ["Keys keep order.", "The with statement calls exit at the end."],
    },
    {
        "question": "generators?",
        "claims": [{"text": "A generator yields values.", "sources": [0, 2]}],
        "passages": ["A generator yields.", "Dicts keep order.", "Values come from a generator."],
    },
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(json.dumps, ANSWERS)) + "\n")
    return path


def claim(name, group, passages, sources):
    passages = tuple(f"p{i}" for i in range(passages))
    return Claim(name, str(group), "text", passages, frozenset(sources))


def test_measures_by_hand():
    claims = [claim("a", 1, 3, {0}), claim("b", 2, 2, {1}), claim("c", 3, 3, {0, 2})]
    scores = [np.array([0.1, 0.9, 0.5]), np.array([0.2, 0.8]), np.array([0.9, 0.1, 0.7])]
    found = measure(claims, scores)
    assert found["top1"] == {"a": 0.0, "b": 1.0, "c": 1.0}
    assert found["MRR"] == {"a": pytest.approx(1 / 3), "b": 1.0, "c": 1.0}
    # Answers 1 and 3 are cited by the threshold of answer 2 (0.8), answer 2 by theirs (0.7).
    assert found["precision"] == {"a": 0.0, "b": 1.0, "c": 1.0}
    assert found["recall"] == {"a": 0.0, "b": 1.0, "c": 0.5}


def test_the_threshold_has_the_best_f1():
    generator = np.random.default_rng(1)
    claims = [claim(str(i), i, 5, {int(generator.integers(5))}) for i in range(30)]
    scores = [generator.random(5) + 0.7 * np.isin(range(5), list(c.sources)) for c in claims]

    def f1(threshold):
        cited = sum(int((row >= threshold).sum()) for row in scores)
        right = sum(
            int(row[source] >= threshold)
            for c, row in zip(claims, scores, strict=True)
            for source in c.sources
        )
        return 2 * right / (cited + 30)

    best = best_threshold(claims, scores)
    assert f1(best) == pytest.approx(max(f1(t) for t in np.concatenate(scores)))


def evaluate(file, lm, tmp_path, methods=None, **settings):
    return evaluate_citation(
        file, lm, "tiny", methods=methods, cache_folder=tmp_path / "cache", **settings
    )


@pytest.fixture
def texts():
    return [t for a in ANSWERS for t in (*a["passages"], *(c["text"] for c in a["claims"]))]


@pytest.fixture
def cross_encoder(texts, make_cross_encoder):
    return make_cross_encoder(texts)


def test_every_method_scores_every_passage(file, tiny_lm, word_embedder, cross_encoder, tmp_path):
    result = evaluate(
        file,
        tiny_lm,
        tmp_path,
        list(METHODS),
        embedder=word_embedder,
        cross_encoder=cross_encoder,
    )
    assert list(result.systems) == list(METHODS)
    assert result.queries == 2 and result.warnings == ["1 claims have no source and are left out"]
    assert result.systems["overlap"]["top1"].mean == 1.0
    assert "reverse vs forward" in result.tests and "reverse_binary vs overlap" in result.tests
    assert "default vs cross-encoder" in result.tests
    cheap = evaluate(file, tiny_lm, tmp_path, embedder=word_embedder)
    assert tuple(cheap.systems) == DEFAULT_METHODS and "default" in DEFAULT_METHODS
    assert "cross-encoder" not in DEFAULT_METHODS


@pytest.mark.parametrize(
    ("method", "template"),
    [("reverse", CLAIM_GIVEN_SOURCE), ("forward_gain", SOURCE_GIVEN_CLAIM)],
)
def test_gains_are_over_the_prior_of_the_scored_half(
    file, make_tiny_lm, tmp_path, method, template
):
    lm = make_tiny_lm("forward")
    claims, _ = load_claims(file)
    scorer = Scorer(lm, ScoreCache(tmp_path / "s.sqlite"), None, 512, False)
    for c, row in zip(claims, METHODS[method](claims, scorer), strict=True):
        for passage, score in zip(c.passages, row, strict=True):
            [likelihood] = lm.score([(c.text, passage)], template, prior=True)
            assert score == pytest.approx(likelihood.gain / len(likelihood), abs=1e-3)


def test_the_default_is_what_ships(file, make_tiny_lm, tmp_path):
    lm = make_tiny_lm("forward")
    claims, _ = load_claims(file)
    scorer = Scorer(lm, ScoreCache(tmp_path / "s.sqlite"), None, 512, False)
    shipped = SupportScorer(lm.score)
    for c, row in zip(claims, METHODS["default"](claims, scorer), strict=True):
        expected = [support.score for support in shipped.score([(c.text, p) for p in c.passages])]
        assert row == pytest.approx(expected, abs=1e-3)


def test_a_cross_encoder_scores_claim_and_passage(file, cross_encoder, tmp_path, monkeypatch):
    claims, _ = load_claims(file)
    path = tmp_path / "s.sqlite"
    scorer = Scorer(None, ScoreCache(path), None, 512, False, cross_encoder)
    found = METHODS["cross-encoder"](claims, scorer)
    for c, row in zip(claims, found, strict=True):
        expected = cross_encoder.scores([(c.text, passage) for passage in c.passages])
        assert row == pytest.approx(expected.tolist(), abs=1e-5)
    monkeypatch.setattr(cross_encoder, "scores", None)  # what is cached is not scored again
    again = METHODS["cross-encoder"](
        claims, Scorer(None, ScoreCache(path), None, 512, False, cross_encoder)
    )
    assert all((one == other).all() for one, other in zip(found, again, strict=True))


def test_passages_that_the_cross_encoder_cuts_are_counted(file, tiny_lm, cross_encoder, tmp_path):
    entry = {**ANSWERS[0], "passages": [ANSWERS[0]["passages"][0] * 30, "Exit."]}
    file.write_text(json.dumps(entry) + "\n")
    found = evaluate(file, tiny_lm, tmp_path, ["cross-encoder"], cross_encoder=cross_encoder)
    assert "cross-encoder: 1 of 2 passages were cut to fit" in found.warnings


def test_an_encoder_decoder_runs_what_it_can(file, encoder_decoder, word_embedder, tmp_path):
    found = evaluate(file, encoder_decoder, tmp_path, embedder=word_embedder)
    assert set(found.systems) == {"random", "overlap", "bm25", "dense", "reverse", "default"}
    [note] = [one for one in found.warnings if "left out:" in one]
    assert note.startswith("forward_sum, forward, forward_gain are left out: this model does not")
    with pytest.raises(ModelError, match="an encoder-decoder reads it"):
        evaluate(file, encoder_decoder, tmp_path, ["overlap", "forward"])


def test_answers_are_drawn(file, tiny_lm, tmp_path):
    result = evaluate(file, tiny_lm, tmp_path, ["overlap"], answers=1)
    assert result.settings["answers"] == 1
    again = evaluate(file, tiny_lm, tmp_path, ["overlap"], answers=1)
    assert again.per_query == result.per_query


def test_the_command(file, tiny_lm_folder, texts, save_cross_encoder, tmp_path, capsys):
    arguments = ["eval", "citation", "--data", file, "--model", tiny_lm_folder]
    arguments += ["--methods", "overlap,reverse,cross-encoder", "--json", tmp_path / "o.json"]
    arguments += ["--cache-dir", tmp_path / "cache", "--cross-encoder", save_cross_encoder(texts)]
    assert run_cli([str(a) for a in arguments]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "o.json").read_text())
    assert set(found["systems"]) == {"overlap", "reverse", "cross-encoder"}
    assert found["settings"]["cross_encoder"] == str(tmp_path / "cross")
    assert set(found["systems"]["reverse"]) == {"top1", "MRR", "precision", "recall"}
    assert {"data", "queries", "model", "tests", "seconds"} <= set(found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3"),
        ('{"claims": []}', "line 3"),
        ('{"claims": [{"text": "x", "sources": [7]}], "passages": ["p"]}', "not there"),
        ('{"claims": [{"text": 1, "sources": [0]}], "passages": ["p"]}', "line 3"),
        ('{"quotes": [{"source": 0, "text": "no"}], "answer": "A.", "sources": []}', "line 3"),
    ],
)
def test_malformed_lines(file, line, message):
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(DataError, match=message):
        load_claims(file)


def test_missing_files_empty_files_and_unknown_methods(file, tmp_path, tiny_lm):
    with pytest.raises(DataError, match="does not exist"):
        load_claims(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no claim with a source"):
        load_claims(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="unknown method 'magic'"):
        evaluate_citation(file, tiny_lm, "tiny", methods=["magic"], cache_folder=tmp_path)
    with pytest.raises(DataError, match="no method is asked for; there are random"):
        evaluate_citation(file, tiny_lm, "tiny", methods=[], cache_folder=tmp_path)
    with pytest.raises(DataError, match="'cross-encoder' needs a cross-encoder"):
        evaluate_citation(file, tiny_lm, "tiny", methods=["cross-encoder"], cache_folder=tmp_path)


@pytest.mark.parametrize("task", ["citation", "best-of-n"])
def test_a_cross_encoder_that_is_not_there(task, file, tiny_lm_folder, tmp_path, capsys):
    arguments = ["eval", task, "--data", file, "--model", tiny_lm_folder, "--methods"]
    arguments += ["cross-encoder", "--cross-encoder", tmp_path / "none"]
    assert run_cli([str(a) for a in arguments]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
