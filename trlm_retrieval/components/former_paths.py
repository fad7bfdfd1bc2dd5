"""Where components were before: YAML that still names such a path is told the new one."""

from typing import Any

from haystack import component

_MODULES = {
    "bm25_retriever": ("retrievers", "BM25Retriever"),
    "faiss_retriever": ("retrievers", "FAISSRetriever"),
    "local_chat_generator": ("chat_generator", "LocalChatGenerator"),
    "passage_index_writer": ("index_writer", "PassageIndexWriter"),
    "trlm_answer_ranker": ("answer_ranker", "TRLMAnswerRanker"),
    "trlm_citation_attributor": ("citation_attributor", "TRLMCitationAttributor"),
    "trlm_query_generator": ("query_generator", "TRLMQueryGenerator"),
    "trlm_ranker": ("ranker", "TRLMRanker"),
    "trlm_safety_filter": ("safety_filter", "TRLMSafetyFilter"),
}


def refuse_former_paths() -> None:
    """Let Haystack refuse each former path with an error that names the new one."""
    for former, (module, name) in _MODULES.items():
        path = f"{__package__}.{module}.{name}"
        component.registry[f"{__package__}.{former}.{name}"] = _refusing(path)


def _refusing(path: str) -> type:
    class Former:
        @classmethod
        def from_dict(cls, data: dict[str, Any]) -> None:
            raise ValueError(f"{data['type']} is now {path}: change this `type` in the YAML")

    return Former
