"""Ranking outside Haystack: plain Python, and other libraries' own shapes."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from trlm_retrieval.integrations.reranker import RankedPassage, Reranker, TokenGain

__all__ = ["RankedPassage", "Reranker", "TokenGain"]

__getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"reranker": __all__})
