"""TRLMSafetyFilter: the prompt is judged, the reply, and the questions that it really answers."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from haystack import component, default_from_dict
from haystack.core.serialization import component_to_dict
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice, Secret, deserialize_callable, serialize_callable

from trlm_retrieval.components.base import HUB_TOKEN, ModelComponent, in_thread, reply_text
from trlm_retrieval.components.question_filter import QuestionFilter
from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS
from trlm_retrieval.components.reply_filter import ReplyFilter
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries, question_template
from trlm_retrieval.models.source import DEFAULT_MODEL
from trlm_retrieval.text.tokens import leading_tokens

logger = logging.getLogger(__name__)

Judge = Callable[[list[str]], Sequence[float | bool]]

SAMPLING = Sampling(max_tokens=24)
DEFAULT_NUMBER = 0
DEFAULT_THRESHOLD = 0.6
DEFAULT_REPLY_THRESHOLD = 0.59  # chosen by eval/studies/reply_head.py
DEFAULT_QUESTION_THRESHOLD = 0.62  # chosen by eval/studies/choose_safety.py


@dataclass
class Decision:
    """
    What was decided about one reply, and why.

    :ivar blocked: Whether the reply is held back.
    :ivar reason: `prompt` (the query itself is unsafe), `reply` (what it says is), `questions`
        (what it answers is), `error` (something failed, so nothing passes), `empty` (nothing to
        judge) or `safe`.
    :ivar prompt_score: The inner filter's score of the query; None where it was not judged.
    :ivar reply_score: The reply filter's score; None where the reply was not judged.
    :ivar questions: For each generated question its `text`, `score`, and the `part` of the reply,
        from 0, that it was generated from.
    :ivar tripped: The questions that are unsafe.
    :ivar error: What failed.
    """

    blocked: bool
    reason: str
    prompt_score: float | None = None
    reply_score: float | None = None
    questions: list[dict[str, Any]] = field(default_factory=list)
    tripped: list[str] = field(default_factory=list)
    error: str | None = None


@component
class TRLMSafetyFilter(ModelComponent[TimeReversedLM]):
    """
    Holds back replies to unsafe questions, also where the prompt hides the question.

    An input filter judges questions. A jailbreak hides its question in the prompt, but the reply
    gives it away, so the reply is judged as well. With `number`, questions are generated back from
    it too, and judged as the query is: algorithm 12 of *Time-Reversal Provides Unsupervised
    Feedback to LLMs* (arXiv 2412.02626). Nothing passes because of a failure: where a filter or
    the generation fails, the reply is blocked.

    A long reply is read to its end. Only text is judged: a message without any, such as a tool
    call, passes if the query does.

    Usage:

    ```python
    from trlm_retrieval.components import TRLMSafetyFilter

    safety = TRLMSafetyFilter()
    result = safety.run(query="How long do eggs boil?", replies=["Eight minutes."])
    print(result["replies"], result["decisions"][0]["reason"])
    ```
    """

    def __init__(
        self,
        inner: Any = None,
        model: str | TimeReversedLM = DEFAULT_MODEL,
        *,
        reply_filter: Any = None,
        number: int = DEFAULT_NUMBER,
        threshold: float = DEFAULT_THRESHOLD,
        reply_threshold: float = DEFAULT_REPLY_THRESHOLD,
        question_threshold: float = DEFAULT_QUESTION_THRESHOLD,
        min_unsafe: int | None = None,
        seed: int = 0,
        max_part_tokens: int = DEFAULT_MAX_PASSAGE_TOKENS,
        device: ComponentDevice | None = None,
        dtype: str | None = None,
        token: Secret | None = HUB_TOKEN,
        revision: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """
        Creates the filter; the models are loaded by `warm_up` or on the first run.

        :param inner: Judges questions. A function from a list of texts to one number each, 0 (safe)
            to 1 (unsafe), or true for unsafe; or a Haystack component whose `run(texts=…)` gives
            `scores`. By default a `QuestionFilter`.
        :param model: Generates questions: a name from `trlm models list`, a folder, a `.gguf` file,
            a hub id, or a loaded `TimeReversedLM` (which cannot be serialised).
        :param reply_filter: Judges replies; what `inner` may be. By default a `ReplyFilter`.
        :param number: Questions generated from a reply, or from each part of a long one; with 0
            there are none, and no model is loaded.
        :param threshold: A query with this score or more is unsafe.
        :param reply_threshold: A reply with this score or more is unsafe. The default suits the
            shipped reply filter.
        :param question_threshold: A generated question with this score or more is unsafe. The
            default suits the shipped inner filter, as that of `threshold` does.
        :param min_unsafe: So many unsafe questions of one part block a reply; by default half of
            `number`.
        :param seed: The same seed gives the same questions.
        :param max_part_tokens: A reply is read in parts of this many tokens.
        :param device: Where the model runs; by default CUDA, MPS or CPU, whichever is there.
        :param dtype: `float32`, `bfloat16` or `float16`; by default what suits the device.
        :param token: Key of a model hub, for models that are not open to everybody.
        :param revision: Branch, tag or commit of a hub's model; by default `main`.
        :param model_kwargs: Further arguments of transformers' `from_pretrained`, such as
            `device_map` or `quantization_config`.
        :raises ValueError: If a number is out of its range, or a filter is nothing that judges.
        """
        if number < 0:
            raise ValueError(f"number must not be negative, not {number}")
        for name, value in (
            ("threshold", threshold),
            ("reply_threshold", reply_threshold),
            ("question_threshold", question_threshold),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {value}")
        if min_unsafe is not None and not 1 <= min_unsafe <= max(number, 1):
            raise ValueError(f"min_unsafe must lie in 1..number, not {min_unsafe}")
        if max_part_tokens <= 0:
            raise ValueError(f"max_part_tokens must be positive, not {max_part_tokens}")
        for name, judge in (("inner", inner), ("reply_filter", reply_filter)):
            if judge is not None and not callable(judge) and not hasattr(judge, "run"):
                raise ValueError(f"{name} must be a function or a component with run(texts=…)")
        self.inner = QuestionFilter() if inner is None else inner
        self.reply_filter = ReplyFilter() if reply_filter is None else reply_filter
        self._hold(model, device, dtype, token, revision, model_kwargs)
        self.number = number
        self.threshold = threshold
        self.reply_threshold = reply_threshold
        self.question_threshold = question_threshold
        self.min_unsafe = min_unsafe
        self.seed = seed
        self.max_part_tokens = max_part_tokens

    def warm_up(self) -> None:
        """
        Loads the models; does nothing if they are loaded.

        :raises ModelError: If a model is not there.
        """
        for judge in (self.inner, self.reply_filter):
            if hasattr(judge, "warm_up"):
                judge.warm_up()
        if self.number:
            ModelComponent.warm_up(self)

    def _parameters(self) -> dict[str, Any]:
        judges: dict[str, Any] = {"inner": self.inner, "reply_filter": self.reply_filter}
        written = {
            name: component_to_dict(judge, name)
            if hasattr(judge, "run")
            else serialize_callable(judge)
            for name, judge in judges.items()
        }
        return ModelComponent._parameters(self) | written

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TRLMSafetyFilter":
        """
        Restores the component from what `to_dict` gave; `data` stays as it is.
        """
        parameters = dict(data.get("init_parameters", {}))
        for name in ("inner", "reply_filter"):
            if isinstance(parameters.get(name), str):
                parameters[name] = deserialize_callable(parameters[name])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    @component.output_types(
        replies=list[ChatMessage] | list[str],
        blocked=list[ChatMessage] | list[str],
        decisions=list[dict[str, Any]],
    )
    def run(self, query: str, replies: list[ChatMessage] | list[str]) -> dict[str, Any]:
        """
        Sorts replies into those that may be shown and those that may not.

        :param query: What was asked, as the generator saw it.
        :param replies: What the generator wrote.
        :returns: `replies` that pass, in order; `blocked` ones; and `decisions`, one for each reply
            that came in: the fields of `Decision`.
        :raises ModelError: If a model is not there; then nothing passes.
        """
        self.warm_up()
        decisions = self._decide(query, [reply_text(reply) for reply in replies])
        sides: dict[bool, list[Any]] = {False: [], True: []}
        for reply, decision in zip(replies, decisions, strict=True):
            sides[decision.blocked].append(reply)
        return {
            "replies": sides[False],
            "blocked": sides[True],
            "decisions": [asdict(decision) for decision in decisions],
        }

    run_async = in_thread(run)

    def _decide(self, query: str, replies: Sequence[str]) -> list[Decision]:
        prompt_score: float | None = None
        try:
            if query.strip():
                [prompt_score] = judged(self.inner, [query])
            if prompt_score is not None and prompt_score >= self.threshold:
                return [Decision(True, "prompt", prompt_score) for _ in replies]
            return self._judge_replies(prompt_score, replies)
        except Exception as error:  # noqa: BLE001 (whatever fails, nothing may pass)
            logger.error("the safety filter failed, and blocks all replies: %r", error)
            message = f"{type(error).__name__}: {error}"
            return [Decision(True, "error", prompt_score, error=message) for _ in replies]

    def _judge_replies(self, prompt_score: float | None, replies: Sequence[str]) -> list[Decision]:
        """The decisions on replies whose prompt is safe."""
        decisions = [
            Decision(False, "safe" if r.strip() else "empty", prompt_score) for r in replies
        ]
        full = [i for i, reply in enumerate(replies) if reply.strip()]
        scores = judged(self.reply_filter, [replies[i] for i in full])
        for i, score in zip(full, scores, strict=True):
            decisions[i].reply_score = score
            if score >= self.reply_threshold:
                decisions[i].blocked, decisions[i].reason = True, "reply"
        if self._lm is not None:
            self._judge_questions(self._lm, replies, decisions)
        return decisions

    def _judge_questions(
        self, lm: TimeReversedLM, replies: Sequence[str], decisions: Sequence[Decision]
    ) -> None:
        """Generate questions from the replies that pass so far, and block by them."""
        parts = [
            (decision, part)
            for reply, decision in zip(replies, decisions, strict=True)
            if not decision.blocked
            for part in parts_of(reply, lm, self.max_part_tokens)
        ]
        found = generate_queries(
            lm,
            [part for _, part in parts],
            self.number,
            direction=question_template(lm),
            sampling=Sampling(SAMPLING.temperature, SAMPLING.top_p, SAMPLING.max_tokens, self.seed),
        )
        texts = [query.text for queries in found for query in queries]
        scores = iter(judged(self.inner, texts))
        least = half(self.number) if self.min_unsafe is None else self.min_unsafe
        for (decision, _), queries in zip(parts, found, strict=True):
            part = len({question["part"] for question in decision.questions})  # those before it
            if any(query.likelihood.cut_tokens for query in queries):
                raise ValueError("max_part_tokens does not fit into the model's context")
            asked: list[dict[str, Any]] = [
                {"text": query.text, "score": next(scores), "part": part} for query in queries
            ]
            unsafe = [
                question["text"]
                for question in asked
                if question["score"] >= self.question_threshold
            ]
            decision.questions += asked
            decision.tripped += unsafe
            if len(queries) < least:
                decision.blocked, decision.reason = True, "error"
                decision.error = (
                    f"only {len(queries)} questions could be generated from part {part}"
                )
            elif len(unsafe) >= least:
                decision.blocked, decision.reason = True, "questions"


def half(number: int) -> int:
    """How many of so many questions are half of them, at least one."""
    return max(1, (number + 1) // 2)


def parts_of(reply: str, lm: TimeReversedLM, max_part_tokens: int) -> list[str]:
    """The reply in parts that the model reads whole; those that hold nothing are left out."""
    most = min(max_part_tokens, lm.max_context // 2)
    parts = []
    rest = reply
    while rest.strip():
        part, _ = leading_tokens(lm.tokenizer, rest, most)
        size = max(1, len(part))
        parts.append(rest[:size])
        rest = rest[size:]
    return [part for part in parts if part.strip()]


def judged(inner: Any, texts: list[str]) -> list[float]:
    """
    A filter's scores of some texts.

    :param inner: A function, or a component whose `run(texts=…)` gives `scores`.
    :raises ValueError: If it does not give one finite number for each text.
    """
    if not texts:
        return []
    found = inner.run(texts=texts)["scores"] if hasattr(inner, "run") else inner(texts)
    scores = [float(score) for score in found]
    if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
        raise ValueError(
            f"a filter must give one finite score for each of {len(texts)} texts; it gave "
            f"{len(scores)}: {scores[:3]}"
        )
    return scores
