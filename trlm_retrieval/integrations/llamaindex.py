"""LlamaIndex: a node postprocessor, for a query engine or behind a retriever."""

from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from trlm_retrieval.integrations.reranker import Reranker


class TRLMPostprocessor(BaseNodePostprocessor):
    """
    Keeps the nodes that make the query likeliest, the best first.

    Where all nodes come with a score of the retriever's, it is mixed in as
    :class:`~trlm_retrieval.integrations.reranker.Reranker` says.

    ```python
    from trlm_retrieval import Reranker
    from trlm_retrieval.integrations.llamaindex import TRLMPostprocessor

    postprocessor = TRLMPostprocessor(Reranker("trlm-small"), top_n=5)
    engine = index.as_query_engine(node_postprocessors=[postprocessor])
    ```

    :param reranker: what ranks.
    :param top_n: how many nodes are kept.
    """

    top_n: int = Field(default=10, gt=0)
    _reranker: Reranker = PrivateAttr()

    def __init__(self, reranker: Reranker, *, top_n: int = 10) -> None:
        fields: dict[str, Any] = {"top_n": top_n}  # the base's signature does not name it
        super().__init__(**fields)
        self._reranker = reranker

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises."""
        return "TRLMPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a query is needed: give query_bundle or query_str")
        given = [
            {"text": node.node.get_content(metadata_mode=MetadataMode.NONE), "score": node.score}
            for node in nodes
        ]
        return [
            NodeWithScore(node=nodes[found.index].node, score=found.score)
            for found in self._reranker.rank(query_bundle.query_str, given, top_k=self.top_n)
        ]
