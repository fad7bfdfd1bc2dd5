"""Sentences of a text, as spans of characters: nothing of the text is changed or lost."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from sentencex import get_sentence_boundaries  # type: ignore[import-untyped]

from trlm_retrieval.text.normalise import same_length

_LETTER = re.compile(r"[^\W\d_]")


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """The characters themselves."""
        return text[self.start : self.end]


def sentence_spans(text: str, language: str = "en") -> list[Span]:
    """Where the sentences of a text are, in order, without the white space around them.

    A piece without a letter, such as the number of a list item, belongs to the sentence behind
    it, or to the last one where none follows. A text without any letter holds no sentence.

    :param language: ISO 639-1 code, whose abbreviations are not taken for ends of sentences.
        Sentences of other languages and scripts are found too.
    """
    spans: list[Span] = []
    for piece in _pieces(text, language):
        if spans and not _LETTER.search(spans[-1].of(text)):
            piece = Span(spans.pop().start, piece.end)
        spans.append(piece)
    if spans and not _LETTER.search(spans[-1].of(text)):
        rest = spans.pop()
        if spans:
            spans.append(Span(spans.pop().start, rest.end))
    return spans


def _pieces(text: str, language: str) -> Iterator[Span]:
    for found in get_sentence_boundaries(language, same_length(text)):
        start, end = found["start_index"], found["end_index"]
        piece = text[start:end]
        if piece.strip():
            yield Span(end - len(piece.lstrip()), start + len(piece.rstrip()))
