"""Haystack retrievers over a passage index: by words (BM25) and by meaning (FAISS)."""

from typing import Any

from haystack import Document, component

from trlm_retrieval.components.base import SerialisableComponent, in_thread
from trlm_retrieval.passage_index import shared_index


class _Retriever(SerialisableComponent):
    """What both retrievers are made with."""

    def __init__(
        self,
        index: str = "trlm-index",
        *,
        top_k: int = 100,
        filters: dict[str, Any] | None = None,
    ) -> None:
        """
        Create the retriever. What it needs is loaded by `warm_up` or the first `run`.

        :param index: the folder of the passage index.
        :param top_k: at most so many documents.
        :param filters: only documents that match, in Haystack's filter syntax; those given to
            `run` take their place.
        :raises ValueError: if `top_k` is not positive.
        """
        if top_k <= 0:
            raise ValueError(f"top_k must be greater than 0, but got {top_k}")
        self.index = index
        self.top_k = top_k
        self.filters = filters


@component
class BM25Retriever(_Retriever):
    """
    Retrieves the passages of a passage index that share words with the query, ranked by BM25.

    ### Usage example

    ```python
    from haystack import Document
    from trlm_retrieval.components.retrievers import BM25Retriever
    from trlm_retrieval.passage_index import PassageIndex

    documents = [
        Document(content="A generator yields values."),
        Document(content="Sets are unordered."),
    ]
    PassageIndex.build("trlm-index", documents, embedder=None)

    retriever = BM25Retriever(index="trlm-index", top_k=5)
    print(retriever.run(query="what does a generator yield")["documents"])
    ```

    An index that is rebuilt while the retriever is in use is used from the next query on.
    """

    def warm_up(self) -> None:
        """
        Open the index.

        :raises PassageIndexError: if there is no index, or a file is missing or damaged.
        """
        shared_index(self.index)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """
        Retrieve passages.

        :param query: the query.
        :param filters: take the place of those given to the component.
        :param top_k: takes the place of the number given to the component.
        :returns: `documents`, copies with the BM25 score as score, best first; documents with none
            of the query's words are left out.
        :raises ValueError: if the query is blank, `top_k` not positive, or the filters are
            malformed.
        :raises PassageIndexError: if there is no index, or a file is missing or damaged.
        """
        documents = shared_index(self.index).search_bm25(
            query,
            top_k=self.top_k if top_k is None else top_k,
            filters=self.filters if filters is None else filters,
        )
        return {"documents": documents}

    run_async = in_thread(run)


@component
class FAISSRetriever(_Retriever):
    """
    Retrieves the passages of a passage index whose embedding is nearest to that of the query.

    The query is embedded with the model that embedded the passages, unless the pipeline brings
    an embedding of its own.

    ### Usage example

    ```python
    from haystack import Document
    from trlm_retrieval.components.retrievers import FAISSRetriever
    from trlm_retrieval.passage_index import PassageIndex

    documents = [
        Document(content="A generator yields values."),
        Document(content="Sets are unordered."),
    ]
    PassageIndex.build("trlm-index", documents, embedder="minilm")

    retriever = FAISSRetriever(index="trlm-index", top_k=5)
    print(retriever.run(query="lazy sequences")["documents"])
    ```

    An index that is rebuilt while the retriever is in use is used from the next query on.
    """

    def warm_up(self) -> None:
        """
        Open the index and load its embedder.

        :raises PassageIndexError: if there is no index, it holds no embeddings, or a file is
            missing or damaged.
        """
        shared_index(self.index).load_embedder()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        query_embedding: list[float] | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """
        Retrieve passages.

        :param query: the query; not needed with `query_embedding`.
        :param query_embedding: the embedding of the query, shape (dimension of the index,).
        :param filters: take the place of those given to the component.
        :param top_k: takes the place of the number given to the component.
        :returns: `documents`, copies with the cosine, from -1 to 1, as score, best first.
        :raises ValueError: if the query is blank, `top_k` not positive, the embedding does not
            fit the index, or the filters are malformed.
        :raises PassageIndexError: if there is no index, it holds no embeddings, or a file is
            missing or damaged.
        """
        documents = shared_index(self.index).search_dense(
            query,
            top_k=self.top_k if top_k is None else top_k,
            filters=self.filters if filters is None else filters,
            query_embedding=query_embedding,
        )
        return {"documents": documents}

    run_async = in_thread(run)
