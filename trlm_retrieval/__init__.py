"""Rank passages by P(query | passage), read off a time-reversed language model."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.passage_index import PassageIndex

__version__ = version("trlm-retrieval")

# Imported on first use, so that `trlm --help` does not wait for torch.
_HOMES = {
    "BM25Retriever": "trlm_retrieval.components",
    "FAISSRetriever": "trlm_retrieval.components",
    "PassageIndex": "trlm_retrieval.passage_index",
    "TRLMAnswerRanker": "trlm_retrieval.components",
    "TRLMCitationAttributor": "trlm_retrieval.components",
    "TRLMQueryGenerator": "trlm_retrieval.components",
    "TRLMRanker": "trlm_retrieval.components",
    "TRLMSafetyFilter": "trlm_retrieval.components",
    "TimeReversedLM": "trlm_retrieval.lm",
}

__all__ = [
    "BM25Retriever",
    "FAISSRetriever",
    "PassageIndex",
    "TRLMAnswerRanker",
    "TRLMCitationAttributor",
    "TRLMQueryGenerator",
    "TRLMRanker",
    "TRLMSafetyFilter",
    "TimeReversedLM",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
