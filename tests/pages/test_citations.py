"""The citation page shows every sentence, marks its support, escapes what it shows."""

import re

import pytest
from haystack import Document, GeneratedAnswer

from trlm_retrieval.components import TRLMCitationAttributor
from trlm_retrieval.pages.citations import citation_page

DOCUMENTS = [
    Document(id="a", content="One <b>bold</b> thing. Another & more.", meta={"title": "<i>A</i>"}),
    Document(id="b", content="Keys keep order. The with statement calls exit."),
    Document(id="c", content="Never cited."),
]
ANSWER = "The with statement calls exit [2][9].\n\nAnother <script>alert(1)</script> & more."


@pytest.fixture
def answer(tiny_lm):
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=-1e9)
    return attributor.run(replies=[ANSWER], documents=DOCUMENTS, query="<q>?")["answers"][0]


def cite(answer, *citations):
    """The answer with these (document, quote) citations, one a sentence; None for none."""
    for sentence, cited in zip(answer.meta["trlm"]["sentences"], citations, strict=True):
        sentence["citations"], sentence["supported"] = [], cited is not None
        if cited is not None:
            number, quote = cited
            start = answer.documents[number - 1].content.index(quote)
            sentence["citations"] = [
                {"number": number, "start": start, "end": start + len(quote), "quote": quote}
            ]
    return answer


def test_sentences_and_their_support_are_tied(answer):
    page = citation_page(
        cite(answer, (2, "The with statement calls exit."), (1, "Another & more."))
    )
    assert re.search(
        r'data-s="1" href="#q1"[^>]*>The with statement calls exit <del[^>]*>\[9\]</del>\.</a>',
        page,
    )
    assert '<mark data-for="1">The with statement calls exit.</mark>' in page
    assert '<mark data-for="2">Another &amp; more.</mark>' in page
    assert 'mark[data-for~="2"]' in page and '<span id="q2"></span>' in page
    assert "[9] is no source" in page and "[2]</span>b" in page and "[3] c" in page


def test_unsupported_sentences_are_told(answer):
    page = citation_page(cite(answer, None, (1, "Another & more.")))
    assert re.search(r'class="s none" data-s="1"[^>]*title="no source is near this', page)
    assert 'href="#q1"' not in page


def test_each_sentence_is_told_with_its_support_and_flags(answer):
    sentences = answer.meta["trlm"]["sentences"]
    cite(answer, (2, "The with statement calls exit."), None)
    sentences[0].update(score=4.0, conflicts=["2 is not in the source"])
    sentences[1].update(score=1.0)
    page = citation_page(answer)
    signs = re.findall(r'<li[^>]*><span class="sign" role="img" aria-label="([^"]*)">(.)', page)
    assert signs == [("check this", "!"), ("no source is near", "?")]
    assert re.findall(r'class="near" style="--p:(\d+)%"', page) == ["100", "25"]
    notes = re.findall(r'<span class="note">(.*?)</span>', page)
    assert "source 2; check this: 2 is not in the source" in notes[0]
    assert "no source is near this" in notes[1]


def test_overlapping_quotes(answer):
    quotes = (2, "Keys keep order. The with"), (2, "order. The with statement")
    page = citation_page(cite(answer, *quotes))
    marks = re.findall(r'<mark data-for="([\d ]+)">([^<]*)</mark>', page)
    assert marks == [("1", "Keys keep "), ("1 2", "order. The with"), ("2", " statement")]


def test_long_sources_are_shown_around_their_quotes(answer):
    content = "x" * 9000 + " Here it is. " + "y" * 9000
    answer.documents[1] = Document(id="b", content=content, meta={"source_index": 2})
    page = citation_page(cite(answer, (2, "Here it is."), None))
    assert "Here it is.</mark>" in page and " … x" in page and len(page) < 15_000


def test_text_from_outside_is_escaped_and_nothing_is_loaded(answer):
    page = citation_page(cite(answer, (1, "One <b>bold</b> thing."), None), {"model": "<m>"})
    assert "<script" not in page and "<b>" not in page and "<i>" not in page and "<q>" not in page
    assert "&lt;script&gt;" in page and "&lt;m&gt;" in page
    assert not re.search(r'(?:src|href)="(?!#|data:,")', page)


def test_an_answer_that_was_not_attributed():
    with pytest.raises(ValueError, match="no citations"):
        citation_page(GeneratedAnswer("a", "q", []))
