"""LangChain: a document compressor, for a ``ContextualCompressionRetriever``."""

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from trlm_retrieval.integrations.reranker import Reranker


class TRLMCompressor(BaseDocumentCompressor):
    """
    Keeps the documents that make the query likeliest, the best first.

    Each is a copy whose metadata says `relevance_score`, the reranker's score, and `cut_tokens`,
    the tokens at its end that were not read.

    ```python
    from langchain_classic.retrievers import ContextualCompressionRetriever
    from trlm_retrieval import Reranker
    from trlm_retrieval.integrations.langchain import TRLMCompressor

    compressor = TRLMCompressor(reranker=Reranker("trlm-small"), top_n=5)
    retriever = ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=my_retriever
    )
    ```

    :ivar reranker: what ranks.
    :ivar top_n: how many documents are kept.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reranker: Reranker = Field(exclude=True)
    top_n: int = Field(default=10, gt=0)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """The best documents for the query; `acompress_documents` does so in a thread.

        :raises ValueError: if the query is empty.
        """
        given = [
            {"text": document.page_content, "title": document.metadata.get("title")}
            for document in documents
        ]
        return [
            documents[found.index].model_copy(
                update={
                    "metadata": {
                        **documents[found.index].metadata,
                        "relevance_score": found.score,
                        "cut_tokens": found.cut_tokens,
                    }
                }
            )
            for found in self.reranker.rank(query, given, top_k=self.top_n)
        ]
