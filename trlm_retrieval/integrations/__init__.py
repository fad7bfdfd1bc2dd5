"""Ranking outside Haystack: plain Python, and other libraries' own shapes."""

from typing import TYPE_CHECKING

from trlm_retrieval.on_demand import on_demand

if TYPE_CHECKING:
    from trlm_retrieval.integrations.reranker import RankedPassage, Reranker, TokenGain

__all__ = ["RankedPassage", "Reranker", "TokenGain"]

__getattr__, __dir__ = on_demand(
    __name__, dict.fromkeys(__all__, "trlm_retrieval.integrations.reranker")
)
