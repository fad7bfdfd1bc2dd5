"""PDF as text, by PDFium. Needs the extra `convert`."""

import re
from threading import Lock

from pypdfium2 import PdfDocument, PdfiumError

from trlm_retrieval.passage_index.converted import Converted, Section, Unreadable

_PDFIUM = Lock()  # the library is not made for several threads
_BROKEN = re.compile(r"\b(\w+)\ufffe(\w+)")  # at the end of a line, where PDFium saw a hyphen
_HYPHENED = re.compile(r"(?=\b(\w+-\w+))")


def convert_pdf(data: bytes) -> Converted:
    """The pages, with a form feed between them.

    :raises Unreadable: if it is damaged, or protected by a password.
    """
    return Converted([Section("\f".join(pages(data)))])


def pages(data: bytes) -> list[str]:
    """The text of each page. Words that a line end cuts are joined, but for those that are
    written with a hyphen elsewhere.

    :raises Unreadable: if it is damaged, or protected by a password.
    """
    with _PDFIUM:
        try:
            document = PdfDocument(data)
            found = [page.get_textpage().get_text_range() for page in document]
        except PdfiumError as error:
            protected = "password" in str(error).lower()
            reason = "the PDF is protected by a password" if protected else "damaged PDF"
            raise Unreadable(reason) from error
    return joined("\f".join(found).replace("\r\n", "\n").replace("\r", "\n")).split("\f")


def joined(text: str) -> str:
    """A text from PDFium with the words whole that the end of a line cuts."""
    hyphened = set(_HYPHENED.findall(text))

    def whole(broken: re.Match[str]) -> str:
        first, second = broken.groups()
        keeps = second[0].isupper() or f"{first}-{second}" in hyphened
        return f"{first}-{second}" if keeps else first + second

    return _BROKEN.sub(whole, text).replace("\ufffe", "-")
