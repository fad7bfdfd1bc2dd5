"""Thresholds for "unsupported": examples, fit and error shares."""

import json

import numpy as np
import pytest

from trlm_retrieval.citation.support import SupportScorer
from trlm_retrieval.eval.citation.data import Claim, Grounded, halves
from trlm_retrieval.eval.studies import calibrate_citations
from trlm_retrieval.eval.studies.calibrate_citations import (
    answer_examples,
    best_supports,
    claim_examples,
    errors,
    fit,
    passage_examples,
    question_examples,
)

CLAIMS = [
    Claim(f"{g}.{i}", g, f"claim {g}{i}", (f"{g} one", f"{g} two"), frozenset({i}))
    for g in "abcd"
    for i in (0, 1)
]
ANSWERS = [
    Grounded(str(i), f"question {i}", (f"answer {i}.",) if i < 2 else (), (f"s {i}.",), selected)
    for i, selected in enumerate([frozenset({0}), frozenset({0}), frozenset(), frozenset()])
]


def test_claims_meet_the_passages_of_another_question_of_their_half():
    examples = claim_examples(CLAIMS)
    half_of = halves([claim.group for claim in CLAIMS])
    for example in examples:
        group = example.sources[0][0]
        assert (group == example.group) == example.supported
        assert half_of[group] == half_of[example.group]
    assert sum(example.supported for example in examples) == len(examples) / 2 == 8


def test_passages_answers_and_questions():
    found = passage_examples(CLAIMS)
    assert sum(example.supported for example in found) == len(found) / 2 == 8
    # Each half holds one answer only, and so no source of another question.
    assert [(e.text, e.sources, e.supported) for e in answer_examples(ANSWERS)] == [
        ("answer 0.", ("s 0.",), True),
        ("answer 1.", ("s 1.",), True),
    ]
    assert [(e.text, e.supported) for e in question_examples(ANSWERS)] == [
        ("question 2", False),
        ("question 3", False),
        ("question 0", True),
        ("question 1", True),
    ]


def test_the_best_source_counts(tiny_lm):
    examples = claim_examples(CLAIMS)
    scorer = SupportScorer(tiny_lm.score)
    found = best_supports(examples, scorer)
    for example, score in zip(examples, found, strict=True):
        alone = [s.score for s in scorer.score([(example.text, s) for s in example.sources])]
        assert score == pytest.approx(max(alone), abs=1e-3)


def test_the_fit_errs_least():
    scores = np.array([0.1, 0.2, 0.6, 0.4, 0.8, 0.9])
    supported = np.array([False, False, False, True, True, True])
    threshold = fit(scores, supported)
    assert threshold == pytest.approx(0.3)
    found = errors(scores, supported, threshold)
    assert (found.missed, found.wrong) == (0.0, pytest.approx(1 / 3))
    assert errors(scores, supported, 0.8).missed == pytest.approx(1 / 3)


def test_the_command(tmp_path, tiny_lm_folder, monkeypatch, capsys):
    expertqa, clapnq = tmp_path / "e.jsonl", tmp_path / "c.jsonl"
    expertqa.write_text(
        "\n".join(
            json.dumps(
                {
                    "question": f"q{g}",
                    "claims": [{"text": f"A claim {g}.", "sources": [0]}],
                    "passages": [f"The claim {g}.", "Another."],
                }
            )
            for g in range(4)
        )
    )
    clapnq.write_text(
        "\n".join(
            json.dumps(
                {
                    "question": f"question {g}",
                    "answer": f"An answer {g}." if g < 4 else "",
                    "sentences": [f"Sentence {g}.", "More."],
                    "selected": [0] if g < 4 else [],
                }
            )
            for g in range(8)
        )
    )
    arguments = ["calibrate", "--expertqa", expertqa, "--clapnq", clapnq, "--model", tiny_lm_folder]
    arguments += ["--cache-dir", tmp_path / "cache"]
    monkeypatch.setattr("sys.argv", [str(argument) for argument in arguments])
    calibrate_citations.main()
    printed = capsys.readouterr().out
    for name in ("claims", "passages", "answers", "questions"):
        assert printed.count(f" {name} ") == 2
