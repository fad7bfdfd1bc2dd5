"""The heat map shows every gain, in order, escapes what it shows and needs nothing else."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from haystack import Document

from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.calibration import Calibration
from trlm_retrieval.pages.explanation import explanation_page

QUERY = "How does a dictionary keep its keys?"


def ranked(lm: TimeReversedLM, explain: bool = True) -> list[Document]:
    texts = {
        "<b>Bold</b> & co": "A <script>alert('x')</script> dictionary keeps insertion order.",
        "Generators": "A generator yields values one at a time.",
        "Blocks": "The with statement wraps a block.",
    }
    documents = [
        Document(id=f"d{n}", content=text, score=float(n), meta={"title": title})
        for n, (title, text) in enumerate(texts.items())
    ]
    return TRLMRanker(model=lm, explain=explain).run(query=QUERY, documents=documents)["documents"]


class Page(HTMLParser):
    """Collects the heat map's rows, the tags and the attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] in ("td", "th", "a", "b") and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_a_row_for_each_passage_and_a_cell_for_each_token(tiny_lm: TimeReversedLM) -> None:
    documents = ranked(tiny_lm)
    head, *rows = Page(explanation_page(QUERY, documents)).rows
    tokens = [found["token"].strip() or "␣" for found in documents[0].meta["trlm"]["token_gains"]]
    assert head == ["passage", *tokens, "gain"]
    assert len(rows) == len(documents) == 3
    for rank, (row, document) in enumerate(zip(rows, documents, strict=True), start=1):
        measured = document.meta["trlm"]
        title, *gains = row
        assert title == f"{rank}{document.meta['title']}"
        shown = [float(gain.replace("−", "-")) for gain in gains]
        expected = [found["gain"] for found in measured["token_gains"]] + [measured["gain"]]
        assert shown == pytest.approx(expected, abs=0.051)


def test_text_from_outside_is_escaped_and_nothing_is_loaded(tiny_lm: TimeReversedLM) -> None:
    html = explanation_page('"><img src=x> \ud800\x1b', ranked(tiny_lm), {"model": "<i>m</i>"})
    html.encode("utf-8")
    page = Page(html)
    assert not {"script", "img", "i"} & set(page.tags)
    assert "\x1b" not in html
    assert all(re.fullmatch(r"#p\d|data:,", link) for link in page.links)
    assert "url(" not in html and "@import" not in html
    assert "A <script>alert('x')</script> dictionary keeps insertion order." in page.text


def test_the_colour_follows_the_gain(tiny_lm: TimeReversedLM) -> None:
    documents = ranked(tiny_lm)
    html = explanation_page(QUERY, documents)
    cells = re.findall(
        r'<td class="(up|down)" style="--shade:([\d.]+)" title="[^"]*">(.\d+\.\d)', html
    )
    gains = [found["gain"] for doc in documents for found in doc.meta["trlm"]["token_gains"]]
    assert len(cells) == len(gains)
    assert [side for side, _, _ in cells] == ["up" if gain >= 0 else "down" for gain in gains]
    strongest = max(range(len(gains)), key=lambda i: abs(gains[i]))
    assert float(cells[strongest][1]) == 1.0
    by_size = sorted(range(len(gains)), key=lambda i: abs(gains[i]))
    shades = [float(cells[i][1]) for i in by_size]
    assert shades == sorted(shades)


def test_the_bars_are_as_long_as_the_scores_are_high(tiny_lm: TimeReversedLM) -> None:
    documents = ranked(tiny_lm)
    page = explanation_page(QUERY, documents)
    bars = [
        (float(first), float(second))
        for first, second in re.findall(
            r'class="first" style="width:([\d.]+)%"></span>'
            r'<span class="second" style="width:([\d.]+)%"',
            page,
        )
    ]
    assert min(first for first, _ in bars) == 0 and min(second for _, second in bars) == 0
    assert sum(bars[0]) == pytest.approx(100, abs=0.02)
    scores = [document.score or 0.0 for document in documents]
    lengths = [sum(bar) for bar in bars]
    for (score, length), (next_score, next_length) in pairwise(zip(scores, lengths, strict=True)):
        step = (lengths[0] - lengths[-1]) / (scores[0] - scores[-1])
        assert length - next_length == pytest.approx(step * (score - next_score), abs=0.05)
    for document in documents:
        parts = document.meta["trlm"]["mixture"]
        assert sum(parts.values()) == pytest.approx(document.score)
        assert f"first stage {parts['first_stage']:+.2f}".replace("-", "−") in page
        assert f"first stage {document.meta['trlm']['first_stage_rank']}<" in page


