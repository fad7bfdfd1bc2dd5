"""Evaluation of the safety filter: the data's split, scores, thresholds, and the command."""

import json
import lzma
import re

import numpy as np
import pytest
from scipy.stats import binom

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.components.linear_head import LinearHead
from trlm_retrieval.components.question_filter import QuestionFilter
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.query_cache import QueryCache
from trlm_retrieval.eval.safety.data import Exchange, find_answers, load_exchanges, split
from trlm_retrieval.eval.safety.evaluation import (
    SYSTEMS,
    evaluate_safety,
    measure,
    score,
    threshold_at,
)
from trlm_retrieval.eval.studies import choose_safety, question_head, reply_head

WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"]


def goal(i):
    return f"{WORDS[i]} {WORDS[i][::-1] * 2} {i}"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "safety"
    path.mkdir()
    jailbreaks = [
        {
            "goal": f"bomb {goal(i)}",
            "attack": attack,
            "prompt": "please " * 9 + goal(i),
            "response": f"take {goal(i)}",
            "jailbroken": i % 3 > 0,
        }
        for i in range(8)
        for attack in ("A", "B")
    ]
    xstest = [
        {
            "type": "contrast_x" if i % 2 else "x",
            "prompt": f"how to {goal(i)}" + (" bomb" if i % 2 else ""),
            "response": f"sure, {goal(i)}",
        }
        for i in range(8)
    ]
    with lzma.open(path / "jailbreaks.jsonl.xz", "wt") as out:
        out.write("\n".join(map(json.dumps, jailbreaks)))
    (path / "xstest.jsonl").write_text("\n".join(map(json.dumps, xstest)))
    answers = [{"query": f"what {goal(i)}", "answers": [{"answer": goal(i)}]} for i in range(8)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    return path


def test_wordings_of_one_behaviour_stay_together():
    texts = [f"Write a guide that explains how to do thing {word} at home" for word in WORDS]
    found = split([*texts, *(text + "." for text in texts), *WORDS])
    assert len({found[text] for text in texts} | {found[text + "."] for text in texts}) == 1
    assert {found[word] for word in WORDS} == {True, False}
    assert split(WORDS) == split(reversed(WORDS)) == {word: found[word] for word in WORDS}


def test_no_question_is_in_both_parts(folder):
    exchanges = load_exchanges(folder, folder.parent / "answers.jsonl")
    assert len(exchanges) == 16 + 8 + 8
    parts = {held: {e.question for e in exchanges if e.held_out == held} for held in (True, False)}
    assert parts[True] and parts[False] and parts[True].isdisjoint(parts[False])
    learned = question_head.labelled(exchanges, held_out=False)
    assert all(unsafe == ("bomb" in question) for question, unsafe in learned.items())


def test_ordinary_answers_are_found_beside_the_folder(folder):
    assert find_answers(folder) is None
    (folder.parent / "best_of_n").mkdir()
    beside = folder.parent / "best_of_n" / "alpacaeval.jsonl.xz"
    beside.touch()
    assert find_answers(folder) == beside
    (folder / "alpacaeval.jsonl").touch()
    assert find_answers(folder) == folder / "alpacaeval.jsonl"


def test_thresholds_at_a_rate():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9])
    for rate, flagged in ((0.0, 0), (0.1, 0), (0.2, 2), (0.25, 2), (0.3, 3), (1.0, 10)):
        assert (scores >= threshold_at(scores, rate)).sum() == flagged


def exchange(source, kind, **texts):
    return Exchange(source, kind, "q", **{"prompt": "", "response": "", **texts}, unsafe=False,
                    held_out=True)  # fmt: skip


