"""The search page, in a headless Chromium."""

import re

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from trlm_retrieval.models.calibration import Calibration
from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

QUERY = "how does the with statement call exit"
WIDTHS = [(320, "light"), (768, "dark"), (1280, "light"), (1280, "dark")]


@pytest.fixture(scope="module")
def app(served_index, make_tiny_lm, tmp_path_factory):
    """The server with a calibrated model, and a generator that has its answer ready."""
    lm = make_tiny_lm("both")
    lm.calibration = Calibration(str(lm.template()), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    folder = tmp_path_factory.mktemp("calibrated")
    lm.save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trlm_retrieval.models.source.resolve", lambda name, hub: folder)
        app = create_app(ServingSettings(served_index))
    answers = app.state.engine.cited_rag
    generator = answers.get_component("generator")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "warm_up", lambda: None)
        patch.setattr(generator, "run", lambda messages, **other: {"replies": ["It calls both."]})
        answers.get_component("citations").score_threshold = -1e9
        yield app


@pytest.fixture(scope="module")
def url(app, listen):
    with listen(app) as url:
        yield url


def ask(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("textbox", name="Question").fill(QUERY)
    page.get_by_role("button", name="Ask").click()


def status(page: Page):
    return page.locator("#status")


def test_a_question_its_passages_and_the_reason(open_page, url):
    page = open_page()
    ask(page, url)
    after = page.locator("#after li")
    expect(after).to_have_count(3)
    expect(page.locator("#before li")).to_have_count(3)
    expect(status(page)).to_contain_text("3 passages put in order")
    # What a passage holds is shown, not obeyed.
    expect(page.locator("#after")).to_contain_text("<b>Bold</b>")
    expect(page.locator("#after")).to_contain_text("<i>d</i>")
    chances = [
        float(text[-4:])
        for text in after.locator(".facts-line > span").all_inner_texts()
        if text.startswith("P(relevant)")
    ]
    assert len(chances) == 3 and chances == sorted(chances, reverse=True)
    first = after.first
    expect(first.locator(".rank")).to_have_text("1")
    expect(first).to_contain_text(re.compile(r"BM25 \S+ · dense \d"))
    with_it = after.filter(has_text="The with statement calls")
    expect(with_it.locator("mark")).to_have_text(["statement", "calls", "exit"])
    title = after.last.locator(".title").inner_text()
    after.last.get_by_role("button").click()
    reason = page.frame_locator("#why iframe")
    expect(reason.get_by_role("heading", level=1)).to_have_text(QUERY)
    expect(reason.locator("#o3.chosen")).to_contain_text(title)
    expect(reason.locator("#o3")).to_be_in_viewport()
    assert reason.locator(".tokens span").count() > 5
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#reason")).not_to_be_visible()


def test_the_first_stage_is_there_before_the_model_is_done(open_page, url):
    page = open_page()
    held = []
    page.route("**/retrieval/run", lambda route: held.append(route))
    ask(page, url)
    expect(page.locator("#before li")).to_have_count(3)
    expect(status(page)).to_have_text("The model reads 3 passages …")
    expect(page.locator("#after li")).to_have_count(0)
    assert page.locator("#found").get_attribute("aria-busy") == "true"
    held[0].continue_()
    expect(page.locator("#after li")).to_have_count(3)
    assert page.locator("#found").get_attribute("aria-busy") is None


def test_the_address_holds_the_question(open_page, url):
    page = open_page()
    ask(page, url)
    expect(page.locator("#after li")).to_have_count(3)
    assert page.url.endswith("/?q=how+does+the+with+statement+call+exit")
    again = open_page()
    again.goto(page.url)
    expect(again.locator("#after li")).to_have_count(3)
    expect(again.get_by_role("textbox", name="Question")).to_have_value(QUERY)
    again.get_by_role("textbox", name="Question").fill("what yields")
    again.keyboard.press("Enter")
    expect(again).to_have_title("what yields – search")
    again.go_back()
    expect(again.get_by_role("textbox", name="Question")).to_have_value(QUERY)
    expect(again).to_have_title(QUERY + " – search")


def test_examples_are_asked_by_a_click(open_page, url):
    page = open_page()
    page.goto(url)
    expect(page.locator("#about")).to_contain_text("3 passages of index")
    page.get_by_role("button", name="yield").click()
    expect(page.locator("#after li")).to_have_count(3)
    expect(page.get_by_role("textbox", name="Question")).to_have_value("yield")


def test_the_cited_answer_has_a_tab_that_the_keyboard_reaches(open_page, url):
    page = open_page()
    ask(page, url)
    expect(page.locator("#after li")).to_have_count(3)
    page.get_by_role("tab", name="Passages").focus()
    page.keyboard.press("ArrowRight")
    tab = page.get_by_role("tab", name="Cited answer")
    expect(tab).to_be_focused()
    expect(tab).to_have_attribute("aria-selected", "true")
    answer = page.frame_locator("#answer iframe")
    expect(answer.locator(".answer")).to_contain_text("It calls both.")
    assert page.url.endswith("&view=answer")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#after li").first).to_be_visible()
    page.go_back()
    expect(page.locator("#answer")).to_be_visible()


def test_a_phone_shows_one_order_at_a_time(open_page, url):
    page = open_page(320)
    ask(page, url)
    expect(page.locator("#after li")).to_have_count(3)
    expect(page.locator("#after")).to_be_visible()
    expect(page.locator("#before")).not_to_be_visible()
    page.get_by_role("button", name="Before", exact=True).click()
    expect(page.locator("#before")).to_be_visible()
    expect(page.locator("#after")).not_to_be_visible()
    expect(page.get_by_role("button", name="Before", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


@pytest.mark.parametrize(("width", "scheme"), WIDTHS)
def test_everybody_can_use_it(open_page, check_page, url, width, scheme):
    page = open_page(width, scheme)
    page.goto(url)
    expect(page.locator("#examples li")).to_have_count(4)
    check_page(page)
    ask(page, url)
    expect(page.locator("#after li")).to_have_count(3)
    check_page(page)
    page.locator("#after li").first.get_by_role("button").click()
    expect(page.frame_locator("#why iframe").locator("#o1")).to_be_visible()
    check_page(page)
    page.get_by_role("button", name="Close").click()
    page.get_by_role("tab", name="Cited answer").click()
    expect(page.frame_locator("#answer iframe").locator(".answer")).to_be_visible()
    check_page(page)
    page.goto(url + "/docs")
    check_page(page)


def test_without_javascript_it_says_what_to_do(open_page, url):
    page = open_page(java_script_enabled=False)
    page.goto(url)
    expect(page.get_by_text("This page needs JavaScript")).to_be_visible()
    expect(page.get_by_role("link", name="docs")).to_have_attribute("href", "docs")


@pytest.mark.parametrize("slash", ["", "/"])
def test_behind_a_prefix(open_page, app, listen, slash):
    with listen(Starlette(routes=[Mount("/rank/here", app)])) as url:
        page = open_page()
        ask(page, f"{url}/rank/here{slash}")
        expect(page.locator("#after li")).to_have_count(3)
        page.reload()
        expect(page.locator("#after li")).to_have_count(3)


def test_a_failure_is_told(open_page, url):
    page = open_page()
    page.route(
        "**/retrieval/run",
        lambda route: route.fulfill(
            status=503, json={"detail": "the server is busy; try again later"}
        ),
    )
    ask(page, url)
    expect(status(page)).to_have_text("the server is busy; try again later")
    expect(status(page)).to_have_class("failed")
    expect(page.locator("#before li")).to_have_count(3)
    page.unroute("**/retrieval/run")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#after li")).to_have_count(3)


def test_a_key_is_asked_for_when_it_is_needed(open_page, url, served_index, listen):
    page = open_page()
    page.goto(url)
    expect(page.locator("#examples li")).to_have_count(4)
    expect(page.get_by_label("API key")).to_be_hidden()
    with listen(create_app(ServingSettings(served_index, api_key="s3cret"))) as locked:
        ask(page, locked)
        expect(status(page)).to_contain_text("key")
        page.get_by_label("API key").fill("s3cret")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#after li")).to_have_count(3)
        expect(page.locator("#about")).to_contain_text("3 passages")
