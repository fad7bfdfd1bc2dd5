"""What the server does with its models: retrieve, rerank, explain, and answer with citations."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp
from re import Pattern
from typing import Any, TypeVar
from uuid import uuid4

from fastapi import HTTPException
from haystack import Document, GeneratedAnswer, Pipeline

from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.components.ranker import META_KEY
from trlm_retrieval.errors import TRLMError, causes
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.pages.citations import citation_page
from trlm_retrieval.pages.display import display_title, marked, printable, query_pattern, snippet
from trlm_retrieval.pages.explanation import explanation_page
from trlm_retrieval.passage_index import shared_index
from trlm_retrieval.passage_index.filters import Filters
from trlm_retrieval.pipelines.search import first_stage, search
from trlm_retrieval.pipelines.settings import answer_inputs, search_settings, share_model
from trlm_retrieval.serving.examples import example_questions
from trlm_retrieval.serving.gate import Busy, Gate, TooSlow
from trlm_retrieval.serving.schemas import (
    About,
    CitedAnswer,
    FirstStageResult,
    FoundPassage,
    Passage,
    RerankDocument,
    RerankHit,
    RerankMeta,
    RerankResult,
    RetrievalResult,
    Sentence,
)
from trlm_retrieval.serving.settings import ServingSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_AFTER = "1"  # seconds


class Engine:
    """The pipelines with one model between them, which keeps the states of passages.

    :param on_change: see :class:`~trlm_retrieval.serving.gate.Gate`.
    :raises PassageIndexError: if there is no index, or it is damaged.
    :raises ModelError: if a model is not there.
    :raises StatesError: if the index's states are damaged or do not fit.
    """

    def __init__(
        self, settings: ServingSettings, on_change: Callable[[int], Any] = lambda change: None
    ) -> None:
        index = shared_index(str(settings.index))  # an error comes before a model is loaded
        self.settings = settings
        plans = {
            name: search_settings(name, settings.index, settings.model, settings.candidates)
            for name in ("retrieval", "cited_rag")
        }
        ranker = plans["retrieval"]["components"]["ranker"]["init_parameters"]
        self.model: str = ranker["model"]
        lm = TimeReversedLM.from_pretrained(self.model, states_megabytes=settings.states_megabytes)
        self.first_stage = first_stage(plans["retrieval"])
        self.retrieval, self.cited_rag = (Pipeline.from_dict(plan) for plan in plans.values())
        self.about = About(
            index=settings.index.resolve().name,
            passages=len(index),
            model=self.model,
            candidates=settings.candidates,
            examples=example_questions(index.documents()),
        )
        self.rerank_ranker = TRLMRanker(
            self.model, first_stage_weight=0.0, scale_score=lm.calibration is not None
        )
        held: list[Any] = [self.retrieval.get_component("ranker"), self.rerank_ranker]
        held += [self.cited_rag.get_component(name) for name in ("ranker", "citations")]
        share_model(lm, self.model, held)
        self.first_stage.warm_up()
        self.retrieval.warm_up()  # cited_rag's generator is loaded by the first who asks it
        self.gate = Gate(
            settings.workers, queue=settings.queue, timeout=settings.timeout, on_change=on_change
        )

    async def find(self, query: str, top_k: int, filters: Filters | None) -> FirstStageResult:
        """What the first stage finds for a question, in its order; no language model is asked."""
        documents = await self._run(
            lambda: search(self.first_stage, query, self.settings.candidates, filters=filters)
        )
        return FirstStageResult(
            candidates=len(documents),
            passages=_passages(FoundPassage, query, documents[:top_k]),
        )

    async def retrieve(
        self, query: str, top_k: int, explain: bool, filters: Filters | None
    ) -> RetrievalResult:
        """Passages of the index for a question, best first."""
        documents = await self._run(lambda: self._search(query, explain, filters))
        return RetrievalResult(
            model=self.model,
            candidates=len(documents),
            passages=_passages(Passage, query, documents[:top_k]),
        )

    async def explain(self, query: str, top_k: int, filters: Filters | None) -> str:
        """Why the passages of a question rank as they do, a whole HTML page."""
        documents = await self._run(lambda: self._search(query, True, filters))
        if not documents:
            raise HTTPException(404, "no passage found")
        facts = {"model": self.model, "index": self.about.index}
        return explanation_page(query, documents[:top_k], facts)

    async def answer(self, query: str, top_k: int, filters: Filters | None) -> CitedAnswer:
        """An answer written from the best passages, each sentence with its citations."""
        answer = await self._answer(query, top_k, filters, markers=True)
        measured = answer.meta[META_KEY]
        return CitedAnswer(
            answer=answer.data,
            sentences=[Sentence.model_validate(sentence) for sentence in measured["sentences"]],
            unsupported=measured["unsupported"],
            passages=_passages(Passage, query, answer.documents),
        )

    async def answer_page(self, query: str, top_k: int, filters: Filters | None) -> str:
        """The same as a whole HTML page."""
        answer = await self._answer(query, top_k, filters, markers=False)
        return citation_page(answer, {"model": self.model, "index": self.about.index})

    async def rerank(
        self, query: str, documents: Sequence[str | RerankDocument | None], top_n: int | None
    ) -> RerankResult:
        """The documents, best first, by their positions; blank ones come last, with a warning."""
        self._check_number(len(documents))
        texts = [one.content if isinstance(one, RerankDocument) else one or "" for one in documents]
        hits, scored = await self._run(lambda: self._hits(query, texts))
        blank = sum(not text.strip() for text in texts)
        cut = sum(hit.cut_tokens is not None for hit in hits)
        warnings = []
        if blank:
            warnings.append(f"{blank} of {len(texts)} documents are blank and come last")
        if cut:
            warnings.append(f"{cut} of {len(texts)} documents are longer than the model reads")
        for note in warnings:
            logger.warning("rerank: %s", note)
        return RerankResult(
            id=uuid4().hex,
            model=self.model,
            results=hits[:top_n],
            usage={"prompt_tokens": scored, "total_tokens": scored},
            meta=RerankMeta(warnings=warnings) if warnings else None,
        )

    async def score(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[float], int]:
        """The score of each query with its text, and the query tokens that were scored for all."""
        self._check_number(len(pairs))
        places: dict[str, list[int]] = {}
        for place, (query, _) in enumerate(pairs):
            places.setdefault(query, []).append(place)

        def work() -> tuple[list[float], int]:
            scores, tokens = [0.0] * len(pairs), 0
            for query, asked in places.items():
                hits, scored = self._hits(query, [pairs[place][1] for place in asked])
                tokens += scored
                for hit in hits:
                    scores[asked[hit.index]] = hit.relevance_score
            return scores, tokens

        return await self._run(work)

    def close(self) -> None:
        """Take no more work."""
        self.gate.close()

    def _search(self, query: str, explain: bool, filters: Filters | None) -> list[Document]:
        return search(self.retrieval, query, self.settings.candidates, explain, filters)

    def _hits(self, query: str, texts: Sequence[str]) -> tuple[list[RerankHit], int]:
        """The texts, best first and blank ones last, and the query tokens scored for all."""
        candidates = [
            Document(id=str(number), content=text)
            for number, text in enumerate(texts)
            if text.strip()
        ]
        ranked = self.rerank_ranker.run(query, candidates, max(1, len(candidates)))["documents"]
        hits, scored = [], 0
        for document in ranked:
            measured = document.meta[META_KEY]
            scored += measured["tokens_scored"]
            hits.append(
                RerankHit(
                    index=int(document.id),
                    relevance_score=self._relevance(document),
                    log_likelihood=measured["log_likelihood"],
                    cut_tokens=measured["cut_tokens"] or None,
                )
            )
        blank = (number for number, text in enumerate(texts) if not text.strip())
        hits += [RerankHit(index=number, relevance_score=0.0) for number in blank]
        return hits, scored

    def _relevance(self, document: Document) -> float:
        """P(relevant) where the model is calibrated, else what the document makes of a token."""
        if self.rerank_ranker.scale_score:
            return document.score or 0.0
        mean = document.meta[META_KEY]["mean_log_likelihood"]
        return 0.0 if mean is None else exp(mean)

    def _check_number(self, texts: int) -> None:
        most = self.settings.max_documents
        if texts > most:
            raise HTTPException(
                413, f"the request holds {texts} texts, the server takes {most}; send less"
            )

    async def _answer(
        self, query: str, top_k: int, filters: Filters | None, markers: bool
    ) -> GeneratedAnswer:
        inputs = answer_inputs(query, top_k, filters)
        found = await self._run(lambda: self.cited_rag.run(inputs, include_outputs_from={"answer"}))
        if "citations" not in found:  # nothing is generated then
            raise HTTPException(404, "no passage found")
        [written], [cited] = (found[name]["answers"] for name in ("answer", "citations"))
        return cited if markers else replace(cited, data=written.data)

    async def _run(self, work: Callable[[], T]) -> T:
        """Work through the gate; what goes wrong becomes an HTTP status."""
        try:
            return await self.gate.run(work)
        except Busy:
            raise HTTPException(
                503, "the server is busy; try again later", {"Retry-After": RETRY_AFTER}
            ) from None
        except TooSlow:
            raise HTTPException(
                504, f"not done within {self.settings.timeout:g} seconds; ask for less"
            ) from None
        except Exception as error:
            raise _as_http(error) from error


def _as_http(error: Exception) -> HTTPException:
    """The client sees errors of bad input, and our own errors: their texts are meant for users."""
    for cause in causes(error):
        if isinstance(cause, TRLMError):
            logger.error("a request failed: %s", cause)
            return HTTPException(500, str(cause))
        if isinstance(cause, ValueError):
            return HTTPException(422, str(cause))
    logger.error("a request failed", exc_info=error)
    return HTTPException(500, "internal error; the server's log tells more")


F = TypeVar("F", bound=FoundPassage)


def _passages(kind: type[F], query: str, documents: Sequence[Document]) -> list[F]:
    pattern = query_pattern(query)
    return [
        _passage(kind, pattern, rank, document) for rank, document in enumerate(documents, start=1)
    ]


def _passage(kind: type[F], pattern: Pattern[str] | None, rank: int, document: Document) -> F:
    meta = dict(document.meta)
    measured = meta.pop(META_KEY)
    content = document.content or ""
    return kind(
        rank=rank,
        id=document.id,
        title=display_title(document),
        content=content,
        snippet=marked(snippet(printable(content), pattern), pattern),
        meta=meta,
        score=document.score or 0.0,
        **{name: measured[name] for name in kind.model_fields if name in measured},
    )