def test_without_a_first_stage_the_bars_are_the_likelihood(tiny_lm: TimeReversedLM) -> None:
    documents = [Document(id=name, content=f"{name} keeps its keys.") for name in "ab"]
    ranker = TRLMRanker(tiny_lm, explain=True, first_stage_weight=0.0)
    page = explanation_page(QUERY, ranker.run(QUERY, documents)["documents"])
    assert "The first stage counts for nothing here" in page
    assert "first stage: shared words" not in page


def test_the_ranks_of_retrievers_are_shown(tiny_lm: TimeReversedLM) -> None:
    [first, *others] = ranked(tiny_lm)
    measured = first.meta["trlm"] | {"bm25_rank": 7, "dense_rank": None}
    first = replace(first, meta={**first.meta, "trlm": measured})
    page = explanation_page(QUERY, [first, *others])
    assert "BM25 7 · dense – · first stage" in page and page.count("BM25") == 1


def test_a_long_passage_is_folded_and_whole(tiny_lm: TimeReversedLM) -> None:
    text = "Filler words here. " * 60 + "A dictionary keeps its keys."
    document = Document(id="long", content=text, score=1.0)
    found = TRLMRanker(tiny_lm, explain=True).run(QUERY, [document])["documents"]
    page = explanation_page(QUERY, found)
    assert f"Show the whole passage ({len(text):,} characters)" in page
    beginning = re.search(r'class="beginning">(.*?)</span>', page, re.S)
    assert beginning and "dictionary" in beginning.group(1) and len(beginning.group(1)) < 600
    assert text in re.sub(r"</?mark>", "", page)


def test_a_calibrated_model_shows_its_probability(make_tiny_lm: object) -> None:
    lm = make_tiny_lm("both")  # type: ignore[operator]
    assert "P(relevant)" not in explanation_page(QUERY, ranked(lm))
    lm.calibration = Calibration(str(lm.template()), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    documents = ranked(lm)
    page = explanation_page(QUERY, documents)
    for document in documents:
        chance = document.meta["trlm"]["relevance"]
        assert 0 < chance < 1
        assert f"<dt>P(relevant)</dt> <dd>{chance:.2f}</dd>" in page


def test_a_long_title_keeps_both_ends(tiny_lm: TimeReversedLM) -> None:
    title = "Execution model › Naming and binding › Resolution of names"
    documents = [Document(id="d", content="Names.", score=1.0, meta={"title": title})]
    ranked = TRLMRanker(model=tiny_lm, explain=True).run(query=QUERY, documents=documents)
    page = explanation_page(QUERY, ranked["documents"])
    [_, [shown, *_]] = Page(page).rows
    assert shown == "1Execution … › Resolution of names"
    assert f'title="{title}"' in page


def test_cut_passages_say_so(make_tiny_lm: object) -> None:
    lm = make_tiny_lm("reverse", max_context=64)  # type: ignore[operator]
    document = Document(id="long", content="Values one at a time. " * 20, score=1.0)
    found = TRLMRanker(model=lm, explain=True).run(query="values", documents=[document])[
        "documents"
    ]
    cut = found[0].meta["trlm"]["cut_tokens"]
    assert cut > 0
    assert f"last {cut} tokens of this passage did not fit" in explanation_page("values", found)


def test_a_ranking_without_gains_or_documents_is_refused(tiny_lm: TimeReversedLM) -> None:
    with pytest.raises(ValueError, match="rank with explain=True"):
        explanation_page(QUERY, ranked(tiny_lm, explain=False))
    with pytest.raises(ValueError, match="no documents"):
        explanation_page(QUERY, [])
