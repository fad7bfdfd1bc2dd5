"""Passages with the queries that a model expects for them, whose words BM25 counts (doc2query)."""

from collections.abc import Sequence
from dataclasses import replace

from haystack import Document

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import generate_queries
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.passage_index.documents import (
    DEFAULT_META_FIELDS,
    PREDICTED_QUERIES,
    passage_text,
)


def expand(
    passages: Sequence[Document],
    lm: TimeReversedLM,
    *,
    number: int,
    meta_fields: Sequence[str] = DEFAULT_META_FIELDS,
    max_passage_tokens: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Document], int]:
    """Copies of the passages with predicted queries in their meta.

    :param number: queries for each passage.
    :param progress: called with the number of passages just finished.
    :returns: the copies, and how many passages were too long to be read whole.
    """
    found = generate_queries(
        lm,
        [passage_text(passage, meta_fields) for passage in passages],
        number,
        max_passage_tokens=max_passage_tokens,
        progress=progress,
    )
    cut = sum(bool(queries and queries[0].likelihood.cut_tokens) for queries in found)
    expanded = [
        replace(passage, meta=passage.meta | {PREDICTED_QUERIES: [query.text for query in queries]})
        for passage, queries in zip(passages, found, strict=True)
    ]
    return expanded, cut
