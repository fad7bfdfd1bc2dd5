"""Long sources cut into windows of whole sentences that a model reads at once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from trlm_retrieval.text.sentences import Span, sentence_spans

CountTokens = Callable[[Sequence[str]], list[int]]


class Window(NamedTuple):
    """Neighbouring sentences of a source, as spans of its text; never empty."""

    sentences: tuple[Span, ...]

    @property
    def span(self) -> Span:
        """From the first character of the first sentence to the last one of the last."""
        return Span(self.sentences[0].start, self.sentences[-1].end)

    def pieces(self, text: str) -> list[str]:
        """The text of each sentence with what stands between it and the next; joined they give
        the text of the window."""
        ends = [*(sentence.start for sentence in self.sentences[1:]), self.span.end]
        return [
            text[sentence.start : end] for sentence, end in zip(self.sentences, ends, strict=True)
        ]


def windows(text: str, max_tokens: int, count_tokens: CountTokens) -> list[Window]:
    """Windows of at most ``max_tokens`` tokens; a longer sentence has a window of its own.

    A text without sentences, such as a row of numbers, counts as one sentence; an empty text has
    no window.
    """
    spans = sentence_spans(text)
    if not spans and text.strip():
        spans = [Span(len(text) - len(text.lstrip()), len(text.rstrip()))]
    found: list[list[Span]] = []
    used = 0
    for span, tokens in zip(spans, count_tokens([s.of(text) for s in spans]), strict=True):
        if not found or used + tokens > max_tokens:
            found.append([])
            used = 0
        found[-1].append(span)
        used += tokens
    return [Window(tuple(sentences)) for sentences in found]
