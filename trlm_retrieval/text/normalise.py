"""One spelling for the same characters, for the model, the embedder and BM25 alike.

What is stored and shown stays the user's own text.
"""

import re
import unicodedata

_SURROGATE = re.compile("[\ud800-\udfff]")
# Half-width and full-width forms, and ligatures: other shapes of the same letters.
_SHAPES = re.compile("[\uff01-\uffef\ufb00-\ufb06]+")
# Soft hyphens with the line end behind them, zero-width characters, marks of direction.
_INVISIBLE = re.compile(
    "\u00ad[ \t]*\r?\n[ \t]*|[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u2069\ufeff]|(?<=[A-Za-z])[\u200c\u200d]|[\u200c\u200d](?=[A-Za-z])"
)
# Any of these: most texts beyond ASCII hold none.
_ODD = re.compile(
    "[\u00a0\u00ad\u034f\u061c\u1680\u180e\u2000-\u200f\u202a-\u202f\u205f-\u2069\u3000"
    "\ufb00-\ufb06\ufeff-\uffef]"
)
_BLANKS = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def normalise(text: str) -> str:
    """The text as the model, the embedder and BM25 read it.

    Characters are composed (NFC), half-width and full-width forms and ligatures become plain
    letters, hard and thin spaces become spaces, soft hyphens and zero-width characters go. The
    joiners that Persian, Indian scripts and emoji need stay. Unpaired surrogates become U+FFFD.
    """
    if text.isascii():
        return text
    if _ODD.search(text):
        text = _SHAPES.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
        text = _BLANKS.sub(" ", _INVISIBLE.sub("", text))
    return well_formed(unicodedata.normalize("NFC", text))


def well_formed(text: str) -> str:
    """Join surrogate pairs and replace the unpaired ones by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def same_length(text: str) -> str:
    """Replace every surrogate by U+FFFD: all characters keep their place."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
