"""Rank passages by P(query | passage), read off a time-reversed language model."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from trlm_retrieval.on_demand import on_demand

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

__getattr__, __dir__ = on_demand(
    __name__,
    {
        **dict.fromkeys(__all__, "trlm_retrieval.components"),
        "Reranker": "trlm_retrieval.integrations",
        "PassageIndex": "trlm_retrieval.passage_index",
        "TimeReversedLM": "trlm_retrieval.lm",
    },
)
