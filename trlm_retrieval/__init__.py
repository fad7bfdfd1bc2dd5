"""Rank passages by P(query | passage), read off a time-reversed language model."""

from importlib.metadata import version
from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from trlm_retrieval.components import (
        BM25Retriever,
        FAISSRetriever,
        TRLMAnswerRanker,
        TRLMCitationAttributor,
        TRLMQueryGenerator,
        TRLMRanker,
        TRLMSafetyFilter,
    )
    from trlm_retrieval.integrations import Reranker
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.passage_index import PassageIndex

__version__ = version("trlm-retrieval")

__all__ = [
    "BM25Retriever",
    "FAISSRetriever",
    "PassageIndex",
    "Reranker",
    "TRLMAnswerRanker",
    "TRLMCitationAttributor",
    "TRLMQueryGenerator",
    "TRLMRanker",
    "TRLMSafetyFilter",
    "TimeReversedLM",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "components": [
            "BM25Retriever",
            "FAISSRetriever",
            "TRLMAnswerRanker",
            "TRLMCitationAttributor",
            "TRLMQueryGenerator",
            "TRLMRanker",
            "TRLMSafetyFilter",
        ],
        "integrations": ["Reranker"],
        "lm": ["TimeReversedLM"],
        "passage_index": ["PassageIndex"],
    },
)
