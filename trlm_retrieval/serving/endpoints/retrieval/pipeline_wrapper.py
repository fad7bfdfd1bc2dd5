"""POST /retrieval/run: passages of the index for a question."""

from hayhooks import BasePipelineWrapper

from trlm_retrieval.serving.engine import loading_for
from trlm_retrieval.serving.schemas import Flag, Query, RetrievalResult, TopK


class PipelineWrapper(BasePipelineWrapper):
    """The pipeline ``retrieval.yaml``."""

    def setup(self) -> None:
        """Called by Hayhooks, once."""
        self._engine = loading_for.get()
        self.pipeline = self._engine.retrieval

    async def run_api_async(
        self, query: Query, top_k: TopK = 10, explain: Flag = False
    ) -> RetrievalResult:
        """
        Passages of the index for a question, best first.

        :param query: The question.
        :param top_k: Passages to return at most.
        :param explain: Also return what each passage does for each token of the question.
        """
        return await self._engine.retrieve(query, top_k, explain)
