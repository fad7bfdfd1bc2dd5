"""Embedders that are read without sentence-transformers give the vectors that it gives."""

from pathlib import Path

import numpy as np
import pytest
from tiny_bert import embedder_folder, write

from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.models.plain_embedder import is_plain

TEXTS = [
    "paris",
    "the capital of france for bananas",
    " a python with a sort ",
    " ".join(["bananas"] * 60),
    "",
]


@pytest.mark.parametrize("mode", ["mean", "first"])
def test_vectors_are_those_of_sentence_transformers(tmp_path: Path, mode: str) -> None:
    from sentence_transformers import SentenceTransformer

    folder = embedder_folder(tmp_path, mode)
    assert is_plain(folder)
    ours = SentenceEmbedder(str(folder), device="cpu", batch_size=2)
    theirs = SentenceTransformer(str(folder), device="cpu")
    expected = theirs.encode(TEXTS, batch_size=2, normalize_embeddings=True)
    np.testing.assert_allclose(ours.embed(TEXTS), expected, atol=1e-5)
    assert ours.dimension == expected.shape[1]
    assert type(ours._model).__name__ == "PlainEmbedder"


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config_sentence_transformers.json", {"prompts": {"query": "search: "}}),
        ("sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True}),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}),
        ("modules.json", [{"path": "", "type": "sentence_transformers.models.Transformer"}]),
    ],
)
def test_what_changes_the_vectors_is_left_to_sentence_transformers(
    tmp_path: Path, file: str, change: object
) -> None:
    folder = embedder_folder(tmp_path, "mean")
    write(folder / file, change)
    assert not is_plain(folder)
