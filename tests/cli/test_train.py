"""`trlm train`: the commands one after the other, as a user gives them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import BertForSequenceClassification, BertModel

from trlm_retrieval.training import demo
from trlm_retrieval.training.check import Check

SMALL = [
    "--batch-tokens",
    "256",
    "--device-tokens",
    "128",
    "--device",
    "cpu",
    "--precision",
    "float32",
]


PRETRAIN = ["pretrain", "--shards", "empty", "--preset", "tiny", "-o", "x"]


@pytest.fixture
def corpus(tmp_path):
    rows = [
        {
            "query": f"what is number {n}?",
            "passage": f"The number {n} is {'odd' if n % 2 else 'even'}. " * 3,
        }
        for n in range(400)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_from_text_to_a_shipped_model(run, corpus, tmp_path):
    def ok(*arguments):
        outcome = run("train", *map(str, arguments))
        assert outcome.code == 0, outcome.err
        return outcome.out

    at = tmp_path.joinpath
    assert "a tokenizer of" in ok("tokenizer", corpus, "-o", at("tok"), "--vocabulary", 400)
    assert "held out" in ok("pack", corpus, "--tokenizer", at("tok"), "-o", at("shards"))
    said = ok(
        *["pretrain", "--shards", at("shards"), "--preset", "tiny", "--steps", 3],
        *["--context", 32, "-o", at("ba"), *SMALL],
    )
    assert "nats a token" in said and str(at("ba", "model")) in said.replace("\n", "")
    ok(
        *["finetune", at("ba", "model"), "--pairs", corpus, "--steps", 2],
        *["-o", at("fine"), *SMALL],
    )
    ok(
        *["finetune", at("ba", "model"), "--pairs", corpus, "--lora", 2, "--minutes", 0.02],
        *["-o", at("adapter"), *SMALL],
    )
    found = json.loads(ok("check", at("adapter", "model"), "--pairs", corpus, "--json"))
    assert found["pairs"] > 1 and set(found["nats_a_token"]) == {"forward", "reverse"}
    assert "preferred for" in ok("check", at("fine", "model"), "--data", "demo", "--most", 4)
    assert "holds x" in ok("export", at("adapter"), "--name", "x", "-o", at("small"))
    assert "preferred for" in ok("check", at("small"), "--pairs", corpus)


@pytest.mark.parametrize(
    ("low", "said"),
    [(0.61, "The model learned to prefer true pairs"), (0.46, "did not learn to prefer true")],
)
def test_the_demo_says_whether_the_model_learned(run, monkeypatch, low, said):
    entries = [{"loss": 7.0, "seconds": 1.0}, {"loss": 2.0, "seconds": 9.0}]
    trained = SimpleNamespace(entries=lambda: entries)
    found = Check(93, 9.0, 12.0, 0.5, prefers_true=0.7, low=low, high=0.79)
    result = demo.DemoResult(trained, trained, {"reverse": 4.0, "forward": 6.0}, found)
    monkeypatch.setattr(demo, "train_demo", lambda *_, **__: result)
    outcome = run("train", "--demo")
    assert outcome.code == 0 and said in outcome.out
    assert f"preferred for 70.0% ({low:.1%} to 79.0%)" in outcome.out
    assert "400 steps each" in outcome.err and "minutes" in outcome.err


def labels(file):
    rows = [json.loads(line)["scores"] for line in file.read_text().splitlines()]
    return np.concatenate([np.array(row, float).ravel() for row in rows])


def test_from_pairs_to_an_encoder_decoder(run, save_tiny_bert, tmp_path):
    def ok(*arguments):
        outcome = run("train", *map(str, arguments))
        assert outcome.code == 0, outcome.err
        return outcome.out

    words = [f"w{n}" for n in range(40)]
    texts = [" ".join(words[(n * k) % 40] for k in range(1, 8)) for n in range(600)]
    rows = [{"query": text[:9], "passage": f"{n} {text}"} for n, text in enumerate(texts)]
    pairs, mined = tmp_path / "made.jsonl", tmp_path / "mined.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    mined.write_text(json.dumps({"file": "made", "line": 0, "neg": [["made", 1]]}) + "\n")
    at = tmp_path.joinpath
    save_tiny_bert(BertModel, at("encoder"), texts)
    save_tiny_bert(BertForSequenceClassification, at("judge"), texts, num_labels=1)
    said = ok("groups", "--pairs", f"{pairs}:400", "--negatives", mined, "-o", at("g.jsonl"))
    assert "to learn from" in said and "held out" in said
    label = ["label", at("g.jsonl"), "--teacher", at("judge"), "--precision"]
    assert "holds the scores" in ok(*label, "float32", "-o", at("l.jsonl"))
    ok(*label, "bfloat16", "-o", at("b.jsonl"))
    exact, near = labels(at("l.jsonl")), labels(at("b.jsonl"))
    assert near == pytest.approx(exact, abs=0.02, nan_ok=True) and np.nanstd(exact) > 0.02
    assert np.nanmax(np.abs(near - exact)) > 0  # computed in another precision
    refused = run("train", *map(str, label), "float16", "-o", str(at("h.jsonl")))
    assert refused.code and "bfloat16 or float32, not in 'float16'" in refused.err
    train = ["finetune", at("encoder"), "--groups", at("g.jsonl"), "--labels", at("l.jsonl")]
    train += ["--order", "both", "--decoder-layers", 1, "--no-copy", "--encoder-layers", 1]
    train += ["--frozen-encoder-layers", 0]
    assert "held out" in ok(*train, "--steps", 2, "-o", at("small"), "--device", "cpu")
    settings = json.loads(at("small", "settings.json").read_text())
    assert (settings["order"], settings["copy"]) == ("both", False)
    assert settings["decoder_layers"] == settings["encoder_layers"] == 1
    assert settings["labelled"] == settings["groups"] > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --pairs or --groups"),
        (["--pairs", "p.jsonl", "--order", "fo"], "--order: only --groups makes use of it"),
        (["--pairs", "p.jsonl", "--contrast", "1"], "--contrast: only --groups makes use of it"),
        (["--groups", "g.jsonl", "--direction", "fo"], "--direction: only --pairs makes use"),
        (["--groups", "g.jsonl", "--teacher-weight", "2"], "--teacher-weight: only --labels"),
        (["--groups", "none.jsonl", "--steps", "1"], "no such file or folder: none.jsonl"),
    ],
)
def test_options_that_do_nothing_are_refused(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    outcome = run("train", "finetune", "base", *arguments, "-o", "x")
    assert outcome.code == 2 and message in outcome.err


def test_help_without_a_command(run):
    outcome = run("train")
    assert outcome.code == 0 and "pretrain" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--shards", "empty", "--steps", "1", "-o", "x"], "a size: tiny"),
        (
            ["pretrain", "--shards", "empty", "--preset", "tiny", "--steps", "1", "-o", "x"],
            "tokenizer",
        ),
        (["pretrain", "--shards", "empty", "--preset", "tiny", "-o", "x"], "steps or of minutes"),
        (["check", "x"], "--pairs or --data"),
        (["export", "empty", "--name", "x", "-o", "y"], "no finished run"),
        (["tokenizer", "none.jsonl", "-o", "x"], "no such file"),
        (["finetune", "none", "--pairs", "none.jsonl", "--steps", "1", "-o", "x"], "none.jsonl"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    outcome = run("train", *arguments)
    assert outcome.code == 2 and message in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_soft_prompt_is_trained_and_checked(run, corpus, tiny_lm_folder, tmp_path):
    folder = tmp_path / "soft"
    arguments = ["soft-prompt", str(tiny_lm_folder), "--pairs", str(corpus), "-o", str(folder)]
    outcome = run("train", *arguments, "--steps", "2", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "nats a token" in outcome.out
    model = str(folder / "model")
    found = run("train", "check", model, "--pairs", str(corpus), "--most", "3", "--json")
    assert json.loads(found.out)["pairs"] == 3
    assert run("train", *arguments, "--steps", "2", "--tokens", "4").code == 2
