"""What likelihood does not see: numbers, dates and negations that differ between two sentences.

A likelihood tells how near a source is to a sentence, not whether it says the same. These checks
compare the sentence with what is quoted for it, and name what differs. They are hints: a sentence
without a conflict may still be wrong.
"""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(?<![\w.,])[-+−]?\d+(?:[,.\u00a0\u202f]\d{3})*(?:[.,]\d+)?(?!\w*\])")
_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty
""".split()  # noqa: SIM905
_SPELLED = {word: float(number) for number, word in enumerate(_WORDS)}
_MONTH = re.compile(
    r"\b(january|february|march|april|may|june|july|august|september|october|november|december)"
    r"(?=\s+\d|\s*,)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nothing|nobody|neither|nor|cannot|without|fails?|failed|lacks?"
    r"|lacked|unable|absence|\w+n['’]t)\b",
    re.IGNORECASE,
)


def conflicts(claim: str, quotes: Sequence[str]) -> list[str]:
    """What a sentence says otherwise than the sentences quoted in its support, in words.

    Empty where nothing is quoted, or nothing differs.
    """
    if not quotes:
        return []
    quoted = " ".join(quotes)
    found = []
    there = _numbers(quoted)
    if there:
        missing = [text for value, text in _numbers(claim).items() if value not in there]
        if missing:
            found.append(f"{', '.join(missing)} is not in the source, which has other numbers")
    months = {name.lower() for name in _MONTH.findall(quoted)}
    other = [name for name in _MONTH.findall(claim) if name.lower() not in months]
    if months and other:
        found.append(f"{', '.join(other)} is not in the source, which has another date")
    if bool(_NEGATION.search(claim)) != bool(_NEGATION.search(quoted)):
        says = "the sentence" if _NEGATION.search(claim) else "the source"
        found.append(f"only {says} holds a negation")
    return found


def _numbers(text: str) -> dict[float, str]:
    """Numbers of a text by value, as written; ``one`` counts as an article does, for nothing."""
    found: dict[float, str] = {}
    for match in _NUMBER.finditer(text):
        plain = re.sub(r"[,.\u00a0\u202f](?=\d{3}(?!\d))", "", match.group().lstrip("+-−"))
        found[float(plain.replace(",", "."))] = match.group()
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in _SPELLED and word not in ("zero", "one"):
            found.setdefault(_SPELLED[word], word)
    return found