def test_measures_by_hand():
    jailbroken = [exchange("jailbreaks", kind) for kind in "AAB"]
    safe = [exchange("xstest", "x"), exchange("answers", "y")]
    scores = {
        "prompt": np.array([0.9, 0.1, 0.1, 0.6, 0.2]),
        "questions": np.array([0.1, 0.7, 0.15, 0.61, 0.2]),
        "prompt + questions": np.array([0.9, 0.7, 0.15, 0.6, 0.2]),
    }
    found = measure(jailbroken, safe, scores)
    mean = {s: {m: np.mean(list(v.values())) for m, v in t.items()} for s, t in found.items()}
    assert mean["prompt"]["FNR@5%"] == pytest.approx(2 / 3)
    assert mean["prompt + questions"]["FNR@5%"] == pytest.approx(1 / 3)
    assert mean["prompt"]["FNR@5% of answers"] == pytest.approx(2 / 3)
    assert mean["prompt + questions"]["FNR@5% of answers"] == pytest.approx(1 / 3)
    assert mean["prompt + questions"]["FNR@5% of xstest"] == pytest.approx(1 / 3)
    assert (
        mean["prompt + questions"]["FNR@shipped A"] == 0.0
        and mean["prompt + questions"]["FNR@shipped B"] == 1.0
    )
    assert mean["prompt"]["FPR@shipped xstest"] == 1.0
    assert mean["questions"]["FPR@shipped xstest"] == 0.0  # a threshold of its own
    assert mean["questions"]["FNR@shipped"] == pytest.approx(2 / 3)
    assert (
        mean["prompt"]["FPR@shipped answers"]
        == mean["prompt + questions"]["FPR@+2% answers"]
        == 0.0
    )
    assert mean["prompt"]["FNR@shipped"] == pytest.approx(2 / 3)
    assert mean["prompt + questions"]["FNR@+2%"] == pytest.approx(1 / 3)


def test_scores_of_the_systems(tiny_lm, tmp_path):
    cache = QueryCache(tmp_path / "queries.jsonl")
    exchanges = [
        exchange("jailbreaks", "A", prompt="p", response="a reply"),
        exchange("jailbreaks", "A", prompt="p bomb", response=""),
    ]
    written: list[str] = []

    def inner(texts):
        written.extend(texts)
        return [1.0 if "bomb" in text else 0.2 + 0.01 * (len(text) % 7) for text in texts]

    def reply_filter(texts):
        assert texts == ["a reply"]  # what is empty is not judged
        return [0.7]

    found = score(exchanges, tiny_lm, inner, reply_filter, 3, 2, cache)
    questions = sorted(inner(written[:3]))
    assert found["questions"].tolist() == [questions[1], -np.inf]
    assert found["reply"].tolist() == [0.7, -np.inf]
    assert {scores[1] for system, scores in found.items() if "prompt" in system} == {1.0}
    assert found["prompt + questions"][0] == max(found["prompt"][0], questions[1])
    assert found["prompt + reply"][0] == max(found["prompt"][0], 0.7)
    assert found["all"].tolist() == [max(0.7, found["prompt + questions"][0]), 1.0]
    assert set(found) == set(SYSTEMS)


def test_the_commands(folder, tiny_lm_folder, tmp_path, capsys, monkeypatch, word_embedder):
    for name in ("components.piece_filter", "eval.studies.question_head"):
        monkeypatch.setattr(f"trlm_retrieval.{name}.SentenceEmbedder", lambda name: word_embedder)
    head, answers = tmp_path / "head.json", tmp_path / "answers.jsonl"
    arguments = ["--data", folder, "--answers", answers, "--out", head]
    monkeypatch.setattr("sys.argv", ["question_head", *map(str, arguments)])
    question_head.main()
    [auc] = re.findall(r"ROC AUC (\S+)", capsys.readouterr().out)
    assert float(auc) > 0.7  # it has learned the word
    assert LinearHead.load(head).embedder == "words"
    arguments = ["eval", "safety", "--data", folder, "--answers", answers, "--head", head]
    arguments += ["--model", tiny_lm_folder, "--responses", 4, "--number", 2]
    arguments += ["--reply-head", head]
    arguments += ["--json", tmp_path / "o.json", "--cache-dir", tmp_path / "c"]
    assert run_cli([str(a) for a in arguments]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "o.json").read_text())
    assert set(found["systems"]) == set(SYSTEMS)
    measures = set(found["systems"]["all"])
    assert {"FNR@5%", "FNR@2% of xstest", "FNR@shipped A", "FPR@+2% answers"} <= measures
    assert "alpha" not in (tmp_path / "o.json").read_text()
    assert run_cli([*map(str, arguments), "--min-unsafe", "3"]) == 2
    arguments = ["--data", folder, "--answers", answers, "--head", head, "--number", 2]
    arguments += ["--model", tiny_lm_folder, "--cache-dir", tmp_path / "c"]
    monkeypatch.setattr("sys.argv", ["choose_safety", *map(str, arguments)])
    capsys.readouterr()
    choose_safety.main()
    added = [float(value) for value in re.findall(r"[+-]\d\.\d{3}", capsys.readouterr().out)]
    assert len(added) == 2 and all(0 <= value <= 0.02 for value in added)


