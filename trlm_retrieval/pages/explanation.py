"""The explanation of a ranking as one HTML page: what puts each passage where it is.

The page needs no script, no network and no other file, escapes all text that came from outside,
and follows the reader's light or dark setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from haystack import Document

from trlm_retrieval.pages.display import display_title, marked, printable, query_pattern, snippet
from trlm_retrieval.pages.rendering import render

_TITLE = 36  # characters of a title in the table
_WHOLE = 700  # characters: of a longer passage the part that matters most is shown first
_RANKS = {"bm25_rank": "BM25", "dense_rank": "dense", "first_stage_rank": "first stage"}
_CLIP = 95.0  # percentile of |gain| that gets the full colour, so that one outlier pales nothing


@dataclass(frozen=True)
class Cell:
    """One query token under one passage.

    :ivar token: its text, with the space that may stand before it.
    :ivar gain: log P(token | passage) - log P(token), in nats.
    :ivar log_prob: log P(token | passage), in nats.
    :ivar shade: strength of the colour, 0 to 100.
    """

    token: str
    gain: float
    log_prob: float
    shade: float

    @property
    def side(self) -> str:
        """Which of the two colours it gets: ``up`` or ``down``."""
        return "up" if self.gain >= 0 else "down"


@dataclass(frozen=True)
class Row:
    """One ranked passage, ready to be shown.

    :ivar first_part: what the first stage adds to the score.
    :ivar likelihood_part: what the likelihood adds.
    :ivar first_width: how wide the first is drawn, 0 to 100, from the lowest of all passages.
    :ivar likelihood_width: the same of the second.
    :ivar places: where each retriever had it, in words.
    :ivar beginning: the part of a long passage that is shown before it is unfolded.
    """

    rank: int
    first_stage_rank: int
    id: str
    title: str
    score: float
    log_likelihood: float
    mean_log_likelihood: float
    gain: float
    relevance: float | None
    cut_tokens: int
    cells: list[Cell]
    first_part: float
    likelihood_part: float
    first_width: float
    likelihood_width: float
    places: list[str]
    passage: list[tuple[str, bool]]
    beginning: list[tuple[str, bool]]

    @property
    def characters(self) -> int:
        """How long the passage is."""
        return sum(len(text) for text, _ in self.passage)

    @property
    def short_title(self) -> str:
        """The title's beginning and end: headings differ at their end, names at their beginning."""
        if len(self.title) <= _TITLE:
            return self.title
        head, tail = self.title[: _TITLE // 3], self.title[-_TITLE * 2 // 3 :]
        return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"

    @property
    def climbed(self) -> int:
        """Places won by reranking; negative for places lost."""
        return self.first_stage_rank - self.rank


def explanation_page(
    query: str, documents: Sequence[Document], facts: dict[str, str] | None = None
) -> str:
    """The HTML page for one query.

    :param query: what was asked.
    :param documents: what a ``TRLMRanker`` with ``explain=True`` gave, best first.
    :param facts: names and values to show under the query, such as the model's name.
        Those without text, which were not scored, are left out.
    :raises ValueError: if there are no documents, or one carries no token gains.
    """
    documents = [d for d in documents if d.meta.get("trlm", {}).get("tokens_scored") != 0]
    if not documents:
        raise ValueError("there is nothing to explain: the ranking holds no documents")
    for document in documents:
        if "token_gains" not in document.meta.get("trlm", {}):
            raise ValueError(
                f"document {document.id!r} carries no token gains: rank with explain=True"
            )
    gains = [g["gain"] for document in documents for g in document.meta["trlm"]["token_gains"]]
    scale = max(float(np.percentile(np.abs(gains), _CLIP)), 1e-6) if gains else 1.0
    pattern = query_pattern(query)
    rows = [
        _row(rank, document, scale, pattern, widths)
        for rank, (document, widths) in enumerate(
            zip(documents, _widths(documents), strict=True), start=1
        )
    ]
    return render(
        "explanation.html",
        query=printable(query),
        rows=rows,
        scale=scale,
        facts=facts or {},
        is_mixed=any(row.first_part for row in rows),
        has_relevance=any(row.relevance is not None for row in rows),
    )


def _widths(documents: Sequence[Document]) -> list[tuple[float, float]]:
    """How wide both parts of each score are drawn, in hundredths of the widest bar."""
    parts = np.array(
        [
            [document.meta["trlm"]["mixture"][name] for name in ("first_stage", "likelihood")]
            for document in documents
        ]
    )
    above = parts - parts.min(axis=0)
    widest = max(float(above.sum(axis=1).max()), 1e-9)
    return [(100 * first / widest, 100 * second / widest) for first, second in above.tolist()]


def _row(
    rank: int, document: Document, scale: float, pattern: Any, widths: tuple[float, float]
) -> Row:
    measured = document.meta["trlm"]
    text = printable(document.content or "")
    return Row(
        rank=rank,
        first_stage_rank=measured["first_stage_rank"],
        id=printable(document.id),
        title=printable(display_title(document)),
        score=document.score or 0.0,
        log_likelihood=measured["log_likelihood"],
        mean_log_likelihood=measured["mean_log_likelihood"],
        gain=measured["gain"],
        relevance=measured["relevance"],
        cut_tokens=measured["cut_tokens"],
        cells=[
            Cell(
                printable(found["token"]),
                found["gain"],
                found["log_prob"],
                100 * min(1.0, abs(found["gain"]) / scale),
            )
            for found in measured["token_gains"]
        ],
        first_part=measured["mixture"]["first_stage"],
        likelihood_part=measured["mixture"]["likelihood"],
        first_width=widths[0],
        likelihood_width=widths[1],
        places=[
            f"{label} {measured[name] or '–'}" for name, label in _RANKS.items() if name in measured
        ],
        passage=marked(text, pattern),
        beginning=marked(snippet(text, pattern, _WHOLE // 2), pattern)
        if len(text) > _WHOLE
        else [],
    )
