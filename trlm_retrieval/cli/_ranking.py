"""What a question found, and a running server that finds it. Imports nothing heavy."""

import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from trlm_retrieval.errors import RemoteError

if TYPE_CHECKING:
    from haystack import Document

Filters = dict[str, Any]
_SECONDS = 120.0  # that a server may take for an answer


@dataclass(frozen=True)
class Ranking:
    """What a question found.

    :ivar documents: all candidates, best first, with what the ranker measured in their meta.
    :ivar seconds: time of each stage, in the order of the pipeline.
    :ivar candidates: how many passages were ranked.
    """

    query: str
    documents: list["Document"]
    seconds: dict[str, float]
    candidates: int

    @property
    def before(self) -> list["Document"]:
        """The same documents in the order of the first stage."""
        return sorted(self.documents, key=lambda found: found.meta["trlm"]["first_stage_rank"])


class ServerSearcher:
    """Asks a running ``trlm serve``, which has its index and its model loaded.

    :param url: its address, as it prints it.
    :param top_k: passages to ask for.
    :param api_key: the key that it wants, if any.
    """

    def __init__(self, url: str, top_k: int, api_key: str | None) -> None:
        self.url = url.rstrip("/")
        self.top_k = top_k
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def ask(self, query: str, explain: bool = False, filters: Filters | None = None) -> Ranking:
        """Its passages for a question.

        :raises RemoteError: if it is out of reach, or refuses.
        """
        import httpx

        asked = {"query": query, "top_k": self.top_k, "explain": explain, "filters": filters}
        started = time.perf_counter()
        try:
            answer = httpx.post(
                f"{self.url}/retrieval/run",
                json=asked,
                headers=self._headers,
                timeout=_SECONDS,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(
                f"no answer from {self.url} ({error or type(error).__name__}): is `trlm serve` "
                "running there?"
            ) from error
        if answer.status_code != 200:
            key = " (set TRLM_API_KEY to its key)" if answer.status_code == 401 else ""
            raise RemoteError(f"{self.url} answered {answer.status_code}{key}: {answer.text[:200]}")
        try:
            found = answer.json()["result"]
            documents = [_document(passage) for passage in found["passages"]]
            candidates = int(found["candidates"])
        except (ValueError, KeyError, TypeError) as error:
            raise RemoteError(f"{self.url} is no `trlm serve`: it sent no passages") from error
        seconds = {"server": time.perf_counter() - started}
        return Ranking(query, documents, seconds, candidates)


_MEASURED = (
    "first_stage_rank",
    "first_stage_score",
    "log_likelihood",
    "mean_log_likelihood",
    "cut_tokens",
)


def _document(passage: dict[str, Any]) -> Any:
    """What a server sent, in the shape of Haystack's Document, which takes seconds to import."""
    measured = {name: passage[name] for name in _MEASURED}
    if passage.get("token_gains") is not None:
        measured |= {name: passage[name] for name in ("gain", "token_gains")}
    return SimpleNamespace(
        id=passage["id"],
        content=passage["content"],
        score=passage["score"],
        meta={**passage["meta"], "title": passage["title"], "trlm": measured},
    )
