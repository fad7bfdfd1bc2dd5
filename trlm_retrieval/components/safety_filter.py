"""TRLMSafetyFilter: a filter that judges questions also sees what a reply really answers."""

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
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries, question_template
from trlm_retrieval.models.source import DEFAULT_MODEL
from trlm_retrieval.text.tokens import leading_tokens

logger = logging.getLogger(__name__)

Judge = Callable[[list[str]], Sequence[float | bool]]

SAMPLING = Sampling(max_tokens=24)
DEFAULT_NUMBER = 8
DEFAULT_THRESHOLD = 0.6
DEFAULT_QUESTION_THRESHOLD = 0.62  # chosen by eval/studies/choose_safety.py


@dataclass
class Decision:
    """
    What was decided about one reply, and why.

    :ivar blocked: Whether the reply is held back.
    :ivar reason: `prompt` (the query itself is unsafe), `questions` (what the reply answers is),
        `error` (something failed, so nothing passes), `empty` (nothing to judge) or `safe`.
    :ivar prompt_score: The inner filter's score of the query; None where it was not judged.
    :ivar questions: For each generated question its `text`, `score`, and the `part` of the reply,
        from 0, that it was generated from.
    :ivar tripped: The questions that are unsafe.
    :ivar error: What failed.
    """

    blocked: bool
    reason: str
    prompt_score: float | None = None
    questions: list[dict[str, Any]] = field(default_factory=list)
    tripped: list[str] = field(default_factory=list)
    error: str | None = None


@component
class TRLMSafetyFilter(ModelComponent[TimeReversedLM]):
    """
    Holds back replies to unsafe questions, also where the prompt hides the question.

    An input filter judges questions. A jailbreak hides its question in the prompt, but the reply
    gives it away: questions are generated back from the reply and judged as well. After algorithm
    12 of *Time-Reversal Provides Unsupervised Feedback to LLMs* (arXiv 2412.02626). Nothing passes
    because of a failure: where the inner filter or the generation fails, the reply is blocked.

    A long reply is read to its end, in parts, each with questions of its own. Only text is judged:
    a message without any, such as a tool call, passes if the query does.

    Usage:

    ```python
    from trlm_retrieval.components import TRLMSafetyFilter

    safety = TRLMSafetyFilter(number=4)
    result = safety.run(query="How long do eggs boil?", replies=["Eight minutes."])
    print(result["replies"], result["decisions"][0]["reason"])
    ```
    """

    def __init__(
        self,
        inner: Any = None,
        model: str | TimeReversedLM = DEFAULT_MODEL,
        *,
        number: int = DEFAULT_NUMBER,
        threshold: float = DEFAULT_THRESHOLD,
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
        :param number: Questions generated from a reply, or from each part of a long one; 0 judges
            the query alone.
        :param threshold: A query with this score or more is unsafe.
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
        :raises ValueError: If a number is out of its range, or `inner` is nothing that judges.
        """
        if number < 0:
            raise ValueError(f"number must not be negative, not {number}")
        for name, value in (("threshold", threshold), ("question_threshold", question_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {value}")
        if min_unsafe is not None and not 1 <= min_unsafe <= max(number, 1):
            raise ValueError(f"min_unsafe must lie in 1..number, not {min_unsafe}")
        if max_part_tokens <= 0:
            raise ValueError(f"max_part_tokens must be positive, not {max_part_tokens}")
        if inner is not None and not callable(inner) and not hasattr(inner, "run"):
            raise ValueError("inner must be a function or a component with run(texts=…)")
        self.inner = QuestionFilter() if inner is None else inner
        self._hold(model, device, dtype, token, revision, model_kwargs)
        self.number = number
        self.threshold = threshold
        self.question_threshold = question_threshold
        self.min_unsafe = min_unsafe
        self.seed = seed
        self.max_part_tokens = max_part_tokens

    def warm_up(self) -> None:
        """
        Loads the models; does nothing if they are loaded.

        :raises ModelError: If a model is not there.
        """
        if hasattr(self.inner, "warm_up"):
            self.inner.warm_up()
        if self.number:
            ModelComponent.warm_up(self)

    def _parameters(self) -> dict[str, Any]:
        inner: Any = self.inner
        written = (
            component_to_dict(inner, "inner")
            if hasattr(inner, "run")
            else serialize_callable(inner)
        )
        return ModelComponent._parameters(self) | {"inner": written}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "TRLMSafetyFilter":
        """
        Restores the component from what `to_dict` gave; `data` stays as it is.
        """
        parameters = dict(data.get("init_parameters", {}))
        if isinstance(parameters.get("inner"), str):
            parameters["inner"] = deserialize_callable(parameters["inner"])
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
        if self._lm is None:
            return [Decision(False, "safe", prompt_score) for _ in replies]
        parts = [
            (i, part)
            for i, reply in enumerate(replies)
            for part in parts_of(reply, self._lm, self.max_part_tokens)
        ]
        found = generate_queries(
            self._lm,
            [part for _, part in parts],
            self.number,
            direction=question_template(self._lm),
            sampling=Sampling(SAMPLING.temperature, SAMPLING.top_p, SAMPLING.max_tokens, self.seed),
        )
        texts = [query.text for queries in found for query in queries]
        scores = iter(judged(self.inner, texts))
        decisions = [
            Decision(False, "safe" if r.strip() else "empty", prompt_score) for r in replies
        ]
        least = half(self.number) if self.min_unsafe is None else self.min_unsafe
        for (reply, _), queries in zip(parts, found, strict=True):
            decision = decisions[reply]
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
        return decisions


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
    The inner filter's scores of some questions.

    :param inner: A function, or a component whose `run(texts=…)` gives `scores`.
    :raises ValueError: If it does not give one finite number for each text.
    """
    if not texts:
        return []
    found = inner.run(texts=texts)["scores"] if hasattr(inner, "run") else inner(texts)
    scores = [float(score) for score in found]
    if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
        raise ValueError(
            f"the inner filter must give one finite score for each of {len(texts)} texts; it gave "
            f"{len(scores)}: {scores[:3]}"
        )
    return scores
