"""`trlm prompt`: what the commands print is what the library finds."""

import json

import pytest

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.prompts.inference import rank_prompts
from trlm_retrieval.prompts.preceding_tokens import preceding_tokens
from trlm_retrieval.prompts.undertrained import undertrained_tokens

OUTPUTS = ["A generator yields values.", "It yields one value at a time."]


@pytest.fixture
def files(tmp_path):
    paths = []
    for i, text in enumerate(OUTPUTS):
        paths.append(tmp_path / f"output-{i}.txt")
        paths[-1].write_text(text)
    return paths


def test_infer_ranks_given_prompts(run, files, tmp_path, tiny_lm_folder):
    prompts = ["what does a generator do", "how to exit"]
    (tmp_path / "prompts.txt").write_text("\n".join(["", *prompts]))
    arguments = [*files, "--candidates", "prompts.txt", "--model", tiny_lm_folder]
    outcome = run("prompt", "infer", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder)
    expected = rank_prompts(lm, OUTPUTS, prompts)
    found = json.loads(outcome.out)
    assert [entry["text"] for entry in found] == [candidate.text for candidate in expected]
    assert found[0]["gain"] == pytest.approx(expected[0].gain, abs=1e-3)
    shown = run("prompt", "infer", *arguments).out
    assert shown.index(expected[0].text) < shown.index(expected[1].text)


def test_infer_generates_prompts(run, files, tiny_lm_folder):
    arguments = ["prompt", "infer", *files, "--number", 2, "--model", tiny_lm_folder, "--json"]
    found = json.loads(run(*arguments, "--top-k", 3).out)
    assert len(found) == 3 and found[0]["gain"] >= found[1]["gain"]


def test_tokens(run, files, tiny_lm_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path / "cache"))
    arguments = ["--examined", 10, "--model", tiny_lm_folder, "--text", files[0]]
    outcome = run("prompt", "tokens", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    expected = undertrained_tokens(TimeReversedLM.from_pretrained(tiny_lm_folder), examined=10)
    assert [token["id"] for token in found["tokens"]] == [token.id for token in expected]
    assert 0 <= found["share_of_text"] <= 1
    assert "of the text's tokens" in run("prompt", "tokens", *arguments).out
    known = TimeReversedLM.from_pretrained(tiny_lm_folder).encoder.undertrained
    assert known == {token["id"] for token in found["tokens"]}


def test_bad_input(run, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    assert "is empty" in run("prompt", "infer", "empty.txt").err
    assert "not UTF-8" in run("prompt", "infer", "bytes.txt").err
    assert "holds no prompt" in run("prompt", "infer", "text.txt", "--candidates", "empty.txt").err
    assert run("prompt", "infer", "none.txt").code == 2
    assert run("prompt", "tokens", "--examined", 0).code == 2


def test_search_for_a_hostile_passage(run, files, tiny_lm_folder):
    arguments = ["prompt", "search", "--passage", files[0], "--length", 3, "--steps", 2]
    arguments += ["--model", tiny_lm_folder]
    outcome = run(*arguments, "--query", "what exits", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["log_likelihood_after"] > found["log_likelihood_before"]
    assert "least fluent after" in run(*arguments, "--query", "what exits").out


def test_search_for_words_in_a_prompt(run, tmp_path, tiny_lm_folder):
    rows = [{"query": f"question {i}", "passage": f"passage {i}"} for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["prompt", "search", "--pairs", "pairs.jsonl", "--most", 2, "--steps", 2]
    found = json.loads(run(*arguments, "--model", tiny_lm_folder, "--json").out)
    assert found["words"] in found["prompt"]
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder)
    given = [(row["query"], row["passage"]) for row in rows[:2]]
    mean = sum(one.sum for one in lm.score(given)) / 2
    assert found["log_likelihood_without"] == pytest.approx(mean, abs=1e-3)


def test_search_bad_input(run, tmp_path, files):
    (tmp_path / "pairs.jsonl").write_text('{"query": "q"}')
    assert "needs query and passage" in run("prompt", "search", "--pairs", "pairs.jsonl").err
    assert "--query and --passage" in run("prompt", "search", "--query", "q").err
    both = ["--query", "q", "--passage", files[0], "--pairs", "pairs.jsonl"]
    assert run("prompt", "search", *both).code == 2


def test_brute_force(run, tiny_lm_folder):
    arguments = ["prompt", "brute-force", " values", "--top-k", 3, "--model", tiny_lm_folder]
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder)
    expected = preceding_tokens(lm, lm.tokenizer(" values")["input_ids"], top_k=3)
    found = json.loads(run(*arguments, "--json").out)
    assert [token["id"] for token in found] == [token.id for token in expected]
    assert repr(expected[0].text) in run(*arguments).out
    assert "the text is empty" in run("prompt", "brute-force", "").err
