"""Routes of other servers, so that their clients work here. As there, unknown fields are ignored.

Rerank as Cohere and Jina have it, rerank of Hugging Face's text-embeddings-inference (TEI), score
of vLLM, and OpenAI's list of models. What they send back when they refuse is in ``refusals``.
"""

import math
import sys
import time
from typing import Annotated, Literal
from uuid import uuid4

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, model_validator

from trlm_retrieval.serving.engine import Engine
from trlm_retrieval.serving.schemas import (
    Flag,
    Query,
    RerankDocument,
    RerankRequest,
    RerankResult,
    Text,
)


class TEIRerankRequest(BaseModel):
    """What clients of text-embeddings-inference send."""

    query: Query
    texts: Annotated[list[Text], Field(min_length=1)]
    raw_scores: Flag = Field(False, description="Give the logarithm of the score.")
    return_text: Flag = False
    truncate: Flag = Field(
        False, description="Cut texts that are longer than the model reads; else they are refused."
    )


class TEIRank(BaseModel):
    """A text of the request, by its position there."""

    index: int
    score: float = Field(description="From 0 to 1, or its logarithm.")
    text: Text | None = None


class ScoreRequest(BaseModel):
    """What clients of vLLM send: queries and texts, one for one, or one query for all texts."""

    text_1: Query | Annotated[list[Query], Field(min_length=1)]
    text_2: Text | Annotated[list[Text], Field(min_length=1)]
    model: str | None = Field(None, description="Not used: the server has one model.")

    @model_validator(mode="after")
    def _fit(self) -> "ScoreRequest":
        if len(self.queries) not in (1, len(self.texts)):
            raise ValueError(
                f"text_1 holds {len(self.queries)} queries and text_2 {len(self.texts)} texts; "
                "give one query, or one for each text"
            )
        return self

    @property
    def queries(self) -> list[str]:
        """One query, or one for each text."""
        return [self.text_1] if isinstance(self.text_1, str) else self.text_1

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return [self.text_2] if isinstance(self.text_2, str) else self.text_2

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The query of each text, and the text."""
        queries = self.queries * len(self.texts) if len(self.queries) == 1 else self.queries
        return list(zip(queries, self.texts, strict=True))


class Score(BaseModel):
    """The score of a pair, by its position in the request."""

    index: int
    object: Literal["score"] = "score"
    score: float = Field(description="From 0 to 1.")


class ScoreResult(BaseModel):
    """The score of each pair, in the order of the request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: dict[str, int] = Field(description="Query tokens scored, over all pairs.")


class Model(BaseModel):
    """The model that ranks."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the server loaded it, in seconds since 1970.")
    owned_by: str = "trlm-retrieval"


class Models(BaseModel):
    """All models of the server: one."""

    object: Literal["list"] = "list"
    data: list[Model]


def router(engine: Engine) -> APIRouter:
    """The routes over one engine."""
    refused = {"description": "What is wrong, told as the route's own server tells it."}
    routes = APIRouter(tags=["other servers"], responses={422: refused})
    loaded = int(time.time())

    @routes.post("/v1/rerank", response_model_exclude_none=True)
    @routes.post("/v2/rerank", response_model_exclude_none=True)
    async def rerank(request: RerankRequest) -> RerankResult:
        """Order documents by a query, in the protocol of Cohere's and Jina's clients."""
        found = await engine.rerank(request.query, request.documents, request.top_n)
        if request.return_documents:
            for hit in found.results:
                document = request.documents[hit.index]
                if not isinstance(document, RerankDocument):
                    document = RerankDocument(text=document or "")
                hit.document = document
        return found

    @routes.post("/rerank", response_model_exclude_none=True)
    async def rerank_as_tei(request: TEIRerankRequest) -> list[TEIRank]:
        """Order texts by a query, in the protocol of text-embeddings-inference."""
        hits = (await engine.rerank(request.query, request.texts, None)).results
        cut = [hit.index for hit in hits if hit.cut_tokens]
        if cut and not request.truncate:
            raise HTTPException(
                413,
                f"texts[{min(cut)}] is longer than the model reads; send "
                '"truncate": true to have its end cut off',
            )
        return [
            TEIRank(
                index=hit.index,
                score=_log(hit.relevance_score) if request.raw_scores else hit.relevance_score,
                text=request.texts[hit.index] if request.return_text else None,
            )
            for hit in hits
        ]

    @routes.post("/score")
    @routes.post("/v1/score")
    async def score(request: ScoreRequest) -> ScoreResult:
        """Score pairs of a query and a text, in vLLM's protocol."""
        scores, tokens = await engine.score(request.pairs)
        return ScoreResult(
            id=f"score-{uuid4().hex}",
            created=int(time.time()),
            model=engine.model,
            data=[Score(index=number, score=score) for number, score in enumerate(scores)],
            usage={"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
        )

    @routes.get("/v1/models")
    async def models() -> Models:
        """The model that ranks, in OpenAI's form."""
        return Models(data=[Model(id=engine.model, created=loaded)])

    return routes


def _log(score: float) -> float:
    """The logarithm; of 0, a blank text's, that of the least number, as JSON has no infinity."""
    return math.log(max(score, sys.float_info.min))
