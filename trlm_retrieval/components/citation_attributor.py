"""TRLMCitationAttributor: which document, and which sentence of it, supports each sentence."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, GeneratedAnswer, component
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice, Secret

from trlm_retrieval.citation.attribution import Attribution, AttributionSettings, Source, attribute
from trlm_retrieval.citation.entailment import EntailmentModel
from trlm_retrieval.citation.search import DEFAULT_SEARCH, SearchName
from trlm_retrieval.citation.support import UNSUPPORTED_BELOW, ScoredHalf
from trlm_retrieval.components.base import HUB_TOKEN, ModelComponent, in_thread, reply_text
from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS, META_KEY
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.loading import choose_device
from trlm_retrieval.models.source import DEFAULT_MODEL
from trlm_retrieval.passage_index.documents import DEFAULT_META_FIELDS, passage_text

logger = logging.getLogger(__name__)


@component
class TRLMCitationAttributor(ModelComponent[TimeReversedLM]):
    """
    Finds, for each sentence of an answer, the documents that support it and where they do.

    Needs nothing but the answer and the documents: no generator, no judge model. A sentence and a
    document are scored by how much likelier the document makes the sentence than it is by itself
    (nats per token), plus the share of the sentence's words that the document holds. Below the
    threshold a sentence counts as unsupported.

    What was found stands in `answer.meta["trlm"]`: `unsupported` (how many sentences are) and
    `sentences`, in order, each with

    - `text`, `start`, `end`: the sentence and its characters in the answer as it was given,
    - `supported`, and `score` and `gain` of the best document (None where there is none),
    - `conflicts`: numbers, dates and negations that differ from the quotes, and contradictions
      that the NLI model reads, in words,
    - `cut_characters`: characters at the end of an overlong sentence that were not read,
    - `citations`, best first: `document_id`, `number` (the document's position, from 1), `start`
      and `end` (characters of `document.content`) and `quote` (the text there), `score` and `gain`
      of the document, `quote_score` of the search, and with an NLI model `nli`: its `label`
      (`entailment`, `neutral` or `contradiction`) for the sentence given the quote, the label's
      `probability`, and `cut_characters` of both that it did not read,
    - `markers`: for each marker such as `[2]` found in the answer its `number`, `document_id`
      (None if it points nowhere), `score`, and whether the document `supported` the sentence.

    The answer's documents are copies with `source_index` and `referenced` in their meta, as
    `AnswerBuilder` writes them.

    Usage:

    ```python
    from haystack import Document
    from trlm_retrieval.components import TRLMCitationAttributor

    attributor = TRLMCitationAttributor(write_markers=True)
    result = attributor.run(
        replies=["Paris is the capital of France. Bananas are blue."],
        documents=[
            Document(content="Berlin is in Germany. It is large."),
            Document(content="France is a country in Europe. Its capital is Paris."),
        ],
    )
    print(result["answers"][0].data)
    print(result["answers"][0].meta["trlm"]["sentences"][0]["citations"][0]["quote"])
    ```
    """

    def __init__(
        self,
        model: str | TimeReversedLM = DEFAULT_MODEL,
        *,
        scored: ScoredHalf = "claim",
        search: SearchName = DEFAULT_SEARCH,
        score_threshold: float = UNSUPPORTED_BELOW,
        top_k: int = 1,
        candidates: int = 20,
        write_markers: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        max_passage_tokens: int = DEFAULT_MAX_PASSAGE_TOKENS,
        states_megabytes: int = 2048,
        nli: str | None = None,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
        token: Secret | None = HUB_TOKEN,
        revision: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """
        Creates the attributor; the model is loaded by `warm_up` or on the first run.

        :param model: A name from `trlm models list`, a folder, a `.gguf` file, a hub id, or a
            loaded `TimeReversedLM` (which cannot be serialised).
        :param scored: `claim` scores the sentence given the document, `source` the document given
            the sentence.
        :param search: How the supporting sentence of a cited document is found: `linear`,
            `binary` (fewest model calls) or `exclusion`.
        :param score_threshold: A sentence whose best document scores below it is unsupported. The
            default was fitted for the default model (see docs/citations.md); another model or
            another `scored` needs one of its own.
        :param top_k: The most documents that a sentence cites.
        :param candidates: The most passages scored for a sentence, those that share most words
            with it; documents that a marker names come on top.
        :param write_markers: Write the citations into the answer as `[1]`, in place of the
            markers that it holds.
        :param meta_fields_to_embed: Meta fields scored ahead of the content; by default the title.
        :param max_passage_tokens: Longer documents are scored in windows of this many tokens.
        :param states_megabytes: Memory for passage states, which all sentences of an answer share;
            0 keeps none.
        :param nli: Folder or hub id of an NLI model, a sequence classification model with the
            labels entailment and contradiction: it reads each sentence with its quotes.
        :param device: Where the models run; by default CUDA, MPS or CPU, whichever is there.
        :param dtype: `float32`, `bfloat16` or `float16`; by default what suits the device.
        :param token: Key of a model hub, for models that are not open to everybody.
        :param revision: Branch, tag or commit of a hub's model; by default `main`.
        :param model_kwargs: Further arguments of transformers' `from_pretrained`, such as
            `device_map` or `quantization_config`.
        :raises ValueError: If a name is unknown or a number is out of its range.
        """
        AttributionSettings(scored, search, score_threshold, top_k, candidates, max_passage_tokens)
        self._hold(
            model, device, dtype, token, revision, model_kwargs, states_megabytes=states_megabytes
        )
        self.scored: ScoredHalf = scored
        self.search: SearchName = search
        self.score_threshold = score_threshold
        self.top_k = top_k
        self.candidates = candidates
        self.write_markers = write_markers
        self.meta_fields_to_embed = (
            list(DEFAULT_META_FIELDS) if meta_fields_to_embed is None else meta_fields_to_embed
        )
        self.max_passage_tokens = max_passage_tokens
        self.nli = nli
        self._nli: EntailmentModel | None = None

    def warm_up(self) -> None:
        """
        Loads the models; does nothing if they are loaded.

        :raises ModelError: If a model is not there or does not fit what is asked of it.
        """
        with self._loading:
            if self.nli is not None and self._nli is None:
                device = choose_device(self.device.to_torch() if self.device else None)
                token = self.token.resolve_value() if self.token else None
                self._nli = EntailmentModel.from_pretrained(self.nli, device, token=token)
        ModelComponent.warm_up(self)

    @component.output_types(answers=list[GeneratedAnswer])
    def run(
        self,
        replies: list[ChatMessage] | list[str] | None = None,
        answers: list[GeneratedAnswer] | None = None,
        documents: list[Document] | None = None,
        query: str = "",
        score_threshold: float | None = None,
        write_markers: bool | None = None,
    ) -> dict[str, list[GeneratedAnswer]]:
        """
        Attributes the sentences of replies or of answers to documents.

        :param replies: What a generator wrote. Give these or `answers`.
        :param answers: Answers of an `AnswerBuilder`. Without `documents` each is attributed to
            its own, numbered by their `source_index` where they have one.
        :param documents: What the answers may rest on, in the order that markers refer to.
            Documents without text are kept, and never cited.
        :param query: The question, which answers made of replies carry on.
        :param score_threshold: Overrides the component's own.
        :param write_markers: Overrides the component's own.
        :returns: `answers`: copies in input order, with `meta["trlm"]` set. Their text is the one
            given, but for the markers where these are written.
        :raises ValueError: If both or neither of `replies` and `answers` are given.
        """
        if (replies is None) == (answers is None):
            raise ValueError("give either replies or answers")
        threshold = self.score_threshold if score_threshold is None else score_threshold
        write_markers = self.write_markers if write_markers is None else write_markers
        if answers is None:
            answers = [_answer(reply, query) for reply in replies or []]
        numbered = [
            _by_source_index(answer.documents)
            if documents is None
            else dict(enumerate(documents, start=1))
            for answer in answers
        ]
        attributions = [
            Attribution(
                answer.data or "", {n: self._source(document) for n, document in by_number.items()}
            )
            for answer, by_number in zip(answers, numbered, strict=True)
        ]
        empty = {
            source.id
            for attribution in attributions
            for source in attribution.sources.values()
            if not source.text.strip()
        }
        if empty:
            logger.warning("documents without text, which cannot be cited: %d", len(empty))
        if any(attribution.marked and attribution.sources for attribution in attributions):
            settings = AttributionSettings(
                self.scored,
                self.search,
                threshold,
                self.top_k,
                self.candidates,
                self.max_passage_tokens,
            )
            attribute(attributions, self._loaded, settings, self._nli)
        return {
            "answers": [
                _attributed(answer, by_number, attribution, threshold, write_markers)
                for answer, by_number, attribution in zip(
                    answers, numbered, attributions, strict=True
                )
            ]
        }

    run_async = in_thread(run)

    def _source(self, document: Document) -> Source:
        heading = passage_text(replace(document, content=""), self.meta_fields_to_embed)
        return Source(document.id, document.content or "", heading)


def _attributed(
    answer: GeneratedAnswer,
    documents: dict[int, Document],
    attribution: Attribution,
    score_threshold: float,
    write_markers: bool,
) -> GeneratedAnswer:
    """The answer with what was found."""
    sentences = attribution.sentences(score_threshold)
    referenced = {c["number"] for sentence in sentences for c in sentence["citations"]}
    unsupported = sum(not sentence["supported"] for sentence in sentences)
    return replace(
        answer,
        data=attribution.with_citations(sentences) if write_markers else answer.data,
        documents=[
            replace(
                document,
                meta={
                    **document.meta,
                    "source_index": number,
                    "referenced": number in referenced,
                },
            )
            for number, document in documents.items()
        ],
        meta={**answer.meta, META_KEY: {"unsupported": unsupported, "sentences": sentences}},
    )


def _answer(reply: str | ChatMessage, query: str) -> GeneratedAnswer:
    meta = dict(reply.meta) if isinstance(reply, ChatMessage) else {}
    return GeneratedAnswer(reply_text(reply), query, [], meta)


def _by_source_index(documents: Sequence[Document]) -> dict[int, Document]:
    """Documents by the numbers that markers use: `source_index` if all have one, else 1, 2, ..."""
    indexed = {
        index: document
        for document in documents
        if isinstance(index := document.meta.get("source_index"), int)
    }
    return indexed if len(indexed) == len(documents) else dict(enumerate(documents, start=1))
