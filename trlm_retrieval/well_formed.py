"""Text that any tokenizer takes."""


def well_formed(text: str) -> str:
    """Join surrogate pairs and replace the unpaired ones by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
