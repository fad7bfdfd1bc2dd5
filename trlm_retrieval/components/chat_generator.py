"""LocalChatGenerator: a chat model on this machine, named as everywhere else in this package."""

import asyncio
from pathlib import Path
from typing import Any

from haystack import component
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice, Secret
from haystack_integrations.components.generators.transformers import TransformersChatGenerator

from trlm_retrieval.components.base import HUB_TOKEN, SerialisableComponent
from trlm_retrieval.models.hub import Hub
from trlm_retrieval.models.loading import check_model_kwargs, choose_device, choose_dtype
from trlm_retrieval.models.store import resolve


@component
class LocalChatGenerator(SerialisableComponent):
    """
    Generates chat replies with a local model, found by the name `trlm models list` gives it.

    Haystack's `TransformersChatGenerator` does the work. This component only resolves the name
    when it warms up, so that a pipeline's YAML holds no path of one machine.

    Usage:

    ```python
    from haystack.dataclasses import ChatMessage
    from trlm_retrieval.components import LocalChatGenerator

    generator = LocalChatGenerator(model="smollm2-135m")
    replies = generator.run([ChatMessage.from_user("What is a generator in Python?")])["replies"]
    print(replies[0].text)
    ```
    """

    def __init__(
        self,
        model: str = "smollm2-135m",
        *,
        generation_kwargs: dict[str, Any] | None = None,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        revision: str | None = None,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """
        Creates the generator; the model is loaded by `warm_up` or on the first run.

        :param model: A name from `trlm models list`, a folder, or a hub id of a chat model.
        :param generation_kwargs: What transformers' `generate` takes; by default 128 new tokens,
            without sampling.
        :param device: Where the model runs; by default the best device there is.
        :param token: Key of a model hub, for models that are not open to everybody.
        :param revision: Branch, tag or commit of a hub's model; by default `main`.
        :param model_kwargs: Further arguments of transformers' `from_pretrained`.
        :raises ValueError: If `model_kwargs` holds what has an argument of its own.
        """
        check_model_kwargs(model_kwargs or {})
        self.model = model
        self.token = token
        self.revision = revision
        self.model_kwargs = model_kwargs
        self.generation_kwargs = {
            "max_new_tokens": 128,
            "do_sample": False,
            **(generation_kwargs or {}),
        }
        self.device = device
        self._generator: TransformersChatGenerator | None = None

    def warm_up(self) -> None:
        """
        Loads the model; does nothing if it is loaded.

        :raises ModelError: If the model is not there, or a model of this machine comes with a
            revision.
        """
        if self._generator is None:
            device = choose_device(self.device.to_torch() if self.device else None)
            token = self.token.resolve_value() if self.token else None
            source = resolve(self.model, Hub(token, self.revision))
            generator = TransformersChatGenerator(
                model=str(source),
                token=self.token,
                task="text-generation",
                device=self.device,
                generation_kwargs=dict(self.generation_kwargs),
                # Left to itself, it takes the checkpoint's, and float16 is slow on CPUs.
                huggingface_pipeline_kwargs={
                    "dtype": choose_dtype(None, device),
                    "revision": None if isinstance(source, Path) else self.revision,
                    "model_kwargs": dict(self.model_kwargs or {}),
                },
            )
            generator.warm_up()
            # The checkpoint's own length limit would contradict max_new_tokens.
            assert generator.pipeline is not None
            generator.pipeline.model.generation_config.max_length = None
            self._generator = generator

    @component.output_types(replies=list[ChatMessage])
    def run(
        self, messages: list[ChatMessage], generation_kwargs: dict[str, Any] | None = None
    ) -> dict[str, list[ChatMessage]]:
        """
        Generates replies to a conversation.

        :param messages: The conversation so far.
        :param generation_kwargs: Overrides the component's own, key by key.
        :returns: `replies`, with `model`, `finish_reason` and `usage` in their meta.
        :raises ValueError: If there are no messages.
        """
        generator, arguments = self._prepare(messages, generation_kwargs)
        return generator.run(messages, generation_kwargs=arguments)

    @component.output_types(replies=list[ChatMessage])
    async def run_async(
        self, messages: list[ChatMessage], generation_kwargs: dict[str, Any] | None = None
    ) -> dict[str, list[ChatMessage]]:
        """
        As `run`, in a worker thread, so that the event loop is not blocked.

        :param messages: The conversation so far.
        :param generation_kwargs: Overrides the component's own, key by key.
        :returns: `replies`, with `model`, `finish_reason` and `usage` in their meta.
        :raises ValueError: If there are no messages.
        """
        generator, arguments = await asyncio.to_thread(self._prepare, messages, generation_kwargs)
        return await generator.run_async(messages, generation_kwargs=arguments)

    def _prepare(
        self, messages: list[ChatMessage], generation_kwargs: dict[str, Any] | None
    ) -> tuple[TransformersChatGenerator, dict[str, Any]]:
        if not messages:
            raise ValueError("messages must hold at least one ChatMessage")
        self.warm_up()
        assert self._generator is not None
        return self._generator, {**self.generation_kwargs, **(generation_kwargs or {})}
