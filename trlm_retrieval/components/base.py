"""What components share: serialisation, `run_async`, loading a model, reply texts."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import signature
from threading import Lock
from typing import Any, Generic, ParamSpec, TypeVar

from haystack import default_from_dict, default_to_dict
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice, Secret

from trlm_retrieval.lm import PairScorer, RemoteLM, TimeReversedLM
from trlm_retrieval.models.loading import check_model_kwargs

HUB_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)

P = ParamSpec("P")
Result = TypeVar("Result")
Scorer = TypeVar("Scorer", bound=PairScorer)
Self = TypeVar("Self", bound="SerialisableComponent")


def in_thread(run: Callable[P, Result]) -> Callable[P, Coroutine[Any, Any, Result]]:
    """Makes `run_async` from `run`: in a worker thread, so that the event loop is not blocked."""

    @wraps(run)
    async def run_async(*args: P.args, **kwargs: P.kwargs) -> Result:
        return await asyncio.to_thread(run, *args, **kwargs)

    return run_async


class SerialisableComponent:
    """
    Base of all components. Each keeps its init parameters as attributes of the same names, which is
    all that serialisation needs.
    """

    def to_dict(self) -> dict[str, Any]:
        """
        Serialises the component.

        :raises ValueError: If it was given a loaded model rather than a name.
        """
        return default_to_dict(self, **self._parameters())

    @classmethod
    def from_dict(cls: type[Self], data: dict[str, Any]) -> Self:
        """
        Restores the component from what `to_dict` gave; `data` stays as it is.
        """
        return default_from_dict(cls, data)

    def _parameters(self) -> dict[str, Any]:
        """The init parameters, in the form that YAML holds."""
        names = [name for name in signature(type(self).__init__).parameters if name != "self"]
        found = {name: getattr(self, name) for name in names}
        own = (RemoteLM, ComponentDevice, Secret)
        return {
            name: value.to_dict() if isinstance(value, own) else value
            for name, value in found.items()
        }


class ModelComponent(SerialisableComponent, Generic[Scorer]):
    """Base of the components that hold a language model."""

    _lm: Scorer | None

    def _hold(
        self,
        model: str | Scorer,
        device: ComponentDevice | None,
        dtype: str | None,
        token: Secret | None,
        revision: str | None,
        model_kwargs: dict[str, Any] | None,
        *,
        states_megabytes: int = 0,
        soft_prompt: str | None = None,
    ) -> None:
        """
        Keeps what the model is loaded with; to be called by `__init__`.

        :raises ValueError: If `states_megabytes` is negative, or `model_kwargs` holds what has an
            argument of its own, or a loaded model comes with what only loading needs.
        """
        if states_megabytes < 0:
            raise ValueError(f"states_megabytes must not be negative, not {states_megabytes}")
        check_model_kwargs(model_kwargs or {})
        for name, value in (("revision", revision), ("model_kwargs", model_kwargs)):
            if value and isinstance(model, PairScorer):
                raise ValueError(f"{name} is for a model that is loaded here: leave it out")
        self.model = model
        self.device = device
        self.dtype = dtype
        self.token = token
        self.revision = revision
        self.model_kwargs = model_kwargs
        self.states_megabytes = states_megabytes
        self.soft_prompt = soft_prompt
        self._lm = None
        self._loading = Lock()

    def warm_up(self) -> None:
        """
        Loads the model; does nothing if it is loaded.

        :raises ModelError: If the model is not there or does not fit what is asked of it.
        """
        with self._loading:
            if self._lm is None:
                lm = self._load()
                self._check(lm)
                self._lm = lm

    @property
    def _loaded(self) -> Scorer:
        """The model, loaded now if it is not yet."""
        self.warm_up()
        assert self._lm is not None
        return self._lm

    def _load(self) -> Any:
        if isinstance(self.model, PairScorer):
            return self.model
        return TimeReversedLM.from_pretrained(
            self.model,
            device=self.device.to_torch() if self.device else None,
            dtype=self.dtype,
            soft_prompt=self.soft_prompt,
            states_megabytes=self.states_megabytes,
            token=self.token.resolve_value() if self.token else None,
            revision=self.revision,
            model_kwargs=self.model_kwargs,
        )

    def _check(self, lm: Any) -> None:
        """What a component needs of its model; raises where the model cannot give it."""

    def _parameters(self) -> dict[str, Any]:
        if isinstance(self.model, TimeReversedLM):
            raise ValueError(
                f"a {type(self).__name__} that was given a loaded model cannot be serialised; "
                "save the model with TimeReversedLM.save and give the folder"
            )
        return super()._parameters()


def reply_text(reply: ChatMessage | str) -> str:
    """All text of a reply, its parts on lines of their own; empty where there is none."""
    return reply if isinstance(reply, str) else "\n".join(reply.texts)
