import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from tests.passage_index.examples import ANIMALS, LetterEmbedder, ids, many
from trlm_retrieval.errors import ModelError, PassageIndexError
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.passage_index import PassageIndex

# --- searching


def test_bm25_ranks_documents_that_share_words(index: PassageIndex) -> None:
    found = index.search_bm25("sleeping cats")
    assert ids(found) == ["cat", "dog"]
    assert found[0].score is not None and found[1].score is not None
    assert found[0].score > found[1].score > 0
    assert index.search_bm25("xylophone") == []
    assert ids(index.search_bm25("the cat", top_k=1)) == ["cat"]


def test_meta_fields_are_searched_with_the_content(
    tmp_path: Path, embedder: LetterEmbedder
) -> None:
    documents = [Document(id="x", content="body", meta={"title": "heading"}), *ANIMALS]
    index = PassageIndex.build(tmp_path / "a", documents, embedder=embedder)
    assert ids(index.search_bm25("heading")) == ["x"]
    assert embedder.seen[0] == "heading\nbody"
    assert index.get("x").content == "body"
    plain = PassageIndex.build(tmp_path / "b", documents, embedder=None, meta_fields_to_embed=())
    assert plain.search_bm25("heading") == []


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_dense_search_orders_by_cosine(tmp_path: Path, embedder: LetterEmbedder, kind: str) -> None:
    documents = many(300)
    index = PassageIndex.build(tmp_path, documents, embedder=embedder, faiss_kind=kind)
    query = embedder.embed(["head cafe"])[0]
    vectors = embedder.embed([document.content or "" for document in documents])
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = np.sort(cosines)[::-1][:20]
    for found in (
        index.search_dense("head cafe", top_k=20),
        index.search_dense(query_embedding=query.tolist(), top_k=20),
    ):
        scores = [document.score for document in found]
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        for document in found:
            assert document.score == pytest.approx(cosines[document.meta["n"]], abs=1e-5)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_filters_apply_before_top_k(tmp_path: Path, embedder: LetterEmbedder, kind: str) -> None:
    index = PassageIndex.build(tmp_path, many(400), embedder=embedder, faiss_kind=kind)
    worst = index.search_dense("head", top_k=400)[-3:]
    numbers = sorted(document.meta["n"] for document in worst)
    filters = {"field": "meta.n", "operator": "in", "value": numbers}
    found = index.search_dense("head", top_k=3, filters=filters)
    assert sorted(document.meta["n"] for document in found) == numbers
    assert len(index.search_dense("head", top_k=400, filters={**filters, "value": []})) == 0

    by_words = index.search_bm25("alpha beta", top_k=400)
    numbers = sorted(document.meta["n"] for document in by_words[-3:])
    filters = {
        "operator": "AND",
        "conditions": [
            {"field": "meta.n", "operator": "in", "value": numbers},
            {"field": "meta.n", "operator": "!=", "value": numbers[0]},
        ],
    }
    found = index.search_bm25("alpha beta", top_k=2, filters=filters)
    assert sorted(document.meta["n"] for document in found) == numbers[1:]


def test_exact_dense_search_returns_every_document_once_among_equals(
    tmp_path: Path, embedder: LetterEmbedder
) -> None:
    same = [Document(id=f"s{i}", content="abc", meta={"n": i}) for i in range(50)]
    index = PassageIndex.build(tmp_path, same, embedder=embedder)
    filters = {"field": "meta.n", "operator": ">=", "value": 0}
    found = index.search_dense("abc", top_k=50, filters=filters)
    assert sorted(ids(found)) == sorted(ids(same))


def test_results_are_copies(index: PassageIndex) -> None:
    found = index.search_bm25("carps")[0]
    found.meta["where"].append("sea")
    found.meta["trlm"] = 1
    assert index.get("carp").meta == ANIMALS[3].meta
    assert index.get("carp").score is None


@pytest.mark.parametrize("query", ["", "  \n", None])
def test_a_blank_query_is_refused(index: PassageIndex, query: str) -> None:
    with pytest.raises(ValueError, match="query is empty"):
        index.search_bm25(query)
    with pytest.raises(ValueError, match="query is empty"):
        index.search_dense(query)


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_must_be_positive(index: PassageIndex, top_k: int) -> None:
    with pytest.raises(ValueError, match="top_k must be greater than 0"):
        index.search_bm25("cat", top_k=top_k)
    with pytest.raises(ValueError, match="top_k must be greater than 0"):
        index.search_dense(query_embedding=[0.0] * 8, top_k=top_k)


