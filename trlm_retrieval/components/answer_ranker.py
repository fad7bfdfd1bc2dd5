"""TRLMAnswerRanker: best of N, by how likely the query is, given each reply."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice, Secret

from trlm_retrieval.components.base import HUB_TOKEN, ModelComponent, in_thread, reply_text
from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS, META_KEY
from trlm_retrieval.components.reply_score import (
    FORWARD_WEIGHT,
    generator_log_prob,
    reply_score,
    reply_template,
)
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.source import DEFAULT_MODEL
from trlm_retrieval.text.tokens import count_tokens


@component
class TRLMAnswerRanker(ModelComponent[TimeReversedLM]):
    """
    Orders the replies to a query, the one that answers it best first, without a judge model.

    A reply's score is log P(query | reply) per query token; it does not depend on the other
    replies. With a `forward_weight`, the reply's own likelihood per token joins it, as its
    generator reported it (`logprobs` in the message's meta).

    A returned ChatMessage is a copy with `meta["trlm"]`: `score`, `rank` (from 1),
    `log_likelihood` (log P(query | reply), nats), `mean_log_likelihood` (per query token),
    `forward_log_likelihood` (per reply token, None without a `forward_weight`), `reply_tokens`, and
    `cut_tokens` (reply tokens that did not fit). Empty replies are ranked as well.

    Usage:

    ```python
    from trlm_retrieval.components import TRLMAnswerRanker

    ranker = TRLMAnswerRanker()
    result = ranker.run(
        query="Why is the sky blue?",
        replies=["Grass is green because of chlorophyll.", "Air scatters blue light most."],
    )
    print(result["replies"][0], result["scores"][0])
    ```
    """

    def __init__(
        self,
        model: str | TimeReversedLM = DEFAULT_MODEL,
        *,
        top_k: int | None = None,
        forward_weight: float = FORWARD_WEIGHT,
        max_passage_tokens: int | None = DEFAULT_MAX_PASSAGE_TOKENS,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
        token: Secret | None = HUB_TOKEN,
        revision: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """
        Creates the ranker; the model is loaded by `warm_up` or on the first run.

        :param model: A name from `trlm models list`, a folder, a `.gguf` file, a hub id, or a
            loaded `TimeReversedLM` (which cannot be serialised).
        :param top_k: How many replies to return at most; None returns all.
        :param forward_weight: What a nat per token of the reply's own likelihood is worth, which
            its generator must then report; 0 leaves it out.
        :param max_passage_tokens: Longer replies are cut at their end, and the cut is counted; None
            leaves only the model's context as limit.
        :param device: Where the model runs; by default CUDA, MPS or CPU, whichever is there.
        :param dtype: `float32`, `bfloat16` or `float16`; by default what suits the device.
        :param token: Key of a model hub, for models that are not open to everybody.
        :param revision: Branch, tag or commit of a hub's model; by default `main`.
        :param model_kwargs: Further arguments of transformers' `from_pretrained`, such as
            `device_map` or `quantization_config`.
        :raises ValueError: If a number is out of its range.
        """
        if top_k is not None and top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        if max_passage_tokens is not None and max_passage_tokens <= 0:
            raise ValueError(f"max_passage_tokens must be positive, not {max_passage_tokens}")
        self._hold(model, device, dtype, token, revision, model_kwargs)
        self.top_k = top_k
        self.forward_weight = forward_weight
        self.max_passage_tokens = max_passage_tokens

    @component.output_types(replies=list[ChatMessage] | list[str], scores=list[float])
    def run(
        self, query: str, replies: list[ChatMessage] | list[str], top_k: int | None = None
    ) -> dict[str, Any]:
        """
        Orders replies.

        :param query: What was asked.
        :param replies: Candidates for an answer, for example of a generator with `n` above 1.
        :param top_k: Overrides the component's own.
        :returns: `replies`, best first, of the kind that was given, and their `scores`.
        :raises ValueError: If the query is empty or leaves no room for a reply, `top_k` is not
            positive, or there is a `forward_weight` and a reply carries no log-probabilities.
        """
        top_k = self.top_k if top_k is None else top_k
        if not query or not query.strip():
            raise ValueError("query must not be empty")
        if top_k is not None and top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        if not replies:
            return {"replies": [], "scores": []}
        forward = _reported(replies) if self.forward_weight else [None] * len(replies)
        measured = self._measure(query, replies, forward)
        order = sorted(range(len(replies)), key=lambda i: -measured[i]["score"])[:top_k]
        return {
            "replies": [
                _with_meta(replies[i], {"rank": rank, **measured[i]})
                for rank, i in enumerate(order, start=1)
            ],
            "scores": [measured[i]["score"] for i in order],
        }

    run_async = in_thread(run)

    def _measure(
        self,
        query: str,
        replies: Sequence[ChatMessage] | Sequence[str],
        forward: Sequence[float | None],
    ) -> list[dict[str, Any]]:
        lm = self._loaded
        texts = [reply_text(reply) for reply in replies]
        found = lm.score(
            [(query, text) for text in texts],
            reply_template(lm.default_direction == "ba"),
            max_passage_tokens=self.max_passage_tokens,
        )
        lengths = count_tokens(lm.tokenizer, texts)
        return [
            {
                "score": reply_score(likelihood.mean, own, self.forward_weight),
                "log_likelihood": likelihood.sum,
                "mean_log_likelihood": likelihood.mean,
                "forward_log_likelihood": own,
                "reply_tokens": tokens,
                "cut_tokens": likelihood.cut_tokens,
            }
            for likelihood, tokens, own in zip(found, lengths, forward, strict=True)
        ]


def _reported(replies: Sequence[ChatMessage] | Sequence[str]) -> list[float]:
    """Likelihood of each reply as its generator reported it, in nats per token.

    :raises ValueError: if one carries none.
    """
    found = [
        generator_log_prob(reply.meta) if isinstance(reply, ChatMessage) else None
        for reply in replies
    ]
    known = [value for value in found if value is not None]
    if len(known) < len(found):
        raise ValueError(
            f"{len(found) - len(known)} of {len(found)} replies carry no log-probabilities: set "
            "forward_weight=0, or let the generator report logprobs"
        )
    return known


def _with_meta(reply: ChatMessage | str, measured: dict[str, Any]) -> ChatMessage | str:
    if isinstance(reply, str):
        return reply
    return replace(reply, _meta={**reply.meta, META_KEY: measured})
