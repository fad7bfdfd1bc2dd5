"""Pairs from plain text: a sentence, and the passage that it was taken out of.

The inverse cloze task of Lee, Chang and Toutanova, *Latent Retrieval for Weakly Supervised Open
Domain Question Answering* (ACL 2019): which passage is a sentence from?
"""

import random
from collections.abc import Iterable, Iterator
from zlib import crc32

from trlm_retrieval.text.sentences import sentence_spans
from trlm_retrieval.training.corpus import Section

_SENTENCE = range(30, 220)  # characters of a sentence that serves as a query


def cloze_pairs(
    sections: Iterable[Section], characters: int = 700, named: float = 0.5, seed: int = 0
) -> Iterator[Section]:
    """Passages of the sections, each under a sentence of its own that is no longer in it.

    Passages of fewer than three sentences, or without one of usual length, are left out.

    :param characters: a passage is as many sentences as reach this length.
    :param named: share of the passages that begin with their section's heading.
    """
    for section in sections:
        draw = random.Random(crc32(section.running_text.encode("utf-8", "replace")) ^ seed)
        spans = sentence_spans(section.text)
        for sentences in _passages((span.of(section.text) for span in spans), characters):
            fit = [n for n, text in enumerate(sentences) if len(text) in _SENTENCE]
            if len(sentences) < 3 or not fit:
                continue
            query = sentences.pop(draw.choice(fit))
            if section.heading and draw.random() < named:
                sentences.insert(0, f"{section.heading}.")
            yield Section(query, " ".join(sentences))


def _passages(sentences: Iterable[str], characters: int) -> Iterator[list[str]]:
    passage: list[str] = []
    for sentence in sentences:
        passage.append(sentence)
        if sum(map(len, passage)) >= characters:
            yield passage
            passage = []
    if passage:
        yield passage