def test_a_query_embedding_must_fit(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match=r"the query embedding .* \(8,\)"):
        index.search_dense(query_embedding=[1.0, 2.0])
    with pytest.raises(ValueError, match="NaN"):
        index.search_dense(query_embedding=[math.nan] * 8)


# --- building


def test_an_opened_index_equals_the_built_one(
    index: PassageIndex, embedder: LetterEmbedder
) -> None:
    opened = PassageIndex.open(index.folder, embedder=embedder)
    assert list(opened.documents()) == ANIMALS
    assert len(opened) == 4
    assert opened.manifest == index.manifest
    assert opened.manifest["embedder"] == {"name": "letters", "dimension": 8}
    for search in ("search_bm25", "search_dense"):
        assert getattr(opened, search)("the cat") == getattr(index, search)("the cat")


def test_nothing_is_pickled(index: PassageIndex) -> None:
    for path in index.folder.rglob("*.npy"):
        np.load(path, allow_pickle=False)
    assert not list(index.folder.rglob("*.pkl"))


@pytest.mark.parametrize("content", [None, "", " \n\t"])
def test_a_document_without_content_is_named(tmp_path: Path, content: str | None) -> None:
    blank = Document(id="blank-one", content=content, meta={"a": 1})
    with pytest.raises(ValueError, match="'blank-one' has no content"):
        PassageIndex.build(tmp_path / "i", [*ANIMALS, blank], embedder=None)


def test_no_documents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to index"):
        PassageIndex.build(tmp_path / "i", [], embedder=None)


def test_duplicates_follow_the_policy(tmp_path: Path) -> None:
    twice = [*ANIMALS, Document(id="cat", content="Another cat.")]
    for policy in (DuplicatePolicy.FAIL, DuplicatePolicy.NONE):
        with pytest.raises(ValueError, match="'cat' comes twice"):
            PassageIndex.build(tmp_path / "i", twice, embedder=None, policy=policy)
    skipped = PassageIndex.build(tmp_path / "i", twice, embedder=None, policy=DuplicatePolicy.SKIP)
    assert len(skipped) == 4 and skipped.get("cat") == ANIMALS[0]
    replaced = PassageIndex.build(
        tmp_path / "i", twice, embedder=None, policy=DuplicatePolicy.OVERWRITE
    )
    assert len(replaced) == 4 and replaced.get("cat").content == "Another cat."


def test_meta_that_is_no_json_is_named(tmp_path: Path) -> None:
    odd = Document(id="odd-one", content="x", meta={"a": {1, 2}})
    with pytest.raises(ValueError, match="'odd-one' cannot be stored"):
        PassageIndex.build(tmp_path / "i", [odd], embedder=None)


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="faiss_kind"):
        PassageIndex.build(tmp_path, ANIMALS, embedder=None, faiss_kind="tree")
    with pytest.raises(ValueError, match="meta_fields_to_embed"):
        PassageIndex.build(tmp_path, ANIMALS, embedder=None, meta_fields_to_embed="title")


def test_embeddings_that_documents_bring_are_used(tmp_path: Path, embedder: LetterEmbedder) -> None:
    own = Document(id="own", content="zzz", embedding=[0.0] * 7 + [3.0])
    index = PassageIndex.build(tmp_path, [*ANIMALS, own], embedder=embedder)
    assert "zzz" not in embedder.seen and len(embedder.seen) == 4
    best = index.search_dense(query_embedding=[0.0] * 7 + [1.0])[0]
    assert best.id == "own" and best.score == pytest.approx(1)
    wrong = Document(id="wrong-size", content="y", embedding=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"'wrong-size' has an embedding of shape \(2,\)"):
        PassageIndex.build(tmp_path, [*ANIMALS, wrong], embedder=embedder)


def test_an_index_without_an_embedder(tmp_path: Path) -> None:
    words_only = PassageIndex.build(tmp_path / "w", ANIMALS, embedder=None)
    with pytest.raises(PassageIndexError, match="holds no embeddings"):
        words_only.search_dense("cat")
    brought = [Document(id=str(i), content="x", embedding=[i, 1.0]) for i in range(3)]
    index = PassageIndex.build(tmp_path / "b", brought, embedder=None)
    assert ids(index.search_dense(query_embedding=[1.0, 0.0], top_k=1)) == ["2"]
    with pytest.raises(PassageIndexError, match="names no embedder"):
        index.search_dense("cat")
    with pytest.raises(ValueError, match="'cat' has no embedding"):
        PassageIndex.build(tmp_path / "b", [*brought, *ANIMALS], embedder=None)
    assert len(PassageIndex.open(tmp_path / "b")) == 3


