import math
import random
from pathlib import Path

import numpy as np
import pytest
from haystack import Document

from tests.passage_index.examples import many
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.bm25 import (
    K1,
    RANK_BM25_MAX_DOCUMENTS,
    B,
    MatrixBM25,
    RankBM25,
    load_bm25,
)
from trlm_retrieval.text.words import words

# --- words


def test_words_are_lower_case_stems_and_identifiers_count_whole_and_by_their_parts() -> None:
    assert words("Generators, GENERATING!") == ["generat", "generat"]
    assert words("call __enter__ with") == ["call", "__enter__", "enter", "with"]
    assert words("cafe\u0301") == words("CAFÉ")
    assert words("\x00 \ud800 ...") == []
    assert words("שלום עולם") == ["שלום", "עולם"]


# --- BM25


def reference_bm25(documents: list[list[str]], query: list[str]) -> list[float]:
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query:
            n = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            f = document.count(word)
            score += idf * f * (K1 + 1) / (f + K1 * (1 - B + B * len(document) / mean))
        scores.append(score)
    return scores


@pytest.fixture(scope="module")
def corpus() -> list[list[str]]:
    draw = random.Random(0)
    # "w0" is in nearly every document, where rank-bm25's own idf would be negative.
    texts = [[f"w{int(draw.paretovariate(0.5)) - 1}" for _ in range(30)] for _ in range(200)]
    return [*texts, [], ["only"]]


QUERY = ["w0", "w1", "w1", "w7", "only", "unknown"]


@pytest.mark.parametrize("kind", [RankBM25, MatrixBM25])
def test_bm25_scores_follow_the_formula(
    kind: type[RankBM25] | type[MatrixBM25], corpus: list[list[str]], tmp_path: Path
) -> None:
    bm25 = kind.build(corpus)
    expected = reference_bm25(corpus, QUERY)
    np.testing.assert_allclose(bm25.scores(QUERY), expected, rtol=1e-5, atol=1e-6)
    bm25.save(tmp_path)
    loaded = load_bm25(tmp_path, kind.library)
    np.testing.assert_array_equal(loaded.scores(QUERY), bm25.scores(QUERY))


def test_both_bm25_libraries_give_the_same_scores(corpus: list[list[str]]) -> None:
    small, large = RankBM25.build(corpus), MatrixBM25.build(corpus)
    for query in (QUERY, ["w2"], ["w0", "w0"], ["unknown"], []):
        np.testing.assert_allclose(small.scores(query), large.scores(query), rtol=1e-5, atol=1e-6)


def test_bm25s_takes_over_beyond_the_stated_size(tmp_path: Path) -> None:
    small = PassageIndex.build(tmp_path / "small", many(30), embedder=None)
    large = PassageIndex.build(tmp_path / "large", many(RANK_BM25_MAX_DOCUMENTS + 1), embedder=None)
    assert small.manifest["bm25"] == {"library": "rank-bm25", "k1": K1, "b": B}
    assert large.manifest["bm25"]["library"] == "bm25s"
    found = large.search_bm25("alpha", top_k=5)
    assert len(found) == 5
    assert all("alpha" in (document.content or "") for document in found)


@pytest.mark.parametrize("texts", [["...", "!!!"], ["😀", "—"], ["\u200b.", "?"]])
@pytest.mark.parametrize("number", [2, RANK_BM25_MAX_DOCUMENTS + 1])
def test_passages_that_all_are_without_a_word_are_indexed_and_not_found(
    tmp_path: Path, texts: list[str], number: int
) -> None:
    documents = [Document(id=str(n), content=texts[n % 2]) for n in range(number)]
    index = PassageIndex.build(tmp_path, documents, embedder=None)
    assert index.search_bm25("what stands here?") == index.search_bm25("...") == []
    index.add([Document(id="one", content="Here stands a word.")])
    assert [found.id for found in index.search_bm25("what stands here?")] == ["one"]


@pytest.mark.parametrize("kind", [RankBM25, MatrixBM25])
@pytest.mark.parametrize("there", [1, 2, 3, 4])
def test_a_word_in_half_of_the_documents_and_more_still_counts(
    kind: type[RankBM25] | type[MatrixBM25], there: int
) -> None:
    documents = [["windy", "athens"]] * there + [["hello", "man"]] * (4 - there)
    scores = kind.build(documents).scores(["windy"])
    assert (scores[:there] > 0).all() and (scores[there:] == 0).all()
