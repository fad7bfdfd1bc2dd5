"""``trlm cite``: what it prints, writes and returns."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForSequenceClassification

Run = Callable[..., Any]
ANSWER = "The with statement calls exit [2]. Keys keep order [7]!"
ALL, NONE = ("--threshold", "-1000000"), ("--threshold", "1000000")


@pytest.fixture
def cite(run: Run, tmp_path: Path, tiny_lm_folder: Path) -> Run:
    """Runs the command on an answer and two sources, with a tiny model."""
    (tmp_path / "answer.txt").write_text(ANSWER)
    (tmp_path / "a.txt").write_text("Keys keep their order. So they do.")
    (tmp_path / "b.txt").write_text("Blocks are wrapped. The with statement calls exit.")
    common = ["cite", "--answer", "answer.txt", "--model", tiny_lm_folder]
    return lambda *arguments: run(*common, "--sources", "a.txt", "b.txt", *arguments)


def test_prints_numbered_citations_with_their_quotes(cite: Run) -> None:
    outcome = cite(*ALL)
    assert outcome.code == 0
    found = json.loads(cite(*ALL, "--json").out)
    assert outcome.out.startswith(found["answer"])
    for sentence in found["sentences"]:
        [citation] = sentence["citations"]
        assert f"[{citation['number']}]" in found["answer"]
        assert f"“{citation['quote']}”" in outcome.out
    assert "[7] is no source" in outcome.out
    assert "2 sentences, 0 without a near source" in outcome.out
    assert found["sources"]["1"]["id"] == "a.txt" and found["sources"]["2"]["id"] == "b.txt"


def test_no_support_is_an_exit_code(cite: Run) -> None:
    outcome = cite(*NONE)
    assert outcome.code == 3
    assert outcome.out.count("no source is near this") == 2
    assert outcome.out.startswith("The with statement calls exit. Keys keep order [7]!")


def test_writes_a_page(cite: Run, tmp_path: Path) -> None:
    outcome = cite(*ALL, "--output", "page.html", "--question", "what?", "--search", "binary")
    assert outcome.code == 0 and "Wrote page.html" in outcome.out
    page = (tmp_path / "page.html").read_text()
    assert "<h1>what?</h1>" in page and 'data-for="1"' in page


def test_reads_standard_input(run: Run, cite: Run, tiny_lm_folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ANSWER.encode())))
    arguments = ["cite", "-a", "-", "-s", "a.txt", "--model", tiny_lm_folder, *ALL, "--json"]
    assert len(json.loads(run(*arguments).out)["sentences"]) == 2


def test_bad_input(run: Run, cite: Run, tiny_lm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "bytes.txt").write_bytes(b"ab\xff\0")
    (tmp_path / "image.png").write_bytes(b"x")
    for arguments, message in [
        (["-a", "empty.txt", "-s", "a.txt"], "the answer is empty"),
        (["-a", "bytes.txt", "-s", "a.txt"], "bytes.txt: it is no text in any known encoding"),
        (["-a", "none.txt", "-s", "a.txt"], "none.txt does not exist"),
        (["-a", "answer.txt", "-s", "none"], "no such file or folder: none"),
        (["-a", "answer.txt", "-s", "image.png"], "no text to cite in image.png"),
        (["-a", "answer.txt", "-s", "a.txt", "--search", "magic"], "'magic' is not one of"),
        (["-a", "answer.txt"], "Missing option '--sources'"),
    ]:
        outcome = run("cite", *arguments, "--model", tiny_lm_folder)
        assert outcome.code == 2 and message in outcome.err, outcome.err


def test_every_source_keeps_its_number(cite: Run, tmp_path: Path) -> None:
    (tmp_path / "answer.txt").write_text("Keys keep order [1]. Blocks are wrapped [3]. So [2].")
    (tmp_path / "b.txt").write_text(" ")
    (tmp_path / "c.txt").write_text("Blocks are wrapped.")
    outcome = cite("c.txt", *ALL)
    found = json.loads(cite("c.txt", *ALL, "--json").out)
    assert [found["sources"][number]["id"] for number in "123"] == ["a.txt", "b.txt", "c.txt"]
    markers = [sentence["markers"][0]["document_id"] for sentence in found["sentences"]]
    assert markers == ["a.txt", "c.txt", "b.txt"]
    assert "source [2] could not be read" in outcome.out


def test_an_nli_model_is_plugged_in_by_name(cite: Run, save_tiny_bert: Any, tmp_path: Path) -> None:
    def contradicting(config: Any) -> BertForSequenceClassification:
        model = BertForSequenceClassification(config)
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
        return model

    for second, mark in ("contradiction", "!"), ("ENTAILMENT", "✓"):
        other = "entailment" if second == "contradiction" else "contradiction"
        labels = {0: "neutral", 1: second, 2: other}
        nli = save_tiny_bert(contradicting, tmp_path / second, [ANSWER], id2label=labels)
        outcome = cite(*ALL, "--nli", nli, "--output", "page.html")
        assert outcome.code == 0 and "what the NLI model says" in outcome.out
        assert f"{mark}  The with statement calls exit [2]." in outcome.out
        assert f"<dt>NLI model</dt><dd>{nli}</dd>" in (tmp_path / "page.html").read_text()
        [_, sentence] = json.loads(cite(*ALL, "--nli", nli, "--json").out)["sentences"]
        assert sentence["citations"][0]["nli"]["label"] == second.lower()
    outcome = cite(*ALL, "--nli", "tests/none")
    assert outcome.code == 2 and "cannot load the model 'tests/none'" in outcome.err
    outcome = cite(*ALL, "--nli", "none")
    assert outcome.code == 2 and "unknown model 'none'" in outcome.err
