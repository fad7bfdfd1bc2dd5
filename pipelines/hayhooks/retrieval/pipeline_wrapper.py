"""For Hayhooks: POST /retrieval/run gives the passages of an index for a question, best first.

TRLM_INDEX names the index's folder, TRLM_MODEL the model that ranks; by default `trlm-index`, and
the model whose states stand beside it, or else the pipeline's own.
"""

import os
from pathlib import Path
from typing import Any

from hayhooks import BasePipelineWrapper
from haystack import Pipeline

from trlm_retrieval.pipelines.settings import search_inputs, search_settings

_CANDIDATES = 20


class PipelineWrapper(BasePipelineWrapper):
    """The pipeline `retrieval.yaml` over one index."""

    def setup(self) -> None:
        """Load the index and the model, once."""
        index = Path(os.environ.get("TRLM_INDEX", "trlm-index"))
        settings = search_settings("retrieval", index, os.environ.get("TRLM_MODEL"), _CANDIDATES)
        self.pipeline = Pipeline.from_dict(settings)
        self.pipeline.warm_up()

    def run_api(self, query: str, top_k: int = 10) -> list[dict[str, Any]]:
        """
        Passages of the index for a question, best first.

        :param query: The question.
        :param top_k: Passages to return at most.
        """
        found = self.pipeline.run(search_inputs(query, _CANDIDATES, explain=False))
        return [
            {
                "id": document.id,
                "content": document.content,
                "meta": document.meta,
                "score": document.score,
            }
            for document in found["ranker"]["documents"][:top_k]
        ]
