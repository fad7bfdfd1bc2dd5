"""The pages as people meet them: in a browser, on any screen, by keyboard or screen reader."""

import pytest
from haystack import Document

from trlm_retrieval.components import TRLMCitationAttributor, TRLMRanker
from trlm_retrieval.pages.citations import citation_page
from trlm_retrieval.pages.explanation import explanation_page

QUERY = "How does a dictionary keep its keys?"
DOCUMENTS = [
    Document(id="a", content="A dictionary keeps insertion order. " * 40, score=3.0),
    Document(id="b", content="Keys keep order. The with statement calls exit.", score=2.0),
    Document(id="/a/path/" + "long/" * 40, content="Wrapped" * 200, score=1.0),
]
WIDTHS = pytest.mark.parametrize(
    ("width", "scheme"), [(320, "light"), (768, "dark"), (1280, "light")]
)


@WIDTHS
def test_the_explanation(tiny_lm, open_page, check_page, width, scheme):
    ranked = TRLMRanker(tiny_lm, explain=True).run(QUERY, DOCUMENTS)["documents"]
    page = open_page(width, scheme)
    page.set_content(explanation_page(QUERY, ranked, {"model": "tiny"}))
    check_page(page)
    for summary in page.locator("summary").all():
        summary.focus()
        page.keyboard.press("Enter")
    shown = " ".join(page.locator("article").all_inner_texts())
    assert "A dictionary keeps insertion order. " * 39 in shown
    assert page.get_by_text("Show the whole").filter(visible=True).count() == 0
    check_page(page)


@WIDTHS
def test_the_citations(tiny_lm, open_page, check_page, width, scheme):
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=-1e9)
    [answer] = attributor.run(
        replies=["Keys keep order [2][9]. It calls exit in 2031."], documents=DOCUMENTS, query=QUERY
    )["answers"]
    answer.meta["trlm"]["sentences"][1].update(supported=False, citations=[])
    page = open_page(width, scheme)
    page.set_content(citation_page(answer, {"model": "tiny"}))
    check_page(page)
    cited = page.locator("a.s").first
    cited.focus()
    quote = page.locator("mark[data-for~='1']")
    lit = quote.evaluate("mark => getComputedStyle(mark).backgroundColor")
    page.locator("h1").click()
    page.evaluate("document.activeElement.blur()")
    assert quote.evaluate("mark => getComputedStyle(mark).backgroundColor") != lit
