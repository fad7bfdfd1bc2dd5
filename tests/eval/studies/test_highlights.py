"""Highlights of articles: what is read, and what the picks are worth."""

import json

import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.citation.scorer import Scorer
from trlm_retrieval.eval.score_cache import ScoreCache
from trlm_retrieval.eval.studies.highlights import (
    METHODS,
    Article,
    evaluate_highlights,
    load_articles,
)

HIGHLIGHT = "It was opened in the spring of 1937 after four years of work."
BODY = [f"Sentence number {n} tells something about bridges." for n in range(9)]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def scorer(make_tiny_lm, word_embedder, tmp_path):
    cache = ScoreCache(tmp_path / "scores.sqlite")
    return Scorer(make_tiny_lm("forward"), cache, word_embedder, None, False)


def test_the_second_sentence_is_the_highlight_of_what_stands_below(tmp_path):
    long = f"The bridge spans the bay. {HIGHLIGHT} More of it.\n{' '.join(BODY)}"
    short = f"The bridge spans the bay. {HIGHLIGHT}\nOne sentence."
    lone = f"The bridge spans the bay.\n{' '.join(BODY)}"
    file = write(tmp_path / "a.jsonl", [{"text": text} for text in (lone, long, short)])
    [found] = load_articles(file)
    assert found.id == "2" and found.highlight == HIGHLIGHT
    assert "".join(found.sentences).split() == " ".join(BODY).split()


def test_files_without_articles_or_text(tmp_path):
    with pytest.raises(DataError, match="holds no article"):
        load_articles(write(tmp_path / "a.jsonl", [{"text": "Short."}]))
    with pytest.raises(DataError, match="line 1: needs text"):
        load_articles(write(tmp_path / "b.jsonl", [{"title": "Short."}]))


def test_picks_are_measured_against_the_highlight(scorer):
    said = "The bridge was opened in the spring of 1937. "
    articles = [Article("a", HIGHLIGHT, (*(f"{s} " for s in BODY[:3]), said, f"{BODY[4]} "))]
    result = evaluate_highlights(articles, scorer, "tiny")
    assert list(result.systems) == list(METHODS)
    words = {name: found["words"].mean for name, found in result.systems.items()}
    assert words["overlap"] == max(words.values()) > words["first"]
    cosine = {name: found["cosine"].mean for name, found in result.systems.items()}
    assert cosine["nearest"] == max(cosine.values()) > cosine["first"]
    calls = {name: found["calls"].mean for name, found in result.systems.items()}
    assert calls["reverse_linear"] == 5
    assert calls["reverse_binary"] in (4, 6) and calls["nearest"] == 0


def test_an_encoder_decoder_leaves_out_forward_methods(encoder_decoder, word_embedder, tmp_path):
    scorer = Scorer(encoder_decoder, ScoreCache(tmp_path / "s.sqlite"), word_embedder, None, False)
    articles = [Article("a", HIGHLIGHT, tuple(f"{s} " for s in BODY))]
    result = evaluate_highlights(articles, scorer, "small")
    assert set(METHODS) - set(result.systems) == {"forward_linear", "forward_binary"}
    assert result.warnings


def test_unknown_methods_are_refused_and_what_was_cut_is_told(scorer):
    with pytest.raises(DataError, match="unknown method 'magic'"):
        evaluate_highlights([Article("a", HIGHLIGHT, tuple(BODY))], scorer, "tiny", ["magic"])
    long = Article("a", HIGHLIGHT, ("word " * 5000, "Another sentence. "))
    [note] = evaluate_highlights([long], scorer, "tiny", ["reverse_linear"]).warnings
    assert "1 of 3 passages were cut to fit" in note  # the third is empty: the prior
