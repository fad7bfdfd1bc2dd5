"""Haystack components: retrievers over a PassageIndex, and what ranks and generates behind them.

Importing this package lets Haystack's ``Pipeline.loads`` create its components from YAML; each is
imported when it is first asked for.
"""

from typing import TYPE_CHECKING

import lazy_loader
from haystack.core.serialization import allow_deserialization_module

from trlm_retrieval.components.former_paths import refuse_former_paths

if TYPE_CHECKING:
    from trlm_retrieval.components.answer_ranker import TRLMAnswerRanker
    from trlm_retrieval.components.chat_generator import LocalChatGenerator
    from trlm_retrieval.components.citation_attributor import TRLMCitationAttributor
    from trlm_retrieval.components.file_reader import FilesToPassages
    from trlm_retrieval.components.index_writer import PassageIndexWriter
    from trlm_retrieval.components.query_generator import TRLMQueryGenerator
    from trlm_retrieval.components.question_filter import QuestionFilter
    from trlm_retrieval.components.ranker import TRLMRanker
    from trlm_retrieval.components.reply_filter import ReplyFilter
    from trlm_retrieval.components.retrievers import BM25Retriever, FAISSRetriever
    from trlm_retrieval.components.safety_filter import TRLMSafetyFilter
    from trlm_retrieval.components.score_joiner import ScoreJoiner

allow_deserialization_module("trlm_retrieval.components")
allow_deserialization_module("trlm_retrieval.lm.remote")  # a RemoteLM as a ranker's model
refuse_former_paths()

__all__ = [
    "BM25Retriever",
    "FAISSRetriever",
    "FilesToPassages",
    "LocalChatGenerator",
    "PassageIndexWriter",
    "QuestionFilter",
    "ReplyFilter",
    "ScoreJoiner",
    "TRLMAnswerRanker",
    "TRLMCitationAttributor",
    "TRLMQueryGenerator",
    "TRLMRanker",
    "TRLMSafetyFilter",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "answer_ranker": ["TRLMAnswerRanker"],
        "chat_generator": ["LocalChatGenerator"],
        "citation_attributor": ["TRLMCitationAttributor"],
        "file_reader": ["FilesToPassages"],
        "index_writer": ["PassageIndexWriter"],
        "query_generator": ["TRLMQueryGenerator"],
        "question_filter": ["QuestionFilter"],
        "ranker": ["TRLMRanker"],
        "reply_filter": ["ReplyFilter"],
        "retrievers": ["BM25Retriever", "FAISSRetriever"],
        "safety_filter": ["TRLMSafetyFilter"],
        "score_joiner": ["ScoreJoiner"],
    },
)
