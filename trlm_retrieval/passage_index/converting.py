"""The bytes of one file made text: plain text, Markdown, HTML and PDF, each with its title."""

import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from charset_normalizer import from_bytes

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import ending, json_text, read_bytes

KINDS = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
}
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)"
    r"|\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
# What a heading holds that is no part of its text: a footnote's mark, an anchor.
_NOT_TITLE = re.compile(r"\[\^[^\]\s]*\]|\s*\{[#.:][^{}]*\}\s*\Z")
_TITLE = ("heading_open", "h1", 0)  # of the text itself, not of a quotation in it
_SHOWN = ("text", "code_inline", "image", "softbreak", "hardbreak")
_TELLING = 3  # bytes beyond ASCII
_UNUSED = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # of cp1252
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class Unreadable(DataError):
    """A file gives no text; the message is the reason, without the file's name."""


@dataclass
class Converted:
    """The text of a file.

    :ivar meta: what the file says of itself, such as its ``title``.
    :ivar encoding: what a text that is not UTF-8 was read as; None for UTF-8.
    """

    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    encoding: str | None = None


def convert(file: Path) -> Converted:
    """Read a file whose :func:`ending` is one of :data:`KINDS`, compressed or not.

    :raises Unreadable: if it gives no text; says why.
    :raises DataError: if a package is missing that its kind needs.
    """
    kind = KINDS[ending(file)]
    data = read_bytes(file)
    if kind == "pdf":
        found = Converted(_extracted(kind, data))
    else:
        text, encoding = decode(data)
        if kind == "markdown":
            found = _markdown(text)
        elif kind == "html":
            found = Converted(_extracted(kind, text.encode("utf-8", "replace")), _html_title(text))
        else:
            found = Converted(text)
        found.encoding = encoding
    if not found.text.strip():
        raise Unreadable("no text in it")
    return found


def decode(data: bytes) -> tuple[str, str | None]:
    """Bytes as text with ``\\n`` at line ends, without a byte order mark.

    :returns: the text, and the encoding it was read as where that is not UTF-8.
    :raises Unreadable: if it is text in no known encoding.
    """
    encoding: str | None = None
    try:
        text = data.decode(_BYTE_ORDER_MARKS.get(data[:2], "utf-8-sig"))
        encoding = _BYTE_ORDER_MARKS.get(data[:2])
    except UnicodeDecodeError:
        encoding = _detected(data)
        text = data.decode(encoding)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), encoding


def _detected(data: bytes) -> str:
    """The encoding of bytes that are not UTF-8; too few of them tell nothing but the commonest."""
    if b"\0" not in data:
        if sum(byte > 127 for byte in data) < _TELLING:
            return "cp1252" if not _UNUSED & set(data) else "latin-1"
        if best := from_bytes(data).best():
            return best.encoding
    raise Unreadable("it is no text in any known encoding")


def _markdown(text: str) -> Converted:
    """Markdown, parsed once: its plain text, its first heading, its front matter."""
    with _extra("markdown"):
        from markdown_it import MarkdownIt
        from markdown_it.rules_block import StateBlock, reference
        from mdit_plain.renderer import RendererPlain  # type: ignore[import-untyped]

    def link_definition(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        first = state.bMarks[start] + state.tShift[start]
        footnote = state.src.startswith("[^", first)  # which is text, and no link's address
        return not footnote and reference(state, start, end, silent)

    body, meta = _front_matter(text)
    parser = MarkdownIt(renderer_cls=RendererPlain)
    parser.block.ruler.at("reference", link_definition)
    tokens = parser.parse(body)
    for opening, inline in pairwise(tokens):
        if "title" not in meta and (opening.type, opening.tag, opening.level) == _TITLE:
            shown = (
                child.content if child.type in ("text", "code_inline", "image") else " "
                for child in inline.children or []
                if child.type in _SHOWN or child.content.lower().startswith("<br")
            )
            if title := " ".join(_NOT_TITLE.sub("", "".join(shown)).split()):
                meta["title"] = title
    rendered = parser.renderer.render(tokens, parser.options, {})
    return Converted(rendered if rendered.strip() else str(meta.get("title", "")), meta)


def _front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """What is below the front matter (YAML or TOML), and its fields; text without any is left as
    it is."""
    import yaml  # type: ignore[import-untyped]

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    found = _FRONT_MATTER.match(text)
    if not found:
        return text, {}
    try:
        fields = tomllib.loads(found[2]) if found[1] is None else yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError):
        return text, {}
    if fields is None:
        return text[found.end() :], {}
    if not isinstance(fields, dict):
        return text, {}
    meta = {str(name): value for name, value in json.loads(json_text(_named(fields))).items()}
    title = meta.pop("title", None)
    if isinstance(title, str | int | float) and str(title).strip():
        meta["title"] = str(title)
    return text[found.end() :], meta


def _named(value: Any) -> Any:
    """YAML takes anything as a key; JSON takes text."""
    if isinstance(value, dict):
        return {str(name): _named(item) for name, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value


def _html_title(text: str) -> dict[str, Any]:
    with _extra("html"):
        from trafilatura import extract_metadata

    found = extract_metadata(text)
    return {"title": found.title} if found and found.title else {}


def _extracted(kind: str, data: bytes) -> str:
    """What Haystack's converter reads in HTML or a PDF."""
    from haystack.components.converters import HTMLToDocument, PyPDFToDocument
    from haystack.dataclasses import ByteStream

    with _extra(kind):
        converter = PyPDFToDocument() if kind == "pdf" else HTMLToDocument()
    with _warnings() as warnings:
        documents = converter.run(sources=[ByteStream(data)])["documents"]
    if documents:
        return documents[0].content or ""
    if any("decrypt" in warning or "password" in warning.lower() for warning in warnings):
        raise Unreadable("the PDF is protected by a password")
    raise Unreadable("damaged PDF" if kind == "pdf" else "no text in it")


@contextmanager
def _extra(kind: str) -> Iterator[None]:
    """Say which extra brings the library that is missing."""
    try:
        yield
    except ImportError as error:
        raise DataError(
            f"reading {kind} files needs the extra 'convert': pip install "
            f"'trlm-retrieval[convert]' ({error.__cause__ or error})"
        ) from error


@contextmanager
def _warnings() -> Iterator[Sequence[str]]:
    """Collect what converters warn about, instead of showing it."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected.append(record.getMessage())

    collector = Collector(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("haystack", "pypdf", "trafilatura")]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.propagate = False
    try:
        yield collected
    finally:
        for logger, propagate in zip(loggers, propagated, strict=True):
            logger.removeHandler(collector)
            logger.propagate = propagate
