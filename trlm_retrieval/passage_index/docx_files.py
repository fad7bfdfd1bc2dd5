"""DOCX as text by sections, by Haystack's converter. Needs the extra `convert`."""

from dataclasses import replace
from io import BytesIO
from zipfile import BadZipFile, ZipFile

import docx
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph
from haystack.components.converters import DOCXToDocument
from haystack.dataclasses import ByteStream

from trlm_retrieval.passage_index.converted import Converted, Unreadable, kept_warnings
from trlm_retrieval.passage_index.markdown import convert_headings_and_tables

_LARGEST = 200_000_000  # bytes unpacked
_OLD_WORD = b"\xd0\xcf\x11\xe0"  # also how Office stores a file that a password protects
_NO_HEADING = "\ue000"  # keeps text that begins as a heading in Markdown does from being one


def convert_docx(data: bytes) -> Converted:
    """Text, with tables as lines; its title is the file's own, else the first heading.

    :raises Unreadable: if it is no DOCX file, or unpacks to too much.
    """
    _check_size(data)
    with kept_warnings():
        documents = DOCXToDocument(table_format="markdown").run([ByteStream(_marked(data))])
    if not documents["documents"]:
        raise Unreadable("damaged DOCX file")
    [document] = documents["documents"]
    title = str(document.meta["docx"]["title"]).strip()
    text = (document.content or "").replace("\f", " ")  # where Word began a page
    found = convert_headings_and_tables(text, {"title": title} if title else {})
    found.sections = [
        replace(section, text=section.text.replace(_NO_HEADING, "")) for section in found.sections
    ]
    return found


def _check_size(data: bytes) -> None:
    if data.startswith(_OLD_WORD):
        raise Unreadable("an old Word file (.doc), or protected by a password")
    try:
        with ZipFile(BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Unreadable("damaged DOCX file") from error
    if size > _LARGEST:
        raise Unreadable(f"it unpacks to more than {_LARGEST // 1_000_000} MB")


def _marked(data: bytes) -> bytes:
    """The file with ``#`` before its headings, and its tables apart from the paragraphs."""
    try:
        document = docx.Document(BytesIO(data))
        for paragraph in document.paragraphs:
            _mark(paragraph)
        for table in document.element.body.findall(qn("w:tbl")):
            table.addprevious(document.add_paragraph()._p)
            table.addnext(document.add_paragraph()._p)
        marked = BytesIO()
        document.save(marked)
    except Exception as error:  # python-docx fails with anything on a damaged file
        raise Unreadable("damaged DOCX file") from error
    return marked.getvalue()


def _mark(paragraph: Paragraph) -> None:
    name = paragraph.style.name if paragraph.style is not None else None
    kind, _, level = (name or "").partition(" ")
    prefix = ""
    if paragraph.text.strip():
        if kind == "Heading" and level.isdigit():
            prefix = "\n" + "#" * min(int(level), 6) + " "
        elif kind == "Title" and not level:
            prefix = "\n# "
        elif paragraph.text.lstrip().startswith(("#", "|")):
            prefix = _NO_HEADING
    if prefix:
        run = paragraph.add_run(prefix)._r
        paragraph._p.insert(0 if paragraph._p.pPr is None else 1, run)
