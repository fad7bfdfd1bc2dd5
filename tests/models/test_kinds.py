"""A model for one purpose is not loaded for another."""

import json

import pytest
from haystack import Document
from tiny_bert import tiny_bert, word_tokenizer

from trlm_retrieval import PassageIndex, TimeReversedLM
from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.models.kinds import kind_of
from trlm_retrieval.models.store import REGISTRY


@pytest.fixture
def no_models(tmp_path, monkeypatch):
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path))


def saved(folder, classifier):
    tiny_bert(classifier).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def test_kinds_are_read_from_the_configuration(tmp_path, tiny_lm_folder):
    assert kind_of(saved(tmp_path / "c", classifier=True)) == "cross-encoder"
    assert kind_of(saved(tmp_path / "e", classifier=False)) == "encoder"
    assert kind_of(tiny_lm_folder) == "language model"
    assert kind_of(tmp_path) is None
    for text in ('{"architectures": []}', "{}", "{"):
        (tmp_path / "config.json").write_text(text)
        assert kind_of(tmp_path) is None


@pytest.mark.parametrize(
    "architecture", ["T5ForConditionalGeneration", "GPTNeoXForCausalLM", "GPT2LMHeadModel"]
)
def test_decoders_and_encoder_decoders_are_language_models(tmp_path, architecture):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert kind_of(tmp_path) == "language model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ms-marco-minilm-l12", "is a cross-encoder, not a language model.*trlm-small"),
        ("minilm", "is an encoder, not a language model.*trlm-small"),
        ("bge-small", "is an encoder, not a language model.*trlm index --embedder"),
    ],
)
def test_known_names_are_refused_before_they_are_pulled(no_models, name, message):
    with pytest.raises(ModelError, match=message):
        TimeReversedLM.from_pretrained(name)


def test_folders_are_refused_as_language_models(tmp_path):
    with pytest.raises(ModelError, match="is a cross-encoder, not a language model"):
        TimeReversedLM.from_pretrained(saved(tmp_path / "c", classifier=True))
    with pytest.raises(ModelError, match="is an encoder, not a language model"):
        TimeReversedLM.from_pretrained(saved(tmp_path / "e", classifier=False))


def test_a_cross_encoder_does_not_embed(no_models, tmp_path):
    documents = [Document(content="paris")]
    with pytest.raises(ModelError, match=r"not an embedder.*minilm or bge-small"):
        PassageIndex.build(tmp_path / "index", documents, embedder="ms-marco-minilm-l12")
    folder = str(saved(tmp_path / "c", classifier=True))
    for _ in range(2):  # the second time as the first
        with pytest.raises(ModelError, match="not an embedder"):
            embedder = SentenceEmbedder(folder, device="cpu")
            embedder.embed(["paris"])


def test_the_registry_says_what_each_model_is():
    kinds = {name: model.kind for name, model in REGISTRY.items()}
    assert kinds == {
        "smollm2-135m": "language model",
        "minilm": "encoder",
        "bge-small": "encoder",
        "ms-marco-minilm-l12": "cross-encoder",
    }
