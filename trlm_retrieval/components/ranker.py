"""TRLMRanker: order passages by how likely the query is, given each of them."""

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.utils import ComponentDevice, Secret

from trlm_retrieval.components.base import HUB_TOKEN, ModelComponent, in_thread
from trlm_retrieval.components.fusion import choose_weight, mixed_gains, mixture
from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import Likelihood, PairScorer, Template, TimeReversedLM
from trlm_retrieval.lm.state_folder import open_states
from trlm_retrieval.models.loading import check_weight
from trlm_retrieval.models.source import DEFAULT_MODEL
from trlm_retrieval.passage_index.documents import DEFAULT_META_FIELDS, passage_text

logger = logging.getLogger(__name__)

META_KEY = "trlm"
DEFAULT_MAX_PASSAGE_TOKENS = 512
_UNEXPLAINED: dict[str, Any] = {
    "gain": None,
    "token_gains": [],
    "mixture": None,
    "relevance": None,
}


@component
class TRLMRanker(ModelComponent[PairScorer]):
    """
    Ranks documents by log P(query | passage), read off a time-reversed language model.

    The score is combined with the first-stage score that the documents arrive with, unless
    `first_stage_weight` is 0. What was measured goes to `document.meta["trlm"]`:
    `log_likelihood` (nats), `mean_log_likelihood` (nats per query token), `tokens_scored`,
    `cut_tokens` (passage tokens that did not fit), `undertrained` (the share of the query's or
    passage's tokens that are under-trained), `first_stage_score`, `first_stage_rank`, and
    with `explain=True` the `gain` over the prior, log P(q|d) - log P(q), `token_gains`, the
    `mixture`, whose two parts `first_stage` and `likelihood` add up to what the order follows, and
    `relevance`, P(relevant), where the model is calibrated.

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
        *,
        direction: str | None = None,
        top_k: int = 10,
        first_stage_weight: float | None = None,
        score_threshold: float | None = None,
        scale_score: bool = False,
        explain: bool = False,
        meta_fields_to_embed: list[str] | None = None,
        max_passage_tokens: int | None = DEFAULT_MAX_PASSAGE_TOKENS,
        states_megabytes: int = 2048,
        states_folder: str | None = None,
        soft_prompt: str | None = None,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
        token: Secret | None = HUB_TOKEN,
        revision: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
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
        :param score_threshold: Documents that score below it are left out.
        :param scale_score: Make the score P(relevant), between 0 and 1, which compares across
            queries; the order stays. The model must have a calibration: smollm2-135m and trlm-small
            have, `trlm eval calibrate` makes one.
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
        :param token: Key of a model hub, for models that are not open to everybody.
        :param revision: Branch, tag or commit of a hub's model; by default `main`.
        :param model_kwargs: Further arguments of transformers' `from_pretrained`, such as
            `device_map` or `quantization_config`.
        :raises ValueError: If a number is out of its range, or a soft prompt comes with a
            direction or a loaded model.
        """
        if top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        if first_stage_weight is not None:
            check_weight(first_stage_weight)
        if max_passage_tokens is not None and max_passage_tokens <= 0:
            raise ValueError(f"max_passage_tokens must be positive, not {max_passage_tokens}")
        if soft_prompt is not None and direction is not None:
            raise ValueError("a soft prompt replaces a direction: leave direction out")
        if soft_prompt is not None and not isinstance(model, str):
            raise ValueError(
                "soft_prompt is for a model that is loaded here: give the model's name, or load it "
                "with TimeReversedLM.from_pretrained(…, soft_prompt=…)"
            )
        self._hold(
            model,
            device,
            dtype,
            token,
            revision,
            model_kwargs,
            states_megabytes=states_megabytes,
            soft_prompt=soft_prompt,
        )
        self.direction = direction
        self.top_k = top_k
        self.first_stage_weight = first_stage_weight
        self.score_threshold = score_threshold
        self.scale_score = scale_score
        self.explain = explain
        self.meta_fields_to_embed = (
            list(DEFAULT_META_FIELDS) if meta_fields_to_embed is None else meta_fields_to_embed
        )
        self.max_passage_tokens = max_passage_tokens
        self.states_folder = states_folder

    def _check(self, lm: PairScorer) -> None:
        """
        :raises ModelError: If the model does not fit the direction, or lacks the calibration that
            `scale_score` needs.
        :raises StatesError: If the states folder is damaged, or of another model or setting.
        :raises ValueError: If there is a states folder and the model is behind a server.
        """
        template = lm.template(self.direction)
        if self.scale_score:
            check_calibration(lm, template)
        if self.states_folder is None:
            return
        if not isinstance(lm, TimeReversedLM):
            raise ValueError("states_folder is for local models: leave it out")
        folder = Path(self.states_folder)
        lm.states.read_from(open_states(folder, lm, self.direction, self.max_passage_tokens))

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
            with the highest score is kept. One without text, or with a first-stage score that is
            no finite number where that counts, comes last, with a warning.
        :param top_k: Overrides the component's own.
        :param score_threshold: Overrides the component's own.
        :param explain: Overrides the component's own.
        :returns: `documents`: copies, best first, with `score` and `meta["trlm"]` set.
        :raises ValueError: If the query is empty or `top_k` is not positive.
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
        lm = self._loaded
        candidates = _first_stage_order(documents)
        texts = [passage_text(document, self.meta_fields_to_embed) for document in candidates]
        weight = self._weight(candidates)
        readable = [
            i
            for i, document in enumerate(candidates)
            if texts[i].strip() and (weight == 0 or _finite(document.score))
        ]
        encoded = lm.encode(
            [(query, texts[i]) for i in readable], self.direction, self.max_passage_tokens
        )
        likelihoods = lm.score_encoded(encoded, self.direction, prior=explain or self.scale_score)
        scored = [candidates[i] for i in readable]
        parts = self._parts(scored, likelihoods, weight)
        scores = [sum(both) for both in parts]
        chances = None
        if self.scale_score or (explain and weight < 1 and self._is_calibrated):
            chances = self._probabilities(scored, likelihoods, weight)
        shown = chances if self.scale_score and chances is not None else scores
        ranked = []
        for at in sorted(range(len(scored)), key=lambda at: -scores[at]):
            measured = self._measured(scored[at], readable[at], likelihoods[at], explain)
            measured["undertrained"] = encoded[at].undertrained
            if explain:
                first_stage, likelihood = parts[at]
                measured["mixture"] = {"first_stage": first_stage, "likelihood": likelihood}
                measured["relevance"] = None if chances is None else chances[at]
            ranked.append(_scored(scored[at], shown[at], measured))
        ranked += self._last(candidates, set(readable), ranked, explain)
        found = [
            document
            for document in ranked
            if score_threshold is None or (document.score or 0.0) >= score_threshold
        ]
        return {"documents": found[:top_k]}

    run_async = in_thread(run)

    def _weight(self, candidates: Sequence[Document]) -> float:
        """The first stage's weight; 0 where there are no scores of it to add."""
        weight = choose_weight(self.first_stage_weight, self._loaded.first_stage_weight)
        without = sum(document.score is None for document in candidates)
        if not any(_finite(document.score) for document in candidates):
            without = len(candidates)
        if without and weight:
            logger.warning(
                "%d of %d documents carry no first-stage score: ranking by likelihood alone; "
                "set first_stage_weight=0 if that is meant",
                without,
                len(candidates),
            )
        return 0.0 if without else weight

    @property
    def _is_calibrated(self) -> bool:
        calibration = self._loaded.calibration
        template = self._loaded.template(self.direction)
        return calibration is not None and calibration.template == str(template)

    def _parts(
        self, candidates: Sequence[Document], likelihoods: Sequence[Likelihood], weight: float
    ) -> list[tuple[float, float]]:
        """What the first stage and the likelihood add to each candidate's score."""
        # Across targets of different length (the forward baseline) only the mean compares.
        scores_query = self._loaded.template(self.direction).scores_query
        values = [found.sum if scores_query else found.mean for found in likelihoods]
        first_stage = [document.score or 0.0 if weight else 0.0 for document in candidates]
        first, second = mixture(first_stage, values, weight)
        return list(zip(first.tolist(), second.tolist(), strict=True))

    def _probabilities(
        self, candidates: Sequence[Document], likelihoods: Sequence[Likelihood], weight: float
    ) -> list[float]:
        """P(relevant) of each candidate, in the order that :meth:`_scores` gives them."""
        calibration = self._loaded.calibration
        assert calibration is not None  # _check has seen to it
        tokens = max(1, len(likelihoods[0])) if likelihoods else 1
        gains = mixed_gains(
            [found.gain / tokens for found in likelihoods],
            [document.score or 0.0 if weight else 0.0 for document in candidates],
            weight,
        )
        return calibration.probabilities(gains.tolist(), tokens, mixed=weight > 0).tolist()

    def _last(
        self,
        candidates: Sequence[Document],
        readable: Collection[int],
        ranked: Sequence[Document],
        explain: bool,
    ) -> list[Document]:
        """What cannot be ranked, scored below the last of those that can."""
        left = [i for i in range(len(candidates)) if i not in readable]
        if left:
            logger.warning(
                "%d of %d documents hold no text, or their first-stage score is no finite number: "
                "they come last",
                len(left),
                len(candidates),
            )
        score = (ranked[-1].score or 0.0) - 1.0 if ranked and not self.scale_score else 0.0
        nothing: dict[str, Any] = {
            "log_likelihood": None,
            "mean_log_likelihood": None,
            "tokens_scored": 0,
            "cut_tokens": 0,
            "undertrained": 0.0,
            **(_UNEXPLAINED if explain else {}),
        }
        return [
            _scored(candidates[i], score, nothing | _first_stage(candidates[i], i)) for i in left
        ]

    def _measured(
        self, document: Document, position: int, likelihood: Likelihood, explain: bool
    ) -> dict[str, Any]:
        measured: dict[str, Any] = {
            "log_likelihood": likelihood.sum,
            "mean_log_likelihood": likelihood.mean,
            "tokens_scored": len(likelihood),
            "cut_tokens": likelihood.cut_tokens,
            **_first_stage(document, position),
        }
        if explain:
            measured["gain"] = likelihood.gain
            measured["token_gains"] = [
                {"token": piece, "log_prob": float(log_prob), "gain": float(gain)}
                for piece, log_prob, gain in zip(
                    self._loaded.pieces(likelihood.token_ids),
                    likelihood.log_probs,
                    likelihood.token_gains,
                    strict=True,
                )
            ]
        return measured


def check_calibration(lm: PairScorer, template: Template) -> None:
    """
    :raises ModelError: If it is not known how the model's gains are read as probabilities.
    """
    if lm.calibration is None:
        raise ModelError(
            "scale_score needs a calibration, and the model has none: run `trlm eval calibrate "
            "--save` for it, or leave scale_score out"
        )
    if lm.calibration.template != str(template):
        raise ModelError(
            f"the model's calibration is for {lm.calibration.template}, and direction "
            f"{template.name!r} is asked for: leave direction and soft_prompt out, or scale_score"
        )


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


def _scored(document: Document, score: float, measured: dict[str, Any]) -> Document:
    return replace(document, score=score, meta={**document.meta, META_KEY: measured})


def _first_stage(document: Document, position: int) -> dict[str, Any]:
    score = document.score if _finite(document.score) else None
    return {"first_stage_score": score, "first_stage_rank": position + 1}


def _finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)


def _score(document: Document) -> float:
    return document.score if document.score is not None and _finite(document.score) else -math.inf
