"""The words that BM25 sees in a text, in any script."""

import re
import threading
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import regex  # type: ignore[import-untyped]
import Stemmer

from trlm_retrieval.text.normalise import normalise

_WORD = re.compile(r"\w+")
_DIVIDED = re.compile(r"([^\W\d_]{2,})-[ \t]*\r?\n[ \t]*([^\W\d_]{2,})")
# Scripts that put no blanks between words, and Korean, whose words carry particles. A run of one
# script is cut into pairs of neighbouring characters.
_UNSPACED = (
    r"[\p{Han}々〇]+",
    r"\p{Hiragana}[\p{Hiragana}ー]*",
    r"\p{Katakana}[\p{Katakana}ー]*",
    r"\p{Hangul}+",
    *(rf"\p{{{script}}}+" for script in ("Thai", "Lao", "Khmer", "Myanmar", "Tibetan")),
)
_SCRIPTS = ["Han", "Hiragana", "Katakana", "Hangul", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"]
_SCRIPT = "".join(rf"\p{{{script}}}" for script in _SCRIPTS)
# Letters keep their marks: the vowel signs of Hindi are part of the word.
_PIECE = regex.compile(
    rf"(?P<unspaced>{'|'.join(_UNSPACED)})|[[\w\p{{M}}\u200c\u200d]--[{_SCRIPT}]]+", regex.V1
)
# Beyond Latin letters and signs there may be marks, joiners, and scripts without blanks.
_CAREFUL = re.compile("[\u200c\u200d\u0300-\u1dff\u1f00-\u1fff\u2c00-\U0010ffff]")
_CLUSTER = regex.compile(r"\X")
# Joiners, and the vowel points of Arabic and Hebrew, which most texts leave out.
_DROPPED = [0x200C, 0x200D, 0x640, *range(0x64B, 0x653), 0x670, *range(0x591, 0x5BE), 0x5BF]
_DROPPED += [0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7]
# The noughts of scripts that have digits of their own, with the other nine behind them.
_NOUGHTS = "٠۰߀०০੦૦୦௦౦೦൦෦๐໐༠၀០᠐"
_FOLDED: dict[int, str | None] = {
    **dict.fromkeys(_DROPPED),
    **{ord(nought) + digit: str(digit) for nought in _NOUGHTS for digit in range(10)},
}
_local = threading.local()


def words(text: str) -> list[str]:
    """
    Split a text into the words that BM25 counts.

    Runs of letters, digits and underscores, with case and digits folded, reduced to their stem by
    Snowball's English stemmer. An identifier counts as a whole and by its parts: ``__enter__``
    gives ``__enter__`` and ``enter``. A word divided at a line's end counts as a whole as well.
    There are no stop words: where programs are explained "with" and "not" are what is looked for,
    and elsewhere a frequent word weighs next to nothing.

    Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese and Tibetan give each character and each
    pair of neighbours.

    :param text: any text.
    :returns: the words, in order, with repetitions.
    """
    return _stemmer().stemWords(_words(text, characters=True))


def query_words(text: str) -> list[str]:
    """
    As `words`, for a query: where characters stand in pairs, only the pairs are looked for.

    :param text: any text.
    :returns: the words, in order, with repetitions.
    """
    return _stemmer().stemWords(_words(text, characters=False))


def _words(text: str, characters: bool) -> list[str]:
    text = normalise(text)
    rejoined = []
    if "-" in text and "\n" in text:
        rejoined = [(found[1] + found[2]).lower() for found in _DIVIDED.finditer(text)]
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        text = folded.replace("i\u0307", "i").replace("ı", "i")
    if _CAREFUL.search(text):
        found = _pieces(text.translate(_FOLDED), characters)
    else:
        found = _WORD.findall(text.lower())
    return rejoined + (_with_parts(found) if "_" in text else found)


def _with_parts(found: list[str]) -> list[str]:
    return [
        piece
        for word in found
        for piece in ((word, *filter(None, word.split("_"))) if "_" in word else (word,))
    ]


def _pieces(text: str, characters: bool) -> list[str]:
    found: list[str] = []
    for match in _PIECE.finditer(text):
        if match["unspaced"]:
            found += _pairs(_CLUSTER.findall(match.group()), characters)
        else:
            found.append(match.group())
    return found


def _pairs(run: list[str], characters: bool) -> Iterator[str]:
    if characters or len(run) == 1:
        yield from run
    yield from (first + second for first, second in pairwise(run))


def _stemmer() -> Stemmer.Stemmer:
    # A stemmer must not be shared between threads.
    if not hasattr(_local, "stemmer"):
        _local.stemmer = Stemmer.Stemmer("english")
    return _local.stemmer
