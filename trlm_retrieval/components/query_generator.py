"""TRLMQueryGenerator: the questions that a text answers, sampled from P(query | text)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, component
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice, Secret

from trlm_retrieval.components.base import HUB_TOKEN, ModelComponent, in_thread, reply_text
from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.lm.generation import GeneratedQuery, Sampling, generate_queries
from trlm_retrieval.models.source import DEFAULT_MODEL
from trlm_retrieval.passage_index.documents import (
    DEFAULT_META_FIELDS,
    PREDICTED_QUERIES,
    passage_text,
)


@component
class TRLMQueryGenerator(ModelComponent[TimeReversedLM]):
    """
    Writes the queries that lead to documents or replies: distinct samples of P(query | text).

    Ahead of an index writer the documents come out with `meta["predicted_queries"]`, whose words
    BM25 counts as well (doc2query). Behind a generator the queries say what a reply really answers.

    Usage:

    ```python
    from haystack import Document
    from trlm_retrieval.components import TRLMQueryGenerator

    generator = TRLMQueryGenerator(number=3)
    result = generator.run(documents=[Document(content="Paris is the capital of France.")])
    print(result["documents"][0].meta["predicted_queries"], result["log_likelihoods"])
    ```
    """

    def __init__(
        self,
        model: str | TimeReversedLM = DEFAULT_MODEL,
        *,
        number: int = 5,
        direction: str | None = None,
        prompt: str | None = None,
        temperature: float = Sampling.temperature,
        top_p: float = Sampling.top_p,
        max_tokens: int = Sampling.max_tokens,
        seed: int = Sampling.seed,
        meta_fields_to_embed: list[str] | None = None,
        max_passage_tokens: int | None = DEFAULT_MAX_PASSAGE_TOKENS,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
        token: Secret | None = HUB_TOKEN,
        revision: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """
        Creates the generator; the model is loaded by `warm_up` or on the first run.

        :param model: A name from `trlm models list`, a folder, a `.gguf` file, a hub id, or a
            loaded `TimeReversedLM` (which cannot be serialised).
        :param number: Distinct queries for each text; fewer where the model repeats itself.
        :param direction: `ba` (written backwards) or `fo` (prompted); by default what suits the
            model.
        :param prompt: What the query is written behind, with the text at `{passage}`; by default
            the direction's own prompt.
        :param temperature: Divides the logits; the smaller, the more alike the queries.
        :param top_p: Only the likeliest tokens that together have this probability are drawn.
        :param max_tokens: A query that has not ended by then is ended there.
        :param seed: The same seed gives the same queries.
        :param meta_fields_to_embed: Meta fields read ahead of a document's content; by default the
            title.
        :param max_passage_tokens: Longer texts are cut at their end, and the cut is counted; None
            leaves only the model's context as limit.
        :param device: Where the model runs; by default CUDA, MPS or CPU, whichever is there.
        :param dtype: `float32`, `bfloat16` or `float16`; by default what suits the device.
        :param token: Key of a model hub, for models that are not open to everybody.
        :param revision: Branch, tag or commit of a hub's model; by default `main`.
        :param model_kwargs: Further arguments of transformers' `from_pretrained`, such as
            `device_map` or `quantization_config`.
        :raises ValueError: If a number is out of its range, or the prompt lacks `{passage}`.
        """
        if number <= 0:
            raise ValueError(f"number must be positive, not {number}")
        if max_passage_tokens is not None and max_passage_tokens <= 0:
            raise ValueError(f"max_passage_tokens must be positive, not {max_passage_tokens}")
        if prompt is not None:
            _template(prompt, "forward")
        self._hold(model, device, dtype, token, revision, model_kwargs)
        self.number = number
        self.direction = direction
        self.prompt = prompt
        self.temperature = temperature
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.seed = seed
        self._sampling = Sampling(temperature, top_p, max_tokens, seed)
        self.meta_fields_to_embed = (
            list(DEFAULT_META_FIELDS) if meta_fields_to_embed is None else meta_fields_to_embed
        )
        self.max_passage_tokens = max_passage_tokens

    def _check(self, lm: TimeReversedLM) -> None:
        lm.template(self.direction)

    @component.output_types(
        documents=list[Document],
        queries=list[list[str]],
        log_likelihoods=list[list[float]],
        cut_tokens=list[int],
    )
    def run(
        self,
        documents: list[Document] | None = None,
        replies: list[ChatMessage] | list[str] | None = None,
        number: int | None = None,
    ) -> dict[str, Any]:
        """
        Writes queries for documents or for replies.

        :param documents: Passages to be found. One without text gets no query.
        :param replies: Answers whose questions are wanted, instead of documents. An empty one gets
            no query.
        :param number: Overrides the component's own.
        :returns: `queries` of each text, likeliest first; their `log_likelihoods`, in nats;
            `cut_tokens`, how many tokens of each text did not fit and were left out; and
            `documents`, copies with `meta["predicted_queries"]` (empty for replies).
        :raises ValueError: If not exactly one of `documents` and `replies` is given, or `number` is
            not positive.
        """
        if (documents is None) == (replies is None):
            raise ValueError("give either documents or replies")
        number = self.number if number is None else number
        if number <= 0:
            raise ValueError(f"number must be positive, not {number}")
        texts = [passage_text(doc, self.meta_fields_to_embed) for doc in documents or []]
        texts += [reply_text(reply) for reply in replies or []]
        found = self._generate(texts, number)
        queries = [[query.text for query in written] for written in found]
        return {
            "documents": [
                replace(document, meta={**document.meta, PREDICTED_QUERIES: written})
                for document, written in zip(documents or [], queries, strict=False)
            ],
            "queries": queries,
            "log_likelihoods": [[query.likelihood.sum for query in written] for written in found],
            "cut_tokens": [written[0].likelihood.cut_tokens if written else 0 for written in found],
        }

    run_async = in_thread(run)

    def _generate(self, texts: Sequence[str], number: int) -> list[list[GeneratedQuery]]:
        written = [text for text in texts if text.strip()]
        if not written:
            return [[] for _ in texts]
        lm = self._loaded
        template = lm.template(self.direction)
        if self.prompt is not None:
            template = _template(self.prompt, template.order)
        found = iter(
            generate_queries(
                lm,
                written,
                number,
                direction=template,
                sampling=self._sampling,
                max_passage_tokens=self.max_passage_tokens,
            )
        )
        return [next(found) if text.strip() else [] for text in texts]


def _template(prompt: str, order: Any) -> Template:
    if prompt.count("{passage}") != 1 or "{query}" in prompt:
        raise ValueError("prompt must hold {passage} once, where the text goes, and no {query}")
    return Template("prompt", order, context=prompt, target=" {query}")
