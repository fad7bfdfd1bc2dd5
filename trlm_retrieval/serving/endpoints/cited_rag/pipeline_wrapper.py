"""POST /cited_rag/run: an answer whose sentences cite their passages."""

from hayhooks import BasePipelineWrapper

from trlm_retrieval.serving.engine import loading_for
from trlm_retrieval.serving.schemas import CitedAnswer, Query, TopK


class PipelineWrapper(BasePipelineWrapper):
    """The pipeline ``cited_rag.yaml``."""

    def setup(self) -> None:
        """Called by Hayhooks, once."""
        self._engine = loading_for.get()
        self.pipeline = self._engine.cited_rag

    async def run_api_async(self, query: Query, top_k: TopK = 3) -> CitedAnswer:
        """
        An answer written from the best passages of the index, each sentence with its citations.

        :param query: The question.
        :param top_k: Passages that the answer is written from.
        """
        return await self._engine.answer(query, top_k)
