"""Haystack components: retrievers over a PassageIndex, and what ranks and generates behind them.

Importing this package lets Haystack's ``Pipeline.loads`` create its components from YAML.
"""

from haystack.core.serialization import allow_deserialization_module

from trlm_retrieval.components.trlm_ranker import TRLMRanker

allow_deserialization_module("trlm_retrieval.components")

__all__ = ["TRLMRanker"]
