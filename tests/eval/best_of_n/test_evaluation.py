"""Evaluation of best of N: subsets, picks, measures, and bad files."""

import json
import lzma

import numpy as np
import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.components.reply_score import QUERY_GIVEN_REPLY, REPLY_GIVEN_QUERY
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.best_of_n.evaluation import (
    METHODS,
    Prompt,
    evaluate_best_of_n,
    length_controlled,
    load_prompts,
    measure,
    subsets_of,
)
from trlm_retrieval.eval.score_cache import CachedScorer, ScoreCache

LINES = [
    {
        "query": f"question {i}",
        "answers": [
            {"model": f"m{j}", "answer": f"answer {j} " * (j + 1), "preference": (i * j % 5) / 5}
            for j in range(4)
        ],
    }
    for i in range(3)
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.jsonl.xz"
    with lzma.open(path, "wt") as out:
        out.write("\n".join(map(json.dumps, LINES)) + "\n")
    return path


@pytest.fixture
def scorer(make_tiny_lm, word_embedder, tmp_path):
    cache = ScoreCache(tmp_path / "scores.sqlite")
    return CachedScorer(make_tiny_lm("forward"), cache, word_embedder, 512, False)


def test_subsets():
    assert subsets_of(3, 2, "a").tolist() == [[0, 1], [0, 2], [1, 2]]
    assert subsets_of(16, 16, "a").tolist() == [list(range(16))]
    drawn = subsets_of(16, 4, "a")
    assert drawn.shape == (120, 4) and (np.diff(drawn, axis=1) > 0).all()
    assert (drawn == subsets_of(16, 4, "a")).all()
    assert (drawn != subsets_of(16, 4, "b")).any()


def test_measures_by_hand(scorer):
    prompt = Prompt("a", "q", ("x", "x x", "x x x"), np.array([0.1, 0.7, 0.4]))
    found = {
        name: measure([prompt], METHODS[name]([prompt], scorer), [2, 3], [prompt.preferences])
        for name in ("oracle", "random", "length")
    }
    assert found["oracle"][2]["a"] == pytest.approx((0.7 + 0.4 + 0.7) / 3)
    assert found["oracle"][3]["a"] == pytest.approx(0.7)
    for size in (2, 3):
        assert found["random"][size]["a"] == pytest.approx(0.4)
    assert found["length"][3]["a"] == pytest.approx(0.4)
    assert found["length"][2]["a"] == pytest.approx((0.7 + 0.4 + 0.4) / 3)


def test_what_length_explains_is_taken_out():
    lengths = [(10, 100, 1000), (50, 200, 800)]
    merits = [np.array([0.0, 0.2, 0.1]), np.array([0.3, 0.0, 0.1])]
    texts = ("x", "y", "z")

    def prompts(slope):
        return [
            Prompt(str(n), "q", texts, merit + slope * np.log1p(row))
            for n, (merit, row) in enumerate(zip(merits, lengths, strict=True))
        ]

    # Whatever length adds, the same is left over and the means of the prompts stay.
    without = length_controlled(prompts(0.0), lengths)
    for prompt, one, other in zip(
        prompts(0.5), length_controlled(prompts(0.5), lengths), without, strict=True
    ):
        assert one - one.mean() == pytest.approx(other - other.mean())
        assert one.mean() == pytest.approx(prompt.preferences.mean())


def test_answers_of_one_length_keep_their_preferences():
    prompt = Prompt("a", "q", ("x", "y"), np.array([0.1, 0.7]))
    [found] = length_controlled([prompt], [(5, 5)])
    assert found.tolist() == [0.1, 0.7]


def test_the_centroid_is_what_the_others_agree_with(scorer):
    prompt = Prompt("a", "q", ("red", "blue green", "blue green", "blue"), np.arange(4.0))
    [pick] = METHODS["centroid"]([prompt], scorer)
    assert pick(np.array([[0, 1, 2, 3]]), prompt.preferences).tolist() == [1.0]


@pytest.mark.parametrize("name", ["reverse", "forward", "forward_sum"])
def test_picks_follow_the_likelihoods(name, file, scorer):
    prompts = load_prompts(file)
    picks = METHODS[name](prompts, scorer)
    for prompt, pick in zip(prompts, picks, strict=True):
        pairs = [(prompt.query, answer) for answer in prompt.answers]
        reverse = scorer.lm.score(pairs, QUERY_GIVEN_REPLY)
        forward = scorer.lm.score(pairs, REPLY_GIVEN_QUERY)
        scores = {
            "reverse": [r.sum for r in reverse],
            "forward": [f.mean for f in forward],
            "forward_sum": [f.sum for f in forward],
        }[name]
        best = max(range(4), key=scores.__getitem__)
        assert pick(np.array([[0, 1, 2, 3]]), prompt.preferences) == [prompt.preferences[best]]


@pytest.fixture
def texts():
    return [t for line in LINES for t in (line["query"], *(a["answer"] for a in line["answers"]))]


def test_a_cross_encoder_picks_the_answer_it_scores_highest(
    file, scorer, texts, make_cross_encoder, tmp_path
):
    prompts = load_prompts(file)
    scorer.cross_encoder = make_cross_encoder(texts)
    picks = METHODS["cross-encoder"](prompts, scorer)
    for prompt, pick in zip(prompts, picks, strict=True):
        scores = scorer.cross_encoder.scores([(prompt.query, answer) for answer in prompt.answers])
        assert pick(np.array([[0, 1, 2, 3]]), prompt.preferences) == [
            prompt.preferences[scores.argmax()]
        ]


def test_an_encoder_decoder_runs_what_it_can(file, encoder_decoder, word_embedder, tmp_path):
    found = evaluate_best_of_n(
        file, encoder_decoder, "trlm-small", embedder=word_embedder, cache_folder=tmp_path
    )
    assert set(found.systems) == {"random", "length", "centroid", "reverse", "oracle"}
    [note] = found.warnings
    assert note.startswith("forward_sum, forward are left out: this model does not score forwards")


def test_every_method(file, tiny_lm, word_embedder, texts, make_cross_encoder, tmp_path):
    result = evaluate_best_of_n(
        file,
        tiny_lm,
        "tiny",
        methods=list(METHODS),
        cross_encoder=make_cross_encoder(texts),
        embedder=word_embedder,
        cache_folder=tmp_path / "cache",
    )
    assert list(result.systems) == list(METHODS) and result.queries == 3
    assert result.data == "tiny"
    for found in result.systems.values():
        assert list(found) == ["preference@2", "preference@4", "controlled@4"]
        assert found["preference@4"].mean <= result.systems["oracle"]["preference@4"].mean
    rivals = ("forward", "length", "random", "cross-encoder")
    assert {f"reverse vs {name}" for name in rivals} <= set(result.tests)


def test_replies_that_were_cut_are_counted(file, tiny_lm, word_embedder, tmp_path):
    found = evaluate_best_of_n(
        file,
        tiny_lm,
        "tiny",
        methods=["reverse", "forward"],
        embedder=word_embedder,
        max_reply_tokens=1,
        cache_folder=tmp_path,
    )
    assert len(found.warnings) == 2
    # The three prompts share their four answers.
    assert all(note.endswith(": 4 of 4 passages were cut to fit") for note in found.warnings)


def test_the_command(file, tiny_lm_folder, tmp_path, capsys, monkeypatch, word_embedder):
    embedder = "trlm_retrieval.eval.best_of_n.evaluation.SentenceEmbedder"
    monkeypatch.setattr(embedder, lambda: word_embedder)
    arguments = ["eval", "best-of-n", "--data", file, "--model", tiny_lm_folder]
    arguments += ["--json", tmp_path / "o.json", "--cache-dir", tmp_path / "c", "--prompts", 2]
    assert run_cli([str(a) for a in arguments]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["queries"] == 2 and set(found["systems"]) == set(METHODS) - {"cross-encoder"}
    assert set(found["systems"]["reverse"]) == {
        "preference@2",
        "preference@4",
        "controlled@4",
    }


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        '{"query": "q", "answers": []}',
        '{"query": " ", "answers": [{"answer": "a", "preference": 1}]}',
        '{"query": "q", "answers": [{"answer": "a", "preference": "x"}]}',
        '{"query": "q", "answers": [{"answer": "a", "preference": NaN}, '
        '{"answer": "b", "preference": 1}]}',
    ],
)
def test_malformed_lines(tmp_path, line):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        load_prompts(path)


def test_missing_and_empty_files_and_unknown_methods(tmp_path, file, tiny_lm):
    with pytest.raises(DataError, match="does not exist"):
        load_prompts(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no prompt"):
        load_prompts(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="unknown method 'magic'"):
        evaluate_best_of_n(file, tiny_lm, "tiny", methods=["magic"], cache_folder=tmp_path)
    with pytest.raises(DataError, match="'cross-encoder' needs a cross-encoder"):
        evaluate_best_of_n(file, tiny_lm, "t", methods=["cross-encoder"], cache_folder=tmp_path)
