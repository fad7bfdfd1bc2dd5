"""How long texts are for a model, in its tokens."""

from collections.abc import Sequence
from typing import Any

from trlm_retrieval.text.normalise import same_length

_CHARACTERS_PER_TOKEN = 100  # bounds what tokenising one huge text costs


def count_tokens(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens in each text."""
    if not texts:
        return []
    encoded = tokenizer(
        [same_length(text) for text in texts], add_special_tokens=False, verbose=False
    )
    return [len(ids) for ids in encoded["input_ids"]]


def leading_tokens(tokenizer: Any, text: str, most: int) -> tuple[str, int]:
    """The beginning of a text that has at most that many tokens, and the characters left out."""
    beginning = text[: most * _CHARACTERS_PER_TOKEN]
    [offsets] = tokenizer(
        [same_length(beginning)],
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    if len(offsets) > most:
        beginning = beginning[: offsets[most - 1][1]]
    return beginning, len(text) - len(beginning)
