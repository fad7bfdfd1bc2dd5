"""For Hayhooks: POST /cited_rag/run gives an answer whose sentences cite passages of an index.

TRLM_INDEX names the index's folder, TRLM_MODEL the model that ranks; by default `trlm-index`, and
the model whose states stand beside it, or else the pipeline's own. The answer is written, and its
sentences are attributed, by the models that `cited_rag.yaml` names.
"""

from typing import Annotated, Any

from fastapi import HTTPException
from hayhooks import BasePipelineWrapper
from pydantic import Field

from trlm_retrieval.pipelines.settings import (
    answer_inputs,
    passage_fields,
    pipeline_from_environment,
    run_for_client,
)

_CANDIDATES = 20


class PipelineWrapper(BasePipelineWrapper):
    """The pipeline `cited_rag.yaml` over one index."""

    def setup(self) -> None:
        """Load the index and the models, once."""
        self.pipeline = pipeline_from_environment("cited_rag", _CANDIDATES)

    def run_api(
        self,
        query: str,
        top_k: Annotated[int, Field(ge=1, le=_CANDIDATES)] = 3,
        filters: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """
        An answer from the best passages of the index, each sentence with its citations.

        The answer has markers such as [1], which are the numbers of the passages; `unsupported`
        counts the sentences that no passage supports.

        :param query: The question.
        :param top_k: Passages that the answer is written from, at most.
        :param filters: Only passages that match, in Haystack's filter syntax.
        """
        try:
            found = run_for_client(self.pipeline, answer_inputs(query, top_k, filters))
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        if "citations" not in found:
            raise HTTPException(404, found["found"]["nothing"])
        [answer] = found["citations"]["answers"]
        measured = answer.meta["trlm"]
        return {
            "answer": answer.data,
            "sentences": measured["sentences"],
            "unsupported": measured["unsupported"],
            "passages": [passage_fields(document) for document in answer.documents],
        }
