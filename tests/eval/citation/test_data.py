"""The three shapes of citation files."""

import json

import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.citation.data import halves, holds_sentences, load_claims, load_grounded

QUOTED = {
    "question": "with?",
    "answer": "With calls exit. It calls enter, and keys keep order. Nobody quotes this.",
    "quotes": [
        {"source": 0, "text": "calls exit"},
        {"source": 0, "text": "calls"},
        {"source": 1, "text": "keep order"},
    ],
    "sources": [
        {"title": "With", "text": "It calls exit."},
        {"title": "Keys", "text": "They keep order."},
    ],
}
GROUNDED = {
    "question": "with?",
    "answer": "It calls exit. It calls enter.",
    "sentences": ["One.", "Two.", "Three."],
    "selected": [0, 2],
}


def write(path, *lines):
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_sentences_of_a_quoting_answer(tmp_path):
    claims, warnings = load_claims(write(tmp_path / "q.jsonl", QUOTED))
    assert [(claim.text, claim.sources) for claim in claims] == [("With calls exit.", {0})]
    assert claims[0].passages == ("With\nIt calls exit.", "Keys\nThey keep order.")
    assert claims[0].group == "with?"
    assert warnings == [
        "1 claims have no source and are left out",
        "1 claims are supported by all of their passages and are left out",
    ]


def test_grounded_answers(tmp_path):
    evidence = {"claim": "It calls exit.", "sentences": ["One.", "Two."], "evidence": [1]}
    path = write(tmp_path / "g.jsonl", GROUNDED, evidence)
    (first, second), _ = load_grounded(path)
    assert first.answer == ("It calls exit.", "It calls enter.")
    assert (first.source, first.selected, first.question) == ("One. Two. Three.", {0, 2}, "with?")
    assert second.answer == ("It calls exit.",) and second.selected == {1}
    assert holds_sentences(path) and not holds_sentences(write(tmp_path / "q.jsonl", QUOTED))


def test_a_line_that_selects_what_is_not_there_is_left_out_and_told(tmp_path):
    path = write(tmp_path / "g.jsonl", {**GROUNDED, "selected": [0, 3]}, GROUNDED)
    [kept], [warning] = load_grounded(path)
    assert kept.id == "2" and warning.startswith("line 1 selects a sentence that is not there")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"selected": [3]}, "no line that can be used"),
        ({"sentences": []}, "no line that can be used"),
        ({"sentences": [1]}, "line 1"),
        ({"answer": None}, "line 1"),
        ({"selected": "x"}, "line 1"),
    ],
)
def test_malformed_grounds(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        load_grounded(write(tmp_path / "g.jsonl", {**GROUNDED, **change}))


def test_an_empty_file(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    assert not holds_sentences(tmp_path / "empty.jsonl")
    with pytest.raises(DataError, match="no line"):
        load_grounded(tmp_path / "empty.jsonl")


def test_halves_keep_groups_together():
    assert halves(["a", "a", "b", "a", "c"]) == {"a": 0, "b": 1, "c": 0}
