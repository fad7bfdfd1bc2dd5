"""A tiny collection in BEIR layout."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from transformers import BertForSequenceClassification

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.passage_index import index as index_module

CORPUS = {
    "d1": ("With", "The with statement calls enter and exit."),
    "d2": ("", "A generator yields values one at a time."),
    "d3": ("Dict", "A dictionary keeps insertion order."),
    "d4": ("", "Exit codes tell the shell how a program ended."),
}
QUERIES = {"q1": "how does with call exit", "q2": "generator values", "q3": "insertion order"}
QRELS = [("q1", "d1", 2), ("q1", "d4", 0), ("q2", "d2", 1), ("q3", "d3", 1), ("q3", "d1", 0)]


@pytest.fixture(autouse=True)
def no_real_embedder(monkeypatch, word_embedder):
    monkeypatch.setattr(index_module, "shared_embedder", lambda name: word_embedder)


@pytest.fixture(scope="session")
def encoder_decoder() -> TimeReversedLM:
    """The packaged model, which does not score forwards."""
    return TimeReversedLM.from_pretrained("trlm-small")


@pytest.fixture
def save_cross_encoder(save_tiny_bert, tmp_path) -> Callable[[Iterable[str]], Path]:
    """Saves a random cross-encoder that knows the words of the texts."""
    return lambda texts: save_tiny_bert(
        BertForSequenceClassification, tmp_path / "cross", list(texts), num_labels=1
    )


@pytest.fixture
def make_cross_encoder(save_cross_encoder) -> Callable[[Iterable[str]], CrossEncoder]:
    """The same, loaded."""
    return lambda texts: CrossEncoder.from_pretrained(save_cross_encoder(texts), device="cpu")


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def beir(tmp_path) -> Path:
    folder = tmp_path / "tiny"
    write_lines(
        folder / "corpus.jsonl",
        [json.dumps({"_id": k, "title": t, "text": x}) for k, (t, x) in CORPUS.items()],
    )
    write_lines(
        folder / "queries.jsonl", [json.dumps({"_id": k, "text": t}) for k, t in QUERIES.items()]
    )
    write_lines(
        folder / "qrels" / "test.tsv",
        ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in QRELS)],
    )
    return folder
