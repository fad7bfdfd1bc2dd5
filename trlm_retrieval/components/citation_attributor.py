"""TRLMCitationAttributor: which document, and which sentence of it, supports each sentence."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any

from haystack import Document, GeneratedAnswer, component, default_from_dict, default_to_dict
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice

from trlm_retrieval.citation.markers import MarkedSentence, marked_sentences, with_markers
from trlm_retrieval.citation.search import (
    DEFAULT_SEARCH,
    SEARCHES,
    Found,
    SearchName,
    search,
)
from trlm_retrieval.citation.support import (
    UNSUPPORTED_BELOW,
    GainDirection,
    Support,
    SupportScorer,
    shared_words,
    support_template,
    word_sets,
)
from trlm_retrieval.citation.windows import Window, windows
from trlm_retrieval.components.base import load_lm, reply_text, serialisable, with_device
from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS, DEFAULT_MODEL, META_KEY
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.passage_index.documents import DEFAULT_META_FIELDS, passage_text
from trlm_retrieval.text.tokens import count_tokens, leading_tokens

logger = logging.getLogger(__name__)

_MAX_CLAIM_TOKENS = 256


@component
class TRLMCitationAttributor:
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
    - `cut_characters`: characters at the end of an overlong sentence that were not read,
    - `citations`, best first: `document_id`, `number` (the document's position, from 1), `start`
      and `end` (characters of `document.content`) and `quote` (the text there), `score` and `gain`
      of the document, `quote_score` of the search,
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
        direction: GainDirection = "claim",
        search: SearchName = DEFAULT_SEARCH,
        threshold: float = UNSUPPORTED_BELOW,
        top_k: int = 1,
        candidates: int = 20,
        write_markers: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        max_passage_tokens: int = DEFAULT_MAX_PASSAGE_TOKENS,
        states_megabytes: int = 2048,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
    ) -> None:
        """
        Creates the attributor; the model is loaded by `warm_up` or on the first run.

        :param model: A name from `trlm models list`, a folder, a `.gguf` file, a hub id, or a
            loaded `TimeReversedLM` (which cannot be serialised).
        :param direction: `claim` scores the sentence given the document, `source` the document
            given the sentence.
        :param search: How the supporting sentence of a cited document is found: `linear`,
            `binary` (fewest model calls) or `exclusion`.
        :param threshold: A sentence whose best document scores below it is unsupported. The
            default was fitted for the default model and direction (see docs/citations.md); another
            model or direction needs one of its own.
        :param top_k: The most documents that a sentence cites.
        :param candidates: The most passages scored for a sentence, those that share most words
            with it; documents that a marker names come on top.
        :param write_markers: Write the citations into the answer as `[1]`, in place of the
            markers that it holds.
        :param meta_fields_to_embed: Meta fields scored ahead of the content; by default the title.
        :param max_passage_tokens: Longer documents are scored in windows of this many tokens.
        :param states_megabytes: Memory for passage states, which all sentences of an answer share;
            0 keeps none.
        :param device: Where the model runs; by default CUDA, MPS or CPU, whichever is there.
        :param dtype: `float32`, `bfloat16` or `float16`; by default what suits the device.
        :raises ValueError: If a name is unknown or a number is out of its range.
        """
        support_template(direction, False)
        if search not in SEARCHES:
            raise ValueError(f"search must be one of {', '.join(SEARCHES)}, not {search!r}")
        for name, value in (
            ("top_k", top_k),
            ("candidates", candidates),
            ("max_passage_tokens", max_passage_tokens),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if states_megabytes < 0:
            raise ValueError(f"states_megabytes must not be negative, not {states_megabytes}")
        self.model = model
        self.direction: GainDirection = direction
        self.search: SearchName = search
        self.threshold = threshold
        self.top_k = top_k
        self.candidates = candidates
        self.write_markers = write_markers
        self.meta_fields_to_embed = (
            list(DEFAULT_META_FIELDS) if meta_fields_to_embed is None else meta_fields_to_embed
        )
        self.max_passage_tokens = max_passage_tokens
        self.states_megabytes = states_megabytes
        self.device = device
        self.dtype = dtype
        self._lm: TimeReversedLM | None = None
        self._loading = Lock()

    def warm_up(self) -> None:
        """
        Loads the model; does nothing if it is loaded.

        :raises ModelError: If the model is not there.
        """
        with self._loading:
            if self._lm is not None:
                return
            self._lm = load_lm(self.model, self.device, self.dtype, self.states_megabytes)

    def to_dict(self) -> dict[str, Any]:
        """
        Serialises the component.

        :raises ValueError: If it was given a loaded model rather than a name.
        """
        return default_to_dict(
            self,
            direction=self.direction,
            search=self.search,
            threshold=self.threshold,
            top_k=self.top_k,
            candidates=self.candidates,
            write_markers=self.write_markers,
            meta_fields_to_embed=self.meta_fields_to_embed,
            max_passage_tokens=self.max_passage_tokens,
            states_megabytes=self.states_megabytes,
            **serialisable(self),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TRLMCitationAttributor":
        """
        Restores the component from what `to_dict` gave.
        """
        return default_from_dict(cls, with_device(data))

    @component.output_types(answers=list[GeneratedAnswer])
    def run(
        self,
        replies: list[ChatMessage] | list[str] | None = None,
        answers: list[GeneratedAnswer] | None = None,
        documents: list[Document] | None = None,
        query: str = "",
        threshold: float | None = None,
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
        :param threshold: Overrides the component's own.
        :param write_markers: Overrides the component's own.
        :returns: `answers`: copies in input order, with `meta["trlm"]` set. Their text is the one
            given, but for the markers where these are written.
        :raises ValueError: If both or neither of `replies` and `answers` are given.
        """
        if (replies is None) == (answers is None):
            raise ValueError("give either replies or answers")
        threshold = self.threshold if threshold is None else threshold
        write_markers = self.write_markers if write_markers is None else write_markers
        if answers is None:
            answers = [_answer(reply, query) for reply in replies or []]
        tasks = [
            _Task(
                answer,
                _by_source_index(answer.documents)
                if documents is None
                else dict(enumerate(documents, start=1)),
            )
            for answer in answers
        ]
        empty = {
            document.id
            for task in tasks
            for document in task.documents.values()
            if not (document.content or "").strip()
        }
        if empty:
            logger.warning("%d documents have no text and cannot be cited", len(empty))
        if any(task.sentences and task.documents for task in tasks):
            self.warm_up()
            self._attribute(tasks, threshold)
        return {"answers": [task.result(threshold, write_markers) for task in tasks]}

    @component.output_types(answers=list[GeneratedAnswer])
    async def run_async(
        self,
        replies: list[ChatMessage] | list[str] | None = None,
        answers: list[GeneratedAnswer] | None = None,
        documents: list[Document] | None = None,
        query: str = "",
        threshold: float | None = None,
        write_markers: bool | None = None,
    ) -> dict[str, list[GeneratedAnswer]]:
        """
        As `run`, in a worker thread, so that the event loop is not blocked.

        :param replies: What a generator wrote. Give these or `answers`.
        :param answers: Answers of an `AnswerBuilder`.
        :param documents: What the answers may rest on.
        :param query: The question, which answers made of replies carry on.
        :param threshold: Overrides the component's own.
        :param write_markers: Overrides the component's own.
        :returns: `answers`: copies in input order, with `meta["trlm"]` set.
        :raises ValueError: As `run` does.
        """
        return await asyncio.to_thread(
            self.run, replies, answers, documents, query, threshold, write_markers
        )

    def _attribute(self, tasks: Sequence["_Task"], threshold: float) -> None:
        """Score all sentences of all answers, then search where the cited documents support."""
        lm = self._lm
        assert lm is not None
        window_tokens = min(self.max_passage_tokens, lm.max_context // 2)
        self._read(lm, tasks, window_tokens)
        scorer = SupportScorer(
            partial(lm.score, max_passage_tokens=window_tokens),
            support_template(self.direction, lm.default_direction == "ba"),
        )
        wanted = [
            (task, position, number, passage)
            for task in tasks
            for position, candidates in enumerate(task.candidates(self.candidates))
            for number, passage in candidates
        ]
        supports = scorer.score([(t.claims[i], passage.text) for t, i, _, passage in wanted])
        for (task, position, number, passage), support in zip(wanted, supports, strict=True):
            best = task.supports[position].get(number)
            if best is None or support.score > best[0].score:
                task.supports[position][number] = (support, passage)
        cited = [
            (task, position, number, passage)
            for task in tasks
            for position, by_number in enumerate(task.supports)
            for number, (support, passage) in _best_first(by_number)[: self.top_k]
            if support.score >= threshold
        ]
        found = search(
            self.search, [(t.claims[i], passage.sentences) for t, i, _, passage in cited], scorer
        )
        for (task, position, number, _), result in zip(cited, found, strict=True):
            task.found[position][number] = result

    def _read(self, lm: TimeReversedLM, tasks: Sequence["_Task"], window_tokens: int) -> None:
        """Cut documents into passages, and overlong sentences to what the model reads."""
        known: dict[tuple[str, str | None], list[_Passage]] = {}
        most = min(_MAX_CLAIM_TOKENS, lm.max_context // 4)
        for task in tasks:
            for number, document in task.documents.items():
                key = (document.id, document.content)
                if key not in known:
                    known[key] = self._passages(lm, document, window_tokens)
                task.passages[number] = known[key]
            read = [leading_tokens(lm.tokenizer, s.text, most) for s in task.sentences]
            task.claims = [claim for claim, _ in read]
            task.cut_characters = [left_out for _, left_out in read]

    def _passages(
        self, lm: TimeReversedLM, document: Document, window_tokens: int
    ) -> list["_Passage"]:
        content = document.content or ""
        return [
            _Passage(
                document,
                window,
                passage_text(
                    replace(document, content=window.span.of(content)), self.meta_fields_to_embed
                ),
            )
            for window in windows(content, window_tokens, partial(count_tokens, lm.tokenizer))
        ]


@dataclass(frozen=True)
class _Passage:
    """A window of a document, and the text of it that is scored, title included."""

    document: Document
    window: Window
    text: str

    @property
    def sentences(self) -> list[str]:
        """Its sentences, joined the text of the window."""
        return self.window.pieces(self.document.content or "")


class _Task:
    """One answer on its way: its sentences, the documents by number, what was found."""

    def __init__(self, answer: GeneratedAnswer, documents: dict[int, Document]) -> None:
        self.answer = answer
        self.documents = documents
        self.text = answer.data or ""
        self.sentences: list[MarkedSentence] = marked_sentences(self.text)
        self.claims: list[str] = []
        self.cut_characters = [0] * len(self.sentences)
        self.passages: dict[int, list[_Passage]] = {}
        self.supports: list[dict[int, tuple[Support, _Passage]]] = [{} for _ in self.sentences]
        self.found: list[dict[int, Found]] = [{} for _ in self.sentences]

    def candidates(self, most: int) -> list[list[tuple[int, _Passage]]]:
        """For each sentence the passages to score: those that share most words with it, and the
        best one of each document that a marker of the sentence names."""
        everything = [(n, passage) for n, passages in self.passages.items() for passage in passages]
        if len(everything) <= most:
            return [everything for _ in self.sentences]
        there = [word_sets(passage.text) for _, passage in everything]
        chosen = []
        for claim, sentence in zip(self.claims, self.sentences, strict=True):
            wanted = word_sets(claim)
            shared = [shared_words(wanted, found) for found in there]
            ranked = sorted(range(len(everything)), key=lambda i: -shared[i])
            kept = ranked[:most]
            for number in set(sentence.numbers) - {everything[i][0] for i in kept}:
                kept += [i for i in ranked if everything[i][0] == number][:1]
            chosen.append([everything[i] for i in kept])
        return chosen

    def result(self, threshold: float, write_markers: bool) -> GeneratedAnswer:
        """The answer with what was found."""
        sentences = [self._sentence(i, threshold) for i in range(len(self.sentences))]
        cited = {
            sentence.span: [citation["number"] for citation in found["citations"]]
            for sentence, found in zip(self.sentences, sentences, strict=True)
        }
        referenced = {number for numbers in cited.values() for number in numbers}
        unsupported = sum(not sentence["supported"] for sentence in sentences)
        return replace(
            self.answer,
            data=with_markers(self.text, cited) if write_markers else self.answer.data,
            documents=[
                replace(
                    document,
                    meta={
                        **document.meta,
                        "source_index": number,
                        "referenced": number in referenced,
                    },
                )
                for number, document in self.documents.items()
            ],
            meta={
                **self.answer.meta,
                META_KEY: {"unsupported": unsupported, "sentences": sentences},
            },
        )

    def _sentence(self, position: int, threshold: float) -> dict[str, Any]:
        sentence, by_number = self.sentences[position], self.supports[position]
        best = _best_first(by_number)[0][1][0] if by_number else None
        return {
            "text": sentence.span.of(self.text),
            "start": sentence.span.start,
            "end": sentence.span.end,
            "supported": best is not None and best.score >= threshold,
            "score": best.score if best else None,
            "gain": best.gain if best else None,
            "cut_characters": self.cut_characters[position],
            "citations": [
                self._citation(number, *by_number[number], found)
                for number, found in self.found[position].items()
            ],
            "markers": [
                self._marker(number, by_number.get(number), threshold)
                for number in sentence.numbers
            ],
        }

    def _citation(
        self, number: int, support: Support, passage: _Passage, found: Found
    ) -> dict[str, Any]:
        sentences = passage.window.sentences
        start, end = sentences[found.start].start, sentences[found.stop - 1].end
        return {
            "document_id": passage.document.id,
            "number": number,
            "start": start,
            "end": end,
            "quote": (passage.document.content or "")[start:end],
            "score": support.score,
            "gain": support.gain,
            "quote_score": found.score,
        }

    def _marker(
        self, number: int, found: tuple[Support, _Passage] | None, threshold: float
    ) -> dict[str, Any]:
        document = self.documents.get(number)
        return {
            "number": number,
            "document_id": document.id if document else None,
            "score": found[0].score if found else None,
            "supported": found is not None and found[0].score >= threshold,
        }


def _best_first(
    by_number: dict[int, tuple[Support, _Passage]],
) -> list[tuple[int, tuple[Support, _Passage]]]:
    return sorted(by_number.items(), key=lambda item: (-item[1][0].score, item[0]))


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