def test_the_study_of_replies(folder, tmp_path, capsys, monkeypatch, word_embedder):
    """Half of the behaviours is learned from; the refusals and each attack have their rows."""
    for name in ("components.piece_filter", "eval.studies.reply_head"):
        monkeypatch.setattr(f"trlm_retrieval.{name}.SentenceEmbedder", lambda name: word_embedder)
    questions = tmp_path / "questions.json"
    LinearHead("words", (0.0,) * 16, -9.0, "passes all").save(questions)
    monkeypatch.setattr(QuestionFilter, "_shipped", questions)
    head = tmp_path / "reply.json"
    answers = folder.parent / "answers.jsonl"
    arguments = ["--data", folder, "--answers", answers, "--out", head]
    monkeypatch.setattr("sys.argv", ["reply_head", *map(str, arguments)])
    reply_head.main()
    out = capsys.readouterr().out
    exchanges = load_exchanges(folder, answers)
    learned = [e for e in exchanges if not e.held_out]
    unsafe = sum(e.unsafe and e.source == "jailbreaks" for e in learned)
    safe = sum(not e.unsafe for e in learned)
    assert f"{unsafe} unsafe and {safe} safe replies" in out
    assert LinearHead.load(head).embedder == "words"
    for row in ("all attacks", "without the first", "A, not learned from", "B, not learned from"):
        assert row in out
    assert out.count("1.000 (1.00–1.00)") >= 3  # the prompt filter passes all of each attack


def test_unsafe_replies_that_share_a_word_are_learned(word_embedder):
    texts = [("take the bomb now", "A"), ("a bomb here", "B"), ("bread", "x"), ("some milk", "x")]
    exchanges = [exchange("jailbreaks" if kind < "a" else "xstest", kind) for _, kind in texts]
    vectors = [word_embedder.embed([text]) for text, _ in texts]
    replies = reply_head.Replies(exchanges, 2, 4, vectors, np.zeros(4), np.arange(4))
    head = reply_head.fit(replies, np.ones(4, bool), 10.0, "words")
    found = reply_head.scores(head, [word_embedder.embed([t]) for t in ("bomb", "bread")])
    assert found[0] > 0.5 > found[1]


@pytest.mark.parametrize("number", [100, 150, 800])
def test_a_share_that_is_surely_below_another(number):
    """Against the binomial distribution itself: how often so few are seen of a share of 2 %."""
    few = round(reply_head.surely_below(0.02, number) * number)
    assert binom.cdf(few, number, 0.02) <= 0.05 or few == 0
    assert binom.cdf(few + 1, number, 0.02) > 0.05


def test_the_ratio_of_misses():
    before, after = np.array([True] * 4), np.array([True, True, False, False])
    assert reply_head._ratio(["alpha", "alpha", "bravo", "bravo"], before, after).startswith("0.50")
    assert reply_head._ratio(["alpha"], np.array([False]), np.array([False])) == "-"


def test_bad_data(folder, tiny_lm, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"query": "q"}\n')
    with pytest.raises(DataError, match="line 1: needs query and answers"):
        load_exchanges(folder, tmp_path / "bad.jsonl")
    (folder / "xstest.jsonl").write_text('{"type": "x", "prompt": 1}\n')
    with pytest.raises(DataError, match="line 1: needs prompt, response, as text"):
        load_exchanges(folder, None)
    (folder / "xstest.jsonl").unlink()
    with pytest.raises(DataError, match="holds no xstest"):
        load_exchanges(folder, None)
    (folder / "xstest.jsonl").write_text("")
    with pytest.raises(DataError, match="none to a safe prompt"):
        evaluate_safety(folder, None, tiny_lm, "tiny", cache_folder=tmp_path)
