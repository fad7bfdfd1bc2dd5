"""The words that BM25 sees in a text."""

import re
import threading
import unicodedata
from collections.abc import Iterator

import Stemmer

_WORD = re.compile(r"\w+")
_local = threading.local()


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
