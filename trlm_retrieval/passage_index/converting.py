"""The bytes of one file made text: each kind of file by its own library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from charset_normalizer import from_bytes

from trlm_retrieval.files import ending, read_bytes
from trlm_retrieval.passage_index.converted import (
    Converted,
    Section,
    Unreadable,
    extra,
    kept_warnings,
)
from trlm_retrieval.passage_index.source_code import LANGUAGES

KINDS = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    **dict.fromkeys(LANGUAGES, "code"),
}
_TELLING = 3  # bytes beyond ASCII
_UNUSED = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # of cp1252
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_LONG_LINES = 500  # characters on average: what no person has written


def convert(file: Path) -> Converted:
    """Read a file whose :func:`ending` is one of :data:`KINDS`, compressed or not.

    :raises Unreadable: if it gives no text; says why.
    :raises DataError: if a package is missing that its kind needs.
    """
    kind = KINDS[ending(file)]
    data = read_bytes(file)
    if kind in _OF_BYTES:
        with extra(kind):
            found = _OF_BYTES[kind](data)
    else:
        text, encoding = decode(data)
        if not text.strip():
            raise Unreadable("no text in it")
        with extra(kind):
            found = _OF_TEXT[kind](text)
        found.encoding = encoding
    if not found.text.strip():
        raise Unreadable("no text in it")
    if kind == "code":
        found.meta = {"title": file.name, "language": LANGUAGES[ending(file)]}
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


def _text(text: str) -> Converted:
    return Converted([Section(text)])


def _code(text: str) -> Converted:
    if len(text) > _LONG_LINES * (text.rstrip("\n").count("\n") + 1):
        raise Unreadable(
            f"its lines have more than {_LONG_LINES} characters on average: minified or generated"
        )
    return Converted([Section(text)])


def _markdown(text: str) -> Converted:
    from trlm_retrieval.passage_index.markdown import convert_markdown

    return convert_markdown(text)


def _html(text: str) -> Converted:
    """The main text of a page, which Haystack's converter turns into Markdown."""
    from haystack.components.converters import HTMLToDocument
    from haystack.dataclasses import ByteStream
    from trafilatura import extract_metadata

    from trlm_retrieval.passage_index.markdown import convert_markdown

    data = text.encode("utf-8", "replace")
    with kept_warnings():
        converter = HTMLToDocument({"output_format": "markdown"})
        documents = converter.run([ByteStream(data)])["documents"]
        about = extract_metadata(text)
    if not documents:
        raise Unreadable("no text in it")
    meta: dict[str, Any] = {"title": about.title} if about and about.title else {}
    return convert_markdown(documents[0].content or "", meta)


def _docx(data: bytes) -> Converted:
    from trlm_retrieval.passage_index.docx_files import convert_docx

    return convert_docx(data)


def _pdf(data: bytes) -> Converted:
    from trlm_retrieval.passage_index.pdf import convert_pdf

    return convert_pdf(data)


_OF_BYTES: dict[str, Callable[[bytes], Converted]] = {"pdf": _pdf, "docx": _docx}
_OF_TEXT: dict[str, Callable[[str], Converted]] = {
    "text": _text,
    "markdown": _markdown,
    "html": _html,
    "code": _code,
}
