"""For Hayhooks: POST /retrieval/run gives the passages of an index for a question, best first.

TRLM_INDEX names the index's folder, TRLM_MODEL the model that ranks; by default `trlm-index`, and
the model whose states stand beside it, or else the pipeline's own.
"""

from typing import Annotated, Any

from fastapi import HTTPException
from hayhooks import BasePipelineWrapper
from pydantic import Field

from trlm_retrieval.pipelines.settings import (
    passage_fields,
    pipeline_from_environment,
    run_for_client,
    search_inputs,
)

_CANDIDATES = 20


class PipelineWrapper(BasePipelineWrapper):
    """The pipeline `retrieval.yaml` over one index."""

    def setup(self) -> None:
        """Load the index and the model, once."""
        self.pipeline = pipeline_from_environment("retrieval", _CANDIDATES)

    def run_api(
        self,
        query: str,
        top_k: Annotated[int, Field(ge=1, le=_CANDIDATES)] = 10,
        filters: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """
        Passages of the index for a question, best first.

        :param query: The question.
        :param top_k: Passages to return at most.
        :param filters: Only passages that match, in Haystack's filter syntax.
        """
        inputs = search_inputs(query, _CANDIDATES, False, filters)
        try:
            found = run_for_client(self.pipeline, inputs)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return [passage_fields(document) for document in found["ranker"]["documents"][:top_k]]
