"""Text that any tokenizer takes."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """Join surrogate pairs and replace the unpaired ones by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def same_length(text: str) -> str:
    """Replace every surrogate by U+FFFD: all characters keep their place."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
