"""Whether a hub has a model, told within seconds and before a library begins to try and retry."""

import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trlm_retrieval.errors import ModelError

SECONDS = 4.0
"""How long a hub may take to answer."""

_ABSENT = (401, 403, 404)  # what hubs answer about a model that is not there or not for everybody


@dataclass(frozen=True)
class Hub:
    """How models are taken from a hub.

    :ivar token: the key; None is that of HF_TOKEN, or of who has logged in here.
    :ivar revision: a branch, a tag or a commit; None is ``main``.
    """

    token: str | None = None
    revision: str | None = None

    def arguments(self, source: str | Path) -> dict[str, Any]:
        """What a loader of transformers is told, where the source is no path of this machine."""
        if isinstance(source, Path):
            return {}
        return {"token": self.token, "revision": self.revision or "main"}


ANYBODY = Hub()


@cache
def locate(model: str, hub: Hub = ANYBODY) -> str | Path:
    """What loaders take for a hub id: itself, or the copy kept here if the hub cannot be reached.

    :param model: written ``owner/name``.
    :raises ModelError: if the hub has no such model, or cannot be reached and there is no copy.
    """
    kept = _kept(model, hub.revision)
    wanted = f"{model!r}" + (f" at revision {hub.revision!r}" if hub.revision else "")
    if _offline():
        if kept is None:
            raise ModelError(
                f"cannot load the model {wanted}: there is no copy of it here, and HF_HUB_OFFLINE "
                "forbids to ask the hub"
            )
        return kept
    answer = _ask(model, hub)
    if isinstance(answer, int) and answer not in _ABSENT and answer < 500:
        return model
    if kept is not None:
        return kept
    if isinstance(answer, int) and answer in _ABSENT:
        raise ModelError(
            f"cannot load the model {wanted}: the hub has no such model that is open to you; "
            "check the name (`trlm models list` names those that need no hub) and the revision, or "
            "give a token, or log in with `hf auth login` or HF_TOKEN"
        )
    raise ModelError(
        f"cannot load the model {wanted}: it could not be had from a model hub ({answer}); check "
        "the network, or take a model that needs no hub (`trlm models list`)"
    )


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _ask(model: str, hub: Hub) -> int | str:
    """The status that the hub answers for the model's configuration, or why there is none."""
    import httpx
    from huggingface_hub import get_token

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = hub.token or get_token()  # of HF_TOKEN, or of who has logged in here
    answers: list[int | str] = []

    def ask() -> None:
        try:
            answers.append(
                httpx.head(
                    f"{endpoint}/{model}/resolve/{hub.revision or 'main'}/config.json",
                    headers={"Authorization": f"Bearer {token}"} if token else {},
                    timeout=SECONDS,
                ).status_code
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            answers.append(str(error) or type(error).__name__)

    # Name lookup knows no timeout, so it is left behind in a thread of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    return answers[0] if answers else f"no answer within {SECONDS:.0f} seconds"


def _kept(model: str, revision: str | None) -> Path | None:
    """The folder of the copy that the hub's library keeps, if it has a configuration."""
    from huggingface_hub import try_to_load_from_cache

    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    cache_folder = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    found = try_to_load_from_cache(model, "config.json", cache_dir=cache_folder, revision=revision)
    return Path(found).parent if isinstance(found, str) else None
