"""PyTerrier: a transformer that reranks what a retriever found."""

import pandas as pd
import pyterrier as pt

from trlm_retrieval.integrations.reranker import Reranker


class TRLMTransformer(pt.Transformer):
    """
    Reranks the documents of each query.

    Needs the documents' text, as `pt.text.get_text` adds it. Where all documents of a query come
    with a score, it is mixed in as :class:`~trlm_retrieval.integrations.reranker.Reranker` says.

    ```python
    from trlm_retrieval import Reranker
    from trlm_retrieval.integrations.pyterrier import TRLMTransformer

    pipeline = bm25 % 100 >> pt.text.get_text(index) >> TRLMTransformer(Reranker("trlm-small"))
    ```

    :param reranker: what ranks.
    :param text_field: the column that holds the documents' text.
    """

    def __init__(self, reranker: Reranker, *, text_field: str = "text") -> None:
        super().__init__()
        self._reranker = reranker
        self._text_field = text_field

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The same rows with new `score` and `rank`.

        :param inp: with the columns `qid`, `query`, `docno` and the text field.
        """
        pt.validate.columns(inp, includes=["qid", "query", "docno", self._text_field])
        scores = pd.Series(0.0, index=inp.index, dtype=float)
        for _, rows in inp.groupby("qid", sort=False):
            first_stage = rows["score"] if "score" in rows else [None] * len(rows)
            given = [
                {"text": text, "score": score}
                for text, score in zip(rows[self._text_field], first_stage, strict=True)
            ]
            for found in self._reranker.rank(rows["query"].iloc[0], given):
                scores[rows.index[found.index]] = found.score
        return pt.model.add_ranks(inp.assign(score=scores))
