"""Takes the pictures of the pages that the docs show: ``make screenshots``.

Everything in them is real: the demo's index, the models that ship or can be pulled, and an
evaluation that runs here. Takes about five minutes, and needs Chromium.
"""

import shutil
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from trlm_retrieval.components import TRLMCitationAttributor
from trlm_retrieval.index_data import demo_documents
from trlm_retrieval.pages.citations import citation_page
from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

IMAGES = Path(__file__).parent / "images"
QUESTION = "how do I make my own context manager"
ANSWER = (
    "A context manager defines the runtime context of a with statement. "
    "It is not normally invoked using the with statement. "
    "The three arguments of __exit__ describe the exception that caused the context to be exited. "
    "Paris is mild in spring."
)
SYSTEMS = "bm25,dense,fusion,reverse,default"
COLOURS = 128  # of a picture, so that it stays small


def trlm(*arguments: str) -> None:
    """Run a command of the package."""
    subprocess.run([sys.executable, "-m", "trlm_retrieval", *arguments], check=True)


def take(page: Page, name: str) -> None:
    """A picture of what the window shows."""
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    picture.save(IMAGES / f"{name}.png", optimize=True)
    print(IMAGES / f"{name}.png")


def opened(browser: Browser, url: str, width: int, height: int, scheme: str = "light") -> Page:
    """A page in a window of this size."""
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page.set_default_timeout(300_000)
    page.goto(url)
    return page


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        index, report, cited = folder / "demo", folder / "report.html", folder / "cited.html"
        trlm("index", "--demo", "--index", str(index))
        evaluate = ["eval", "retrieval", "--data", "demo", "--model", "trlm-small"]
        trlm(*evaluate, "--systems", SYSTEMS, "--report", str(report))
        sources = [
            document
            for document in demo_documents()
            if document.meta["topic"] == "context-managers"
        ]
        found = TRLMCitationAttributor().run(replies=[ANSWER], documents=sources, query=QUESTION)
        cited.write_text(citation_page(found["answers"][0], {"model": "smollm2-135m"}), "utf-8")

        app = create_app(ServingSettings(index, model="trlm-small"))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.1)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/?q={QUESTION}"

        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = opened(browser, url, 1180, 800)
        page.wait_for_selector("#after li")
        take(page, "search")
        page.locator("#after li button").nth(2).click()
        inside = page.frame_locator("#why iframe")
        inside.locator("#o3").wait_for()
        take(page, "explain")
        phone = opened(browser, url, 360, 740, "dark")
        phone.wait_for_selector("#after li")
        take(phone, "search-phone")
        take(opened(browser, cited.as_uri(), 1180, 800), "cite")
        take(opened(browser, report.as_uri(), 1180, 800), "report")
        browser.close()
        server.should_exit = True


if __name__ == "__main__":
    main()
