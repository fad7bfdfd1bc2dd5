"""TRLMRanker: order passages by how likely the query is, given each of them."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import ComponentDevice

from trlm_retrieval.components.base import load_lm, serialisable, with_device
from trlm_retrieval.components.fusion import (
    DEFAULT_NORMALISATION,
    Normalisation,
    choose_weight,
    combine,
)
from trlm_retrieval.lm import Likelihood, PairScorer, TimeReversedLM
from trlm_retrieval.lm.state_folder import open_states
from trlm_retrieval.models.loading import check_weight
from trlm_retrieval.passage_index.documents import DEFAULT_META_FIELDS, passage_text

logger = logging.getLogger(__name__)

META_KEY = "trlm"
DEFAULT_MODEL = "smollm2-135m"
DEFAULT_MAX_PASSAGE_TOKENS = 512


@component
class TRLMRanker:
    """
    Ranks documents by log P(query | passage), read off a time-reversed language model.

    The score is combined with the first-stage score that the documents arrive with, unless
    `first_stage_weight` is 0. What was measured goes to `document.meta["trlm"]`:
    `log_likelihood` (nats), `mean_log_likelihood` (nats per query token), `tokens_scored`,
    `cut_tokens` (passage tokens that did not fit), `undertrained` (the share of the query's or
    passage's tokens that are under-trained), `first_stage_score`, `first_stage_rank`, and
    with `explain=True` the `gain` over the prior, log P(q|d) - log P(q), and `token_gains`.

    Usage:

    ```python
    from haystack import Document
    from trlm_retrieval.components import TRLMRanker

    ranker = TRLMRanker(first_stage_weight=0.0)
    result = ranker.run(
        query="Which city is the capital of France?",
        documents=[
            Document(content="Berlin is in Germany."),
            Document(content="Paris is the capital of France."),
        ],
    )
    print(result["documents"][0].content)
    ```
    """

    def __init__(
        self,
        model: str | PairScorer = DEFAULT_MODEL,
        direction: str | None = None,
        top_k: int = 10,
        first_stage_weight: float | None = None,
        normalisation: Normalisation = DEFAULT_NORMALISATION,
        score_threshold: float | None = None,
        explain: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        max_passage_tokens: int | None = DEFAULT_MAX_PASSAGE_TOKENS,
        states_megabytes: int = 2048,
        states_folder: str | None = None,
        soft_prompt: str | None = None,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
    ) -> None:
        """
        Creates the ranker; the model is loaded by `warm_up` or on the first run.

        :param model: A name from `trlm models list`, a folder, a `.gguf` file, a hub id, a loaded
            `TimeReversedLM` (which cannot be serialised), or a `RemoteLM`, which asks a server.
        :param direction: `ba`, `fo`, or `forward` for the baseline log P(passage | query); by
            default what suits the model.
        :param top_k: How many documents to return at most.
        :param first_stage_weight: Share of the first-stage score in the result, 0 to 1. With 0 the
            score is the log-likelihood itself. By default what the model's folder recommends, else
            0.45.
        :param normalisation: How both scores are brought to one scale before they are added:
            `zscore`, `minmax` or `rank`.
        :param score_threshold: Documents that score below it are left out.
        :param explain: Also score each query token without the passage and report the gains.
        :param meta_fields_to_embed: Meta fields scored ahead of the content; by default the title.
        :param max_passage_tokens: Longer passages are cut at their end, and the cut is counted;
            None leaves only the model's context as limit.
        :param states_megabytes: Memory for passage states, which make a passage that was seen
            before many times cheaper; 0 keeps none. A loaded model keeps its own setting.
        :param states_folder: Passage states on disk, as `trlm index --states` writes them to the
            folder `states` of an index, or `trlm score --states`; passages that are not there are
            computed.
        :param soft_prompt: Folder of a soft prompt that `trlm train soft-prompt` made for the
            model, read in place of a direction's prompt.
        :param device: Where the model runs; by default CUDA, MPS or CPU, whichever is there.
        :param dtype: `float32`, `bfloat16` or `float16`; by default what suits the device.
        :raises ValueError: If a number is out of its range, or a soft prompt comes with a
            direction or a loaded model.
        """
        if top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        if first_stage_weight is not None:
            check_weight(first_stage_weight)
        if normalisation not in ("zscore", "minmax", "rank"):
            raise ValueError(
                f"normalisation must be 'zscore', 'minmax' or 'rank', not {normalisation!r}"
            )
        if max_passage_tokens is not None and max_passage_tokens <= 0:
            raise ValueError(f"max_passage_tokens must be positive, not {max_passage_tokens}")
        if states_megabytes < 0:
            raise ValueError(f"states_megabytes must not be negative, not {states_megabytes}")
        if soft_prompt is not None and direction is not None:
            raise ValueError("a soft prompt stands in for a direction: leave direction out")
        if soft_prompt is not None and not isinstance(model, str):
            raise ValueError(
                "soft_prompt is for a model that is loaded here: give the model's name, or load it "
                "with TimeReversedLM.from_pretrained(…, soft_prompt=…)"
            )
        self.model = model
        self.direction = direction
        self.top_k = top_k
        self.first_stage_weight = first_stage_weight
        self.normalisation: Normalisation = normalisation
        self.score_threshold = score_threshold
        self.explain = explain
        self.meta_fields_to_embed = (
            list(DEFAULT_META_FIELDS) if meta_fields_to_embed is None else meta_fields_to_embed
        )
        self.max_passage_tokens = max_passage_tokens
        self.states_megabytes = states_megabytes
        self.states_folder = states_folder
        self.soft_prompt = soft_prompt
        self.device = device
        self.dtype = dtype
        self._lm: PairScorer | None = None
        self._loading = Lock()

    def warm_up(self) -> None:
        """
        Loads the model; does nothing if it is loaded.

        :raises ModelError: If the model is not there or does not fit the direction.
        :raises StatesError: If the states folder is damaged, or of another model or setting.
        :raises ValueError: If there is a states folder and the model is behind a server.
        """
        with self._loading:
            if self._lm is not None:
                return
            lm = load_lm(
                self.model, self.device, self.dtype, self.states_megabytes, self.soft_prompt
            )
            lm.template(self.direction)
            if self.states_folder is not None:
                if not isinstance(lm, TimeReversedLM):
                    raise ValueError("states_folder is for local models: leave it out")
                folder = Path(self.states_folder)
                lm.states.read_from(
                    open_states(folder, lm, self.direction, self.max_passage_tokens)
                )
            self._lm = lm

    def to_dict(self) -> dict[str, Any]:
        """
        Serialises the component.

        :raises ValueError: If it was given a loaded model rather than a name.
        """
        return default_to_dict(
            self,
            direction=self.direction,
            top_k=self.top_k,
            first_stage_weight=self.first_stage_weight,
            normalisation=self.normalisation,
            score_threshold=self.score_threshold,
            explain=self.explain,
            meta_fields_to_embed=self.meta_fields_to_embed,
            max_passage_tokens=self.max_passage_tokens,
            states_megabytes=self.states_megabytes,
            states_folder=self.states_folder,
            soft_prompt=self.soft_prompt,
            **serialisable(self),
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TRLMRanker":
        """
        Restores the component from what `to_dict` gave.
        """
        return default_from_dict(cls, with_device(data))

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        explain: bool | None = None,
    ) -> dict[str, list[Document]]:
        """
        Ranks documents for a query.

        :param query: What was asked.
        :param documents: Candidates from any retriever. Duplicates (by id) are dropped, the one
            with the highest score is kept.
        :param top_k: Overrides the component's own.
        :param score_threshold: Overrides the component's own.
        :param explain: Overrides the component's own.
        :returns: `documents`: copies, best first, with `score` and `meta["trlm"]` set.
        :raises ValueError: If the query is empty, `top_k` is not positive, or a document holds no
            text.
        """
        top_k = self.top_k if top_k is None else top_k
        score_threshold = self.score_threshold if score_threshold is None else score_threshold
        explain = self.explain if explain is None else explain
        if not query or not query.strip():
            raise ValueError("query must not be empty")
        if top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        if not documents:
            return {"documents": []}
        candidates = _first_stage_order(documents)
        for document in candidates:
            if not (document.content or "").strip():
                raise ValueError(
                    f"document {document.id!r} has no text content to score; drop it, or convert "
                    "it to text before ranking"
                )
        self.warm_up()
        assert self._lm is not None
        encoded = self._lm.encode(
            [(query, passage_text(doc, self.meta_fields_to_embed)) for doc in candidates],
            self.direction,
            self.max_passage_tokens,
        )
        likelihoods = self._lm.score_encoded(encoded, self.direction, prior=explain)
        scores = self._scores(candidates, likelihoods)
        ranked = sorted(range(len(candidates)), key=lambda i: -scores[i])
        found = [
            replace(
                candidates[i],
                score=scores[i],
                meta={
                    **candidates[i].meta,
                    META_KEY: self._measured(candidates[i], i, likelihoods[i], explain)
                    | {"undertrained": encoded[i].undertrained},
                },
            )
            for i in ranked
            if score_threshold is None or scores[i] >= score_threshold
        ]
        return {"documents": found[:top_k]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
        explain: bool | None = None,
    ) -> dict[str, list[Document]]:
        """
        As `run`, in a worker thread, so that the event loop is not blocked.

        :param query: What was asked.
        :param documents: Candidates from any retriever.
        :param top_k: Overrides the component's own.
        :param score_threshold: Overrides the component's own.
        :param explain: Overrides the component's own.
        :returns: `documents`: copies, best first, with `score` and `meta["trlm"]` set.
        :raises ValueError: As `run` does.
        """
        return await asyncio.to_thread(self.run, query, documents, top_k, score_threshold, explain)

    def _scores(
        self, candidates: Sequence[Document], likelihoods: Sequence[Likelihood]
    ) -> list[float]:
        assert self._lm is not None
        # Across targets of different length (the forward baseline) only the mean compares.
        scores_query = self._lm.template(self.direction).scores_query
        values = [found.sum if scores_query else found.mean for found in likelihoods]
        first_stage = [doc.score for doc in candidates if doc.score is not None]
        weight = choose_weight(self.first_stage_weight, self._lm.first_stage_weight)
        if len(first_stage) < len(candidates):
            if weight:
                logger.warning(
                    "%d of %d documents carry no first-stage score: ranking by likelihood alone; "
                    "set first_stage_weight=0 if that is meant",
                    len(candidates) - len(first_stage),
                    len(candidates),
                )
            weight, first_stage = 0.0, [0.0] * len(candidates)
        return combine(first_stage, values, weight, self.normalisation).tolist()

    def _measured(
        self, document: Document, position: int, likelihood: Likelihood, explain: bool
    ) -> dict[str, Any]:
        assert self._lm is not None
        measured: dict[str, Any] = {
            "log_likelihood": likelihood.sum,
            "mean_log_likelihood": likelihood.mean,
            "tokens_scored": len(likelihood),
            "cut_tokens": likelihood.cut_tokens,
            "first_stage_score": document.score,
            "first_stage_rank": position + 1,
        }
        if explain:
            measured["gain"] = likelihood.gain
            measured["token_gains"] = [
                {"token": piece, "log_prob": float(log_prob), "gain": float(gain)}
                for piece, log_prob, gain in zip(
                    self._lm.pieces(likelihood.token_ids),
                    likelihood.log_probs,
                    likelihood.token_gains,
                    strict=True,
                )
            ]
        return measured


def _first_stage_order(documents: Sequence[Document]) -> list[Document]:
    """Documents without duplicates, by first-stage score; those without one keep their place."""
    by_id: dict[str, Document] = {}
    for document in documents:
        known = by_id.get(document.id)
        if known is None or _score(document) > _score(known):
            by_id[document.id] = document
    unique = list(by_id.values())
    if any(document.score is None for document in unique):
        return unique
    return sorted(unique, key=_score, reverse=True)


def _score(document: Document) -> float:
    return float("-inf") if document.score is None else document.score
