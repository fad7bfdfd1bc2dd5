"""POST /rerank/run: documents of the request, best first."""

from hayhooks import BasePipelineWrapper

from trlm_retrieval.serving.engine import loading_for
from trlm_retrieval.serving.schemas import Documents, Query, RerankDocument, RerankResult, TopK


class PipelineWrapper(BasePipelineWrapper):
    """A ``TRLMRanker`` alone; /v1/rerank does the same for Cohere's and Jina's clients."""

    def setup(self) -> None:
        """Called by Hayhooks, once."""
        self._engine = loading_for.get()

    async def run_api_async(
        self, query: Query, documents: Documents, top_k: TopK = 10
    ) -> RerankResult:
        """
        Order documents by how likely the query is, given each of them.

        :param query: The question.
        :param documents: Texts, or objects with `text`.
        :param top_k: Documents to return at most.
        """
        texts = [
            RerankDocument.model_validate(one) if isinstance(one, dict) else one
            for one in documents
        ]
        return await self._engine.rerank(query, texts, top_k)
