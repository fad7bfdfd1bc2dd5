"""Sections of documentation that Debian packages bring, fetched with the package client.

A package is downloaded and unpacked into a temporary folder, and nothing of it is installed or run.
"""

import gzip
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from trlm_retrieval.errors import DataError
from trlm_retrieval.training.corpus import Section

# Documentation with much prose under telling headings.
PACKAGES = (
    "debian-handbook",
    "git-doc",
    "libreoffice-help-en-us",
    "linux-doc-6.1",
    "postgresql-doc-15",
    "python3.11-doc",
)
_FEWEST_WORDS = 20  # shorter sections say too little

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = frozenset({"p", "div", "section", "li", "dt", "dd", "tr", "pre", "br", "blockquote"})
_SKIPPED = frozenset({"script", "style", "nav", "header", "footer", "aside", "form", "head"})
_SKIPPED_CLASSES = re.compile(r"\b(toc|nav\w*|sphinxsidebar|related|contents|footer|header)\b")
_OTHER_LANGUAGE = re.compile(r"(?!en)[a-z]{2}(-[A-Z]{2})?")  # name of a folder of translations
_VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})
_NUMBER = re.compile(r"^((chapter|appendix|part)\s+)?([0-9]+|[A-Z])(\.[0-9]+)*\.\s+", re.IGNORECASE)


def fetch_sections(packages: Sequence[str]) -> Iterator[Section]:
    """Sections of all HTML pages in English that the packages hold, each text once.

    :raises DataError: if a package cannot be had; the package client's own words follow.
    """
    seen: set[str] = set()
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            _call("apt-get", "--quiet", "download", package, folder=folder)
            [archive] = Path(folder).glob("*.deb")
            _call("dpkg-deb", "--extract", archive.name, "content", folder=folder)
            for page in sorted(Path(folder, "content").rglob("*.html*")):
                if not page.is_file() or any(map(_OTHER_LANGUAGE.fullmatch, page.parts)):
                    continue
                for section in page_sections(_read(page)):
                    if section.text not in seen:
                        seen.add(section.text)
                        yield section


def page_sections(html: str) -> list[Section]:
    """A page's sections, each under its heading and, but for the first, the page's title.

    Pages in other languages than English, and sections of a few words, are left out.
    """
    parser = _Page()
    parser.feed(html)
    parser.close()
    if not parser.language.startswith("en"):
        return []
    found, title = [], ""
    for heading, lines in parser.sections:
        heading = _NUMBER.sub("", " ".join(heading.replace("¶", " ").split()))
        title = title or heading
        text = "\n".join(line for line in map(_tidy, lines.split("\n")) if line)
        if heading and len(text.split()) >= _FEWEST_WORDS:
            found.append(Section(title if heading == title else f"{title}: {heading}", text))
    return found


class _Page(HTMLParser):
    """Collects the text below each heading."""

    def __init__(self) -> None:
        super().__init__()
        self.language = "en"
        self.sections: list[tuple[str, str]] = []
        self._open: list[tuple[str, bool]] = []  # tags, and whether their text is passed over
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = given.get("lang") or given.get("xml:lang") or "en"
        if tag in _BLOCKS:
            self._add("\n")
        if tag in _VOID:
            return
        skipped = (
            self._skipping
            or tag in _SKIPPED
            or (tag == "div" and bool(_SKIPPED_CLASSES.search(given.get("class", ""))))
        )
        self._open.append((tag, skipped))
        if tag in _HEADINGS and not skipped:
            self.sections.append(("", ""))
            self._in_heading = True

    def handle_endtag(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._in_heading = False
        if any(name == tag for name, _ in self._open):
            while self._open.pop()[0] != tag:
                pass  # what was left open inside ends with it

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            verbatim = any(tag == "pre" for tag, _ in self._open)
            self._add(data if verbatim else data.replace("\n", " "))

    @property
    def _skipping(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def _add(self, text: str) -> None:
        if self.sections:
            heading, lines = self.sections[-1]
            self.sections[-1] = (
                (heading + text, lines) if self._in_heading else (heading, lines + text)
            )


def _tidy(line: str) -> str:
    return " ".join(line.split())


def _read(page: Path) -> str:
    data = page.read_bytes()
    if page.suffix == ".gz":
        data = gzip.decompress(data)
    return data.decode("utf-8", "replace")


def _call(*command: str, folder: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DataError(f"{command[0]} is not here; fetching needs a Debian system") from error
    if done.returncode:
        raise DataError(f"{' '.join(command)}: {done.stderr.strip() or 'failed'}")
