"""Haystack components: retrievers over a PassageIndex, and what ranks and generates behind them.

Importing this package lets Haystack's ``Pipeline.loads`` create its components from YAML.
"""

from haystack.core.serialization import allow_deserialization_module

from trlm_retrieval.components.bm25_retriever import BM25Retriever
from trlm_retrieval.components.faiss_retriever import FAISSRetriever
from trlm_retrieval.components.local_chat_generator import LocalChatGenerator
from trlm_retrieval.components.passage_index_writer import PassageIndexWriter
from trlm_retrieval.components.question_filter import QuestionFilter
from trlm_retrieval.components.trlm_answer_ranker import TRLMAnswerRanker
from trlm_retrieval.components.trlm_citation_attributor import TRLMCitationAttributor
from trlm_retrieval.components.trlm_query_generator import TRLMQueryGenerator
from trlm_retrieval.components.trlm_ranker import TRLMRanker
from trlm_retrieval.components.trlm_safety_filter import TRLMSafetyFilter

allow_deserialization_module("trlm_retrieval.components")
allow_deserialization_module("trlm_retrieval.lm.remote")  # a RemoteLM as a ranker's model

__all__ = [
    "BM25Retriever",
    "FAISSRetriever",
    "LocalChatGenerator",
    "PassageIndexWriter",
    "QuestionFilter",
    "TRLMAnswerRanker",
    "TRLMCitationAttributor",
    "TRLMQueryGenerator",
    "TRLMRanker",
    "TRLMSafetyFilter",
]
