"""Examples stand in front of each passage, written as the template writes what it asks."""

import sys

import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.evaluation import sample_queries
from trlm_retrieval.eval.studies import few_shot
from trlm_retrieval.lm.template import DIRECTIONS


def test_examples_are_read_before_the_passage(tiny_lm):
    template = few_shot.with_examples(DIRECTIONS["fo"], [("why?", "Because."), ("when?", "Now.")])
    [pair] = tiny_lm.encode([("who?", "She.")], template)
    ask = "Please write a question based on this passage.\nQuestion:"
    assert tiny_lm.tokenizer.decode(pair.context[1:]) == (
        f"Passage: Because.\n{ask} why?\n\nPassage: Now.\n{ask} when?\n\nPassage: She.\n{ask}"
    )
    assert tiny_lm.tokenizer.decode(pair.target) == " who?"
    assert few_shot.with_examples(DIRECTIONS["fo"], []) == DIRECTIONS["fo"]


def test_no_example_is_measured_and_too_few_are_told(beir):
    dataset = load_dataset(str(beir))
    measured = sample_queries(dataset, 1, 0)
    [(query, passage)] = few_shot.examples_of(dataset, measured, 1)
    assert query not in measured.queries.values() and passage
    with pytest.raises(DataError, match="measure fewer queries"):
        few_shot.examples_of(dataset, dataset, 1)


def test_the_command_prints_a_row_for_each_number(
    beir, tiny_lm_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    told = [str(beir), "--model", str(tiny_lm_folder), "--queries", "1", "--examples", "1"]
    monkeypatch.setattr(sys, "argv", ["few_shot", *told])
    score, templates = few_shot.ScoreCache.score, []

    def watched(self, lm, **asked):
        templates.append(asked["template"])
        return score(self, lm, **asked)

    monkeypatch.setattr(few_shot.ScoreCache, "score", watched)
    few_shot.main()
    plain, shown = templates
    assert shown.context.endswith("\n\n" + plain.context) and shown.target == plain.target
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(rows) == 2 and "p = " in rows[1] and "p = " not in rows[0]
