"""Rank passages by P(query | passage), read off a time-reversed language model."""

import sys
from collections.abc import Callable, Mapping
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


def on_demand(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Import a package's names when they are first asked for, and not before.

    :param package: its ``__name__``.
    :param homes: the full name of the module that each public name comes from.
    :returns: what the package takes as its ``__getattr__`` and ``__dir__``.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return find, names


__getattr__, __dir__ = on_demand(
    __name__,
    {
        **dict.fromkeys(__all__, "trlm_retrieval.components"),
        "Reranker": "trlm_retrieval.integrations",
        "PassageIndex": "trlm_retrieval.passage_index",
        "TimeReversedLM": "trlm_retrieval.lm",
    },
)
