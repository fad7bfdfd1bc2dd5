"""The shape of AnswerDotAI's `rerankers`, for programs that are written for it."""

from typing import Any

from rerankers.models.ranker import BaseRanker
from rerankers.results import RankedResults, Result
from rerankers.utils import prep_docs

from trlm_retrieval.integrations.reranker import Reranker


class TRLMRerankers(BaseRanker):
    """
    Ranks as any ranker of `rerankers` does.

    ```python
    from trlm_retrieval import Reranker
    from trlm_retrieval.integrations.rerankers import TRLMRerankers

    ranker = TRLMRerankers(Reranker("trlm-small"))
    results = ranker.rank("who wrote the first program?", ["Ada Lovelace wrote it in 1843."])
    ```

    :param reranker: what ranks.
    """

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker

    def score(self, query: str, doc: str) -> float:
        """The reranker's score of one document.

        :raises ValueError: if the query is empty.
        """
        return self._reranker.rank(query, [doc])[0].score

    def rank(
        self,
        query: str,
        docs: Any,
        doc_ids: list[str] | list[int] | None = None,
        metadata: list[dict[str, Any]] | None = None,
    ) -> RankedResults:
        """Documents in order, with the reranker's scores.

        :param docs: texts, or Documents of `rerankers`.
        :raises ValueError: if the query is empty.
        """
        documents = prep_docs(docs, doc_ids, metadata) if docs else []
        found = self._reranker.rank(query, [document.text for document in documents])
        results = [
            Result(document=documents[passage.index], score=passage.score, rank=passage.rank)
            for passage in found
        ]
        return RankedResults(results=results, query=query, has_scores=True)