HOSTILE = {
    "nul": "before\x00after needle",
    "controls": "".join(map(chr, range(1, 32))) + " needle",
    "surrogates": "\ud800 needle \udfff",
    "rtl": "שלום \u202eneedle\u202c مرحبا",
    "line-breaks": "needle\u2028\u0085\r\nnext",
    "no-words": "... !!! ???",
    "emoji": "👩‍👩‍👧 needle",
}


def test_hostile_text_comes_back_unchanged(tmp_path: Path, embedder: LetterEmbedder) -> None:
    documents = [
        Document(id=id_, content=text, meta={"title": text}) for id_, text in HOSTILE.items()
    ]
    PassageIndex.build(tmp_path, documents, embedder=embedder)
    index = PassageIndex.open(tmp_path, embedder=embedder)
    for id_, text in HOSTILE.items():
        assert index.get(id_).content == text
        assert index.get(id_).meta == {"title": text}
    found = ids(index.search_bm25("needle \ud800 \x00"))
    assert sorted(found) == sorted(set(HOSTILE) - {"no-words"})
    assert index.search_bm25("\ud800 ?!") == []


def test_an_index_without_a_single_word_finds_nothing(tmp_path: Path) -> None:
    index = PassageIndex.build(tmp_path, [Document(id="a", content="?!")], embedder=None)
    assert index.search_bm25("anything") == []


def test_a_huge_document(tmp_path: Path) -> None:
    huge = Document(id="huge", content="needle " + "hay " * 2_500_000)
    index = PassageIndex.build(tmp_path, [huge, *ANIMALS], embedder=None)
    assert ids(index.search_bm25("needle")) == ["huge"]
    assert len(index.get("huge").content or "") == len(huge.content or "")


# --- damage


def test_a_missing_index_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PassageIndexError, match=r"no index at .*nowhere.*`trlm index"):
        PassageIndex.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PassageIndexError, match=r"`trlm index"):
        PassageIndex.open(tmp_path / "file")


FILES = ["documents.jsonl", "document_starts.npy", "ids.json", "bm25.json", "vectors.faiss"]


@pytest.mark.parametrize("damage", ["removed", "truncated", "flipped"])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_named(index: PassageIndex, name: str, damage: str) -> None:
    path = next(index.folder.rglob(name))
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    with pytest.raises(PassageIndexError, match=rf"{re.escape(name)} .*`trlm index`"):
        PassageIndex.open(index.folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 2}', "damaged"),
        ('{"format": 99, "data": "data-x"}', "format 99"),
        ('{"format": 1, "data": "data-x"}', "format 1, and this version reads format 2. Build"),
        ('{"format": 2, "data": "../../elsewhere"}', "damaged"),
        (f'{{"format": 2, "data": "data-{"0" * 32}"}}', "cannot be read"),
        (f'{{"format": 2, "data": "data-{"0" * 32}", "files": []}}', "cannot be read"),
    ],
)
def test_a_damaged_manifest_is_found(index: PassageIndex, content: str, message: str) -> None:
    (index.folder / "manifest.json").write_text(content)
    with pytest.raises(PassageIndexError, match=rf"{message}.*`trlm index`"):
        PassageIndex.open(index.folder)
    PassageIndex.build(index.folder, ANIMALS, embedder=None)
    assert len(list(index.folder.glob("data-*"))) == 1


def test_files_that_do_not_belong_together_are_found(index: PassageIndex) -> None:
    manifest = json.loads((index.folder / "manifest.json").read_text())
    manifest["bm25"]["library"] = "other"
    (index.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PassageIndexError, match=r"unknown BM25 library 'other'.*`trlm index`"):
        PassageIndex.open(index.folder)


# --- the real embedder


@pytest.mark.slow
def test_sentence_embedder(caplog: pytest.LogCaptureFixture) -> None:
    embedder = SentenceEmbedder("minilm", device="cpu")
    texts = ["A cat sleeps.", "A kitten naps.", "Bonds lost value.", "\ud800", "word " * 400]
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32 and vectors.shape == (5, embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    assert "1 of 5 texts are longer than the 256 tokens" in caplog.text
    assert embedder.embed([]).shape == (0, 384)


def test_an_embedder_that_is_no_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot load the embedder .*`trlm models pull minilm`"):
        SentenceEmbedder(str(tmp_path)).embed(["text"])
