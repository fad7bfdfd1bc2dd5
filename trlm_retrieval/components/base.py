"""What the components that hold a TimeReversedLM share: the model, its name, texts of replies."""

from typing import Any, TypeVar

from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice

from trlm_retrieval.lm import PairScorer, RemoteLM, TimeReversedLM

Scorer = TypeVar("Scorer", bound=PairScorer)


def load_lm(
    model: str | Scorer,
    device: ComponentDevice | None,
    dtype: str | None,
    states_megabytes: int = 2048,
    soft_prompt: str | None = None,
) -> Scorer | TimeReversedLM:
    """
    The model itself where it was given, else the one of this name.

    :param states_megabytes: Its memory for passage states; a model that was given keeps its own.
    :param soft_prompt: Folder of a soft prompt that it is to read; only for a name.
    :raises ModelError: If the model or soft prompt is not there, or they do not fit each other.
    """
    if isinstance(model, PairScorer):
        return model
    return TimeReversedLM.from_pretrained(
        model,
        device=device.to_torch() if device else None,
        dtype=dtype,
        soft_prompt=soft_prompt,
        states_megabytes=states_megabytes,
    )


def serialisable(component: Any) -> dict[str, Any]:
    """
    The parameters `model`, `device` and `dtype` of a component, for its `to_dict`.

    :raises ValueError: If it was given a loaded model rather than a name.
    """
    if isinstance(component.model, TimeReversedLM):
        raise ValueError(
            f"a {type(component).__name__} that was given a loaded model cannot be serialised; "
            "save the model with TimeReversedLM.save and give the folder"
        )
    model = component.model
    return {
        "model": model.to_dict() if isinstance(model, RemoteLM) else model,
        "device": component.device.to_dict() if component.device else None,
        "dtype": component.dtype,
    }


def with_device(data: dict[str, Any]) -> dict[str, Any]:
    """What a `from_dict` is given, its device restored."""
    parameters = data.get("init_parameters", {})
    if parameters.get("device") is not None:
        parameters["device"] = ComponentDevice.from_dict(parameters["device"])
    return data


def reply_text(reply: ChatMessage | str) -> str:
    """All text of a reply, its parts on lines of their own; empty where there is none."""
    return reply if isinstance(reply, str) else "\n".join(reply.texts)
