"""The page for people, in a headless Chromium."""

import shutil

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

QUERY = "how does the with statement call exit"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that may reach nothing but the server, and must not log an error."""
    context = browser.new_context()
    context.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
    page, errors = context.new_page(), []
    page.set_viewport_size({"width": 1000, "height": 500})
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(20_000)
    yield page
    context.close()
    assert not errors


def ask(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_label("question").fill(QUERY)
    page.get_by_role("button", name="Ask").click()


def test_a_question_its_passages_and_their_heat_map(page, base_url):
    ask(page, base_url)
    after = page.locator("#after li")
    expect(after).to_have_count(3)
    expect(page.locator("#before li")).to_have_count(3)
    expect(page.locator("#status")).to_contain_text("3 passages reranked")
    # What a passage holds is shown, not obeyed.
    expect(page.locator("#after")).to_contain_text("<b>Bold</b>")
    expect(page.locator("#after")).to_contain_text("<i>d</i>")
    title = after.last.locator(".title").inner_text()
    after.last.get_by_role("button").click()
    heat_map = page.frame_locator("#map")
    expect(heat_map.get_by_role("heading", level=1)).to_have_text(QUERY)
    expect(heat_map.locator("#p3")).to_contain_text(title)
    expect(heat_map.locator("#p3")).to_be_in_viewport()
    assert heat_map.locator(".tokens span").count() > 5
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#reason")).not_to_be_visible()


def test_a_key_is_asked_for_when_it_is_needed(page, served_index, listen):
    with listen(create_app(ServingSettings(served_index, api_key="s3cret"))) as url:
        page.goto(url)
        expect(page.get_by_label("API key")).to_be_hidden()
        ask(page, url)
        expect(page.locator("#status")).to_contain_text("key")
        page.get_by_label("API key").fill("s3cret")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#after li")).to_have_count(3)
