"""Requests and responses, as OpenAPI shows them."""

import json
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticUseDefault

from trlm_retrieval.text.normalise import same_length


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _null_is_left_out(value: Any) -> Any:
    if value is None:
        raise PydanticUseDefault
    return value


def _without_surrogates(value: Any) -> Any:
    return same_length(value) if isinstance(value, str) else value


def _sendable(meta: dict[str, Any]) -> Any:
    return json.loads(same_length(json.dumps(meta, ensure_ascii=False)))


# Indexes and requests may hold unpaired surrogates, which no answer can carry. Citations count
# characters, so that none may be lost.
Text = Annotated[str, BeforeValidator(_without_surrogates)]
Meta = Annotated[dict[str, Any], BeforeValidator(_sendable)]

Query = Annotated[
    Text, Field(max_length=10_000, description="The question."), AfterValidator(_not_blank)
]
_Optional = BeforeValidator(_null_is_left_out)  # clients send null for what they leave out
TopK = Annotated[int, Field(ge=1, le=1000, description="Passages to return at most."), _Optional]
Flag = Annotated[bool, _Optional]
Filters = Annotated[
    dict[str, Any] | None,
    Field(description="Only passages that match, in Haystack's filter syntax."),
]


class TokenGain(BaseModel):
    """What a passage does for one token of the question."""

    token: Text
    log_prob: float = Field(description="log P(token | passage), in nats.")
    gain: float = Field(description="log P(token | passage) - log P(token), in nats.")


class FoundPassage(BaseModel):
    """A passage that the first stage found."""

    rank: int
    id: Text
    title: Text = Field(description="Its title, else the file it came from, else its id.")
    content: Text
    snippet: list[tuple[Text, bool]] = Field(
        description="Its part with the most words of the question, in pieces; true marks a word."
    )
    meta: Meta
    score: float = Field(description="What the order follows.")
    bm25_rank: int | None = Field(None, description="Its rank by shared words, if it has one.")
    dense_rank: int | None = Field(None, description="Its rank by meaning, if it has one.")


class FirstStageResult(BaseModel):
    """What the first stage finds for a question, in its order."""

    candidates: int = Field(description="Passages that were found.")
    passages: list[FoundPassage]


class Passage(FoundPassage):
    """A ranked passage."""

    first_stage_rank: int = Field(description="Its rank before the language model ordered them.")
    first_stage_score: float | None
    log_likelihood: float | None = Field(
        description="log P(question | passage), in nats; null for a passage without text."
    )
    mean_log_likelihood: float | None = Field(
        description="The same for each token of the question."
    )
    cut_tokens: int = Field(description="Tokens at the passage's end that were not read.")
    gain: float | None = Field(None, description="log P(q | d) - log P(q), in nats; on request.")
    token_gains: list[TokenGain] | None = Field(None, description="The gain of each token.")
    relevance: float | None = Field(
        None, description="P(relevant), 0 to 1, on request, where the model is calibrated."
    )


class RetrievalResult(BaseModel):
    """Passages for a question, best first."""

    model: str
    candidates: int = Field(description="Passages that were reranked.")
    passages: list[Passage]


class Citation(BaseModel):
    """A place that supports a sentence."""

    number: int = Field(description="The passage's number in the answer, from 1.")
    document_id: Text
    quote: Text
    start: int = Field(description="Where the quote begins in the passage's content.")
    end: int
    score: float


class Sentence(BaseModel):
    """A sentence of the answer and what supports it."""

    text: Text
    supported: bool
    score: float | None
    citations: list[Citation]


class CitedAnswer(BaseModel):
    """An answer whose sentences cite the passages it was written from."""

    answer: Text = Field(description="With markers such as [1].")
    sentences: list[Sentence]
    unsupported: int = Field(description="Sentences that no passage supports.")
    passages: list[Passage]


class RerankDocument(BaseModel):
    """A document as an object; fields not named here are ignored.

    One without text is scored by its title.
    """

    text: Text | None = None
    title: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _holds_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.keys() & {"text", "title"}:
            raise ValueError("a document needs text")
        return data

    @property
    def content(self) -> str:
        """What is scored; empty where there is nothing."""
        return next((part for part in (self.text, self.title) if part and part.strip()), "")


Documents = Annotated[
    list[Text | RerankDocument | None],
    Field(min_length=1, description="Texts, or objects with `text`; null is a blank one."),
]


class RerankRequest(BaseModel):
    """What Cohere's and Jina's clients send; fields not named here are ignored."""

    query: Query
    documents: Documents
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: Flag = False
    model: str | None = Field(None, description="Not used: the server has one model.")


class RerankHit(BaseModel):
    """A document of the request, by its position there."""

    index: int
    relevance_score: float = Field(
        description="P(relevant), 0 to 1, comparable across queries, where the model is "
        "calibrated. Else exp of the mean log-likelihood: the geometric mean of the probabilities "
        "that the document gives the query's tokens. 0 for a blank document."
    )
    log_likelihood: float | None = Field(
        default=None, description="log P(query | document), in nats; none for a blank document."
    )
    cut_tokens: int | None = Field(
        default=None, description="Tokens at the document's end that were not read, if any."
    )
    document: RerankDocument | None = None


class RerankMeta(BaseModel):
    """What a client should know about the answer, where Cohere's API puts it."""

    warnings: list[str]


class RerankResult(BaseModel):
    """Documents of the request, best first."""

    id: str
    model: str
    results: list[RerankHit]
    usage: dict[str, int] = Field(description="Query tokens scored, over all documents.")
    meta: RerankMeta | None = None


# The pipelines' answers have the envelope that Hayhooks also sends.
class RetrievalAnswer(BaseModel):
    """What ``/retrieval/run`` found."""

    result: RetrievalResult


class FirstStageAnswer(BaseModel):
    """What ``/first_stage/run`` found."""

    result: FirstStageResult


class CitedRagAnswer(BaseModel):
    """What ``/cited_rag/run`` wrote."""

    result: CitedAnswer


class RerankAnswer(BaseModel):
    """What ``/rerank/run`` ordered."""

    result: RerankResult


class _OwnRequest(BaseModel):
    """What all requests of our own routes share: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")

    query: Query


class FirstStageRequest(_OwnRequest):
    """What to search the index for, without the language model."""

    top_k: TopK = 10
    filters: Filters = None


class RetrievalRequest(_OwnRequest):
    """What to search the index for."""

    top_k: TopK = 10
    filters: Filters = None
    explain: Flag = Field(False, description="Also tell the gain of each token of the question.")


class CitedAnswerRequest(_OwnRequest):
    """What to answer, from so many passages."""

    top_k: TopK = 3
    filters: Filters = None


class ExplainRequest(_OwnRequest):
    """Whose heat map is wanted."""

    top_k: TopK = 5
    filters: Filters = None


class RerankPipelineRequest(_OwnRequest):
    """What to order; for the protocol of other servers see ``RerankRequest``."""

    documents: Documents
    top_k: TopK = 10


class About(BaseModel):
    """What is served."""

    index: Text = Field(description="The name of the index's folder.")
    passages: int = Field(description="Passages in the index.")
    model: str
    candidates: int = Field(description="Passages that are reranked for a question.")
    examples: list[Text] = Field(description="Things to search for, taken from the index.")


class Health(BaseModel):
    """Whether the server lives, or takes work."""

    status: str
