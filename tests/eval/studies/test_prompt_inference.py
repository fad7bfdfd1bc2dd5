"""How often the right instruction is first, by hand, and that the study reads what it says."""

import json
import sys

import numpy as np
import pytest

from trlm_retrieval.eval.best_of_n.evaluation import load_prompts
from trlm_retrieval.eval.studies import prompt_inference
from trlm_retrieval.lm.generation import question_template
from trlm_retrieval.prompts.inference import rank_prompts

WORDS = ["with", "exit", "generator", "values", "keys"]


@pytest.fixture
def file(tmp_path):
    lines = [
        {
            "query": f"What is {word} about?",
            "answers": [
                {"answer": f"It is {word} number {i}.", "preference": 0.5} for i in range(9)
            ],
        }
        for word in WORDS
    ]
    lines.append({**lines[0], "query": "too long " * 30})
    few = [{**answer, "answer": " "} for answer in lines[0]["answers"][:2]]
    lines.append({"query": "Too few?", "answers": [*few, *lines[0]["answers"][2:]]})
    path = tmp_path / "tiny.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_ranks_by_hand():
    scores = np.zeros((16, 3))
    scores[:8] = [1, 2, 0]  # one candidate is better than the first instruction
    scores[:2] = [5, 2, 0]  # but not given these two answers
    values = prompt_inference._values(scores, 2)
    assert values["first@1"] == {"0": 2 / 8, "1": 0.0}
    assert values["first@2"]["0"] == 1 / 4
    assert values["first@4"]["0"] == 1 / 2  # the mean of 5, 5, 1, 1 against 2
    assert values["first@8"]["0"] == 0
    assert values["RR@1"]["0"] == pytest.approx((2 * 1 + 6 / 2) / 8)
    assert values["RR@8"] == {"0": 0.5, "1": pytest.approx(1 / 3)}  # equal scores come before


def test_the_gain_is_what_the_command_orders_by(file, tiny_lm, word_embedder, tmp_path):
    drawn = prompt_inference.draw(load_prompts(file), 5)
    assert {one.query for one in drawn} == {f"What is {word} about?" for word in WORDS}
    assert {len(set(one.answers)) for one in drawn} == {8}
    assert drawn == prompt_inference.draw(load_prompts(file), 5)
    result = prompt_inference.evaluate_inference(
        drawn, 2, tiny_lm, "tiny", word_embedder, cache_folder=tmp_path
    )
    assert result.queries == 2
    for i, (query, answers) in enumerate(drawn[:2]):
        ordered = rank_prompts(tiny_lm, answers, [one.query for one in drawn])
        place = [one.text for one in ordered].index(query) + 1
        assert result.per_query["gain"]["RR@8"][str(i)] == 1 / place
        likeliest = sorted(ordered, key=lambda one: -one.log_likelihood)
        place = [one.text for one in likeliest].index(query) + 1
        assert result.per_query["likelihood"]["RR@8"][str(i)] == 1 / place
    assert result.systems["BM25 of the answer"]["first@8"].mean == 1  # the words tell it


def test_the_prior_does_not_depend_on_an_answer(tiny_lm):
    template = question_template(tiny_lm)
    [found] = prompt_inference.priors(tiny_lm, ["What is exit?"], template)
    [one] = tiny_lm.score([("What is exit?", "Insertion order.")], template, prior=True)
    assert found == pytest.approx(one.prior_log_probs.sum(), abs=1e-3)


def test_the_command_prints_a_row_for_each_score(
    file, tiny_lm_folder, word_embedder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prompt_inference, "SentenceEmbedder", lambda: word_embedder)
    options = ["--data", str(file), "--model", str(tiny_lm_folder), "--targets", "3"]
    monkeypatch.setattr(sys, "argv", ["prompt_inference", *options, "--json", "out.json"])
    prompt_inference.main()
    shown = capsys.readouterr().out
    assert "3 instructions" in shown
    for name in json.loads((tmp_path / "out.json").read_text())["systems"]:
        assert shown.count(f"│ {name} ") == 2
