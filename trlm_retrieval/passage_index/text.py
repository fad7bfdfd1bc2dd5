"""What of a document is indexed, and the words BM25 sees in it."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from haystack import Document

_WORD = re.compile(r"\w+")


def indexed_text(document: Document, meta_fields: Sequence[str]) -> str:
    """
    Join the named meta fields and the content, one a line.

    :param document: a document with content.
    :param meta_fields: meta fields that come first, such as "title"; absent ones are left out.
    :returns: the text that is embedded and whose words BM25 counts.
    """
    values = (document.meta.get(field) for field in meta_fields)
    return "\n".join([*(str(value) for value in values if value), document.content or ""])


def words(text: str) -> list[str]:
    """
    Split a text into the words that BM25 counts.

    :param text: any text.
    :returns: the words, in order, with repetitions.
    """
    return list(_words(unicodedata.normalize("NFKC", text).lower()))


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match.group()
        yield word
        if "_" in word:
            yield from filter(None, word.split("_"))
