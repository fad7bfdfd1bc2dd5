"""What of a document is indexed, and the words BM25 sees in it."""

import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence

import Stemmer
from haystack import Document

DEFAULT_META_FIELDS = ("title",)
PREDICTED_QUERIES = "predicted_queries"
"""The meta field of queries that a model expects for a document; BM25 counts their words."""

_WORD = re.compile(r"\w+")
_local = threading.local()


def passage_text(document: Document, meta_fields: Sequence[str] = DEFAULT_META_FIELDS) -> str:
    """
    Join the named meta fields and the content, one a line.

    :param document: a document with content.
    :param meta_fields: meta fields that come first, such as "title"; absent ones are left out.
    :returns: the text that is embedded and that the ranker scores.
    """
    values = (document.meta.get(field) for field in meta_fields)
    return "\n".join([*(str(value) for value in values if value), document.content or ""])


def counted_text(document: Document, meta_fields: Sequence[str] = DEFAULT_META_FIELDS) -> str:
    """
    Join `passage_text` and the predicted queries of a document (doc2query), one a line.

    :returns: the text whose words BM25 counts.
    """
    queries = document.meta.get(PREDICTED_QUERIES) or []
    return "\n".join([passage_text(document, meta_fields), *map(str, queries)])


def words(text: str) -> list[str]:
    """
    Split a text into the words that BM25 counts.

    Runs of letters, digits and underscores, in lower case, reduced to their stem by Snowball's
    English stemmer. An identifier counts as a whole and by its parts: ``__enter__`` gives
    ``__enter__`` and ``enter``. There are no stop words: where programs are explained "with" and
    "not" are what is looked for, and elsewhere a frequent word weighs next to nothing.

    :param text: any text.
    :returns: the words, in order, with repetitions.
    """
    return _stemmer().stemWords(list(_words(unicodedata.normalize("NFKC", text).lower())))


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match.group()
        yield word
        if "_" in word:
            yield from filter(None, word.split("_"))


def _stemmer() -> Stemmer.Stemmer:
    # A stemmer must not be shared between threads.
    if not hasattr(_local, "stemmer"):
        _local.stemmer = Stemmer.Stemmer("english")
    return _local.stemmer
