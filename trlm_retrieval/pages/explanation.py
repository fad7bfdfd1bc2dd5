"""The explanation of a ranking as one HTML page: which query tokens each passage makes likely.

The page needs no script, no network and no other file, escapes all text that came from outside,
and follows the reader's light or dark setting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from haystack import Document
from jinja2 import Environment, StrictUndefined

from trlm_retrieval.pages.display import display_title, marked, printable, query_pattern

_TITLE = 36  # characters of a title in the table
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
    """One ranked passage, ready to be shown."""

    rank: int
    first_stage_rank: int
    id: str
    title: str
    score: float
    log_likelihood: float
    mean_log_likelihood: float
    gain: float
    cut_tokens: int
    cells: list[Cell]
    passage: list[tuple[str, bool]]

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


def heat_map(query: str, documents: Sequence[Document], facts: dict[str, str] | None = None) -> str:
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
    rows = [_row(rank, doc, scale, pattern) for rank, doc in enumerate(documents, start=1)]
    template = (
        files("trlm_retrieval.pages").joinpath("explanation.html").read_text(encoding="utf-8")
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["nats"] = _nats
    return environment.from_string(template).render(
        query=printable(query), rows=rows, scale=scale, facts=facts or {}
    )


def _row(rank: int, document: Document, scale: float, pattern: Any) -> Row:
    measured = document.meta["trlm"]
    return Row(
        rank=rank,
        first_stage_rank=measured["first_stage_rank"],
        id=printable(document.id),
        title=printable(display_title(document)),
        score=document.score or 0.0,
        log_likelihood=measured["log_likelihood"],
        mean_log_likelihood=measured["mean_log_likelihood"],
        gain=measured["gain"],
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
        passage=marked(printable(document.content or ""), pattern),
    )


def _nats(value: float, digits: int = 2, sign: str = "+") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "\N{MINUS SIGN}")
