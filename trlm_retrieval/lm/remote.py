"""The same scores from a server: any that speaks OpenAI's completions protocol and can tell the
log-probabilities of a prompt's tokens, as vLLM can.

Token ids are sent, not text: the tokenizer works here, so what is scored is exactly what a local
model would read, for reversed models too.
"""

import asyncio
from collections.abc import Sequence
from threading import Lock, Thread
from typing import Any, Literal, Protocol

import httpx
import numpy as np
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)
from transformers import AutoTokenizer

from trlm_retrieval.errors import ModelError, RemoteError
from trlm_retrieval.lm.circuit_breaker import CircuitBreaker
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.lm.scorer import PairScorer
from trlm_retrieval.models.loading import Orders
from trlm_retrieval.models.store import resolve

Protocols = Literal["echo", "prompt_logprobs"]

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 30.0  # seconds, between two attempts
_REMEDY = (
    "use a server that returns them, such as vLLM (protocol='echo', or 'prompt_logprobs'), or "
    "score with a local TimeReversedLM"
)

Sequences = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]


class HasSecret(Protocol):
    """What holds a key: Haystack's ``Secret``, for one."""

    def resolve_value(self) -> Any | None:
        """The key."""

    def to_dict(self) -> dict[str, Any]:
        """Where the key is found; never the key itself."""


class RemoteLM(PairScorer):
    """Scores a query given a passage with a model behind an OpenAI-compatible server::

        lm = RemoteLM("http://127.0.0.1:8000/v1", "smollm2-135m", tokenizer="smollm2-135m")
        [likelihood] = lm.score([("who wrote it?", "It was written by Ada Lovelace.")])

    Threads may share one.

    :param base_url: of the server, ending before ``/completions``.
    :param model: the model's name at the server.
    :param tokenizer: of the same model: the name of a pulled model, a folder, a hub id, or a fast
        tokenizer.
    :param api_key: Haystack's ``Secret``, or anything with its ``resolve_value``; sent as a bearer
        token.
    :param order: reading order that the model was trained in.
    :param start_tokens: see :class:`~trlm_retrieval.lm.scorer.PairScorer`.
    :param max_context: longest sequence that the server takes, in tokens; one place is used for
        the token that the protocol makes a server generate.
    :param protocol: ``echo`` asks for the prompt's tokens back with ``logprobs``;
        ``prompt_logprobs`` is vLLM's own way.
    :param batch_size: sequences in one request.
    :param concurrency: requests under way at the same time, over all threads.
    :param timeout: seconds for one attempt.
    :param attempts: how often a request is sent before it counts as failed; the waits between
        them grow, unless the server says how long to wait.
    :param most_failures: failed attempts in a row, after which the server is left alone.
    :param cooldown: seconds for which it is.
    :raises ValueError: if a number is not positive, or the protocol unknown.
    :raises ModelError: if the tokenizer is not there, or cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        tokenizer: Any,
        *,
        api_key: HasSecret | None = None,
        order: Orders = "forward",
        start_tokens: dict[str, str] | None = None,
        max_context: int = 2048,
        protocol: Protocols = "echo",
        batch_size: int = 16,
        concurrency: int = 4,
        timeout: float = 60.0,
        attempts: int = 4,
        most_failures: int = 8,
        cooldown: float = 30.0,
    ) -> None:
        for name, value in (
            ("max_context", max_context),
            ("batch_size", batch_size),
            ("concurrency", concurrency),
            ("timeout", timeout),
            ("attempts", attempts),
            ("most_failures", most_failures),
            ("cooldown", cooldown),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if protocol not in ("echo", "prompt_logprobs"):
            raise ValueError(f"protocol must be 'echo' or 'prompt_logprobs', not {protocol!r}")
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, not {base_url!r}")
        self._parameters: dict[str, Any] = {
            "base_url": base_url,
            "model": model,
            "tokenizer": tokenizer,
            "order": order,
            "start_tokens": start_tokens,
            "max_context": max_context,
            "protocol": protocol,
            "batch_size": batch_size,
            "concurrency": concurrency,
            "timeout": timeout,
            "attempts": attempts,
            "most_failures": most_failures,
            "cooldown": cooldown,
        }
        loaded = _load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer
        super().__init__(loaded, order, start_tokens, max_context - 1)
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.protocol = protocol
        self.batch_size = batch_size
        self.fingerprint = f"remote:{self.base_url}:{model}"
        self._api_key = api_key
        self._timeout = timeout
        self._attempts = attempts
        self._breaker = CircuitBreaker(most_failures, cooldown)
        self._places = asyncio.Semaphore(concurrency)
        self._connection: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._connecting = Lock()

    def to_dict(self) -> dict[str, Any]:
        """What Haystack's ``default_from_dict`` makes it of again.

        :raises ValueError: if it was given a loaded tokenizer, or a key that is not to be written.
        """
        if not isinstance(self._parameters["tokenizer"], str):
            raise ValueError(
                "a RemoteLM that was given a loaded tokenizer cannot be serialised; give its name "
                "or folder"
            )
        key = self._api_key.to_dict() if self._api_key is not None else None
        return {
            "type": "trlm_retrieval.lm.remote.RemoteLM",
            "init_parameters": {**self._parameters, "api_key": key},
        }

    def log_probs(
        self,
        sequences: Sequences,
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """Log-probabilities of each target token after its context, in nats.

        May be called from any thread, also from one that runs an event loop (which then waits).

        :param sequences: (context, target) token ids, contexts not empty, in the model's reading
            order.
        :returns: one float32 array of shape (target tokens,) for each, in input order.
        :raises RemoteError: if the server does not answer, refuses, or cannot tell the
            log-probabilities of a prompt.
        """
        loop, client = self._connect()
        found = asyncio.run_coroutine_threadsafe(self._all(client, sequences, progress), loop)
        try:
            return found.result()
        finally:
            found.cancel()  # where the caller was interrupted

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._connecting:
            if self._connection is not None:
                loop, client = self._connection
                asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()
                loop.call_soon_threadsafe(loop.stop)
                self._connection = None

    def _connect(self) -> tuple[asyncio.AbstractEventLoop, httpx.AsyncClient]:
        """An event loop in a thread of its own, and the client that lives in it."""
        with self._connecting:
            if self._connection is None:
                headers = {}
                if self._api_key is not None:
                    headers["Authorization"] = f"Bearer {self._api_key.resolve_value()}"
                client = httpx.AsyncClient(headers=headers, timeout=self._timeout)
                loop = asyncio.new_event_loop()
                Thread(target=loop.run_forever, name="trlm-remote", daemon=True).start()
                self._connection = (loop, client)
            return self._connection

    async def _all(
        self, client: httpx.AsyncClient, sequences: Sequences, progress: Progress | None
    ) -> list[np.ndarray]:
        batches = [
            sequences[start : start + self.batch_size]
            for start in range(0, len(sequences), self.batch_size)
        ]

        async def ask(batch: Sequences) -> list[np.ndarray]:
            found = await self._ask(client, batch)
            if progress:
                progress(len(batch))
            return found

        tasks = [asyncio.create_task(ask(batch)) for batch in batches]
        try:
            return [one for found in await asyncio.gather(*tasks) for one in found]
        finally:
            for task in tasks:  # after a failure the others are of no use
                task.cancel()

    async def _ask(self, client: httpx.AsyncClient, batch: Sequences) -> list[np.ndarray]:
        """The log-probabilities of one request's sequences."""
        wanted: dict[str, Any] = (
            {"echo": True, "logprobs": 1} if self.protocol == "echo" else {"prompt_logprobs": 0}
        )
        body = {
            "model": self.model,
            "prompt": [[*context, *target] for context, target in batch],
            "max_tokens": 1,
            "temperature": 0.0,
            **wanted,
        }
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            wait=_wait,
            retry=retry_if_exception_type(_Transient),
            reraise=True,
        )
        try:
            answer: Any = await retrying(self._attempt, client, body)
        except _Transient as error:
            raise RemoteError(
                f"{self.base_url} could not be asked in {self._attempts} attempts: {error}"
            ) from error
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])
            return [
                self._read(choice, context, target)
                for choice, (context, target) in zip(choices, batch, strict=True)
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RemoteError(
                f"{self.base_url} did not return log-probabilities for the tokens of its prompts: "
                f"{_REMEDY}"
            ) from error

    async def _attempt(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Any:
        """The answer to one request.

        :raises _Transient: if it may be worth another try.
        :raises RemoteError: if it is not.
        """
        async with self._places:
            if not self._breaker.allows():
                raise RemoteError(
                    f"{self.base_url} failed {self._breaker.failures} times in a row and is left "
                    f"alone for {self._breaker.cooldown:g} s; see whether it is running"
                )
            try:
                response = await client.post(f"{self.base_url}/completions", json=body)
            except httpx.TransportError as error:
                self._breaker.failed()
                raise _Transient(f"{type(error).__name__} {error}".strip()) from error
        if response.status_code in _TRANSIENT:
            if response.status_code != 429:  # a server that counts its requests is well
                self._breaker.failed()
            raise _Transient(_said(response), response.headers.get("retry-after", ""))
        self._breaker.succeeded()
        if response.status_code in (401, 403):
            raise RemoteError(f"{self.base_url} refuses the key ({_said(response)}); see api_key")
        if response.status_code != 200:
            raise RemoteError(
                f"{self.base_url} refuses to score ({_said(response)}); if that is because it "
                f"gives no log-probabilities for the tokens of a prompt: {_REMEDY}"
            )
        try:
            return response.json()
        except ValueError as error:
            raise RemoteError(f"{self.base_url} answered with something else than JSON") from error

    def _read(
        self, choice: dict[str, Any], context: Sequence[int], target: Sequence[int]
    ) -> np.ndarray:
        """The target's log-probabilities in one choice, shape (target tokens,).

        :raises ValueError: if they are not there; so do KeyError, TypeError and IndexError.
        """
        prompt = [*context, *target]
        if self.protocol == "echo":
            given = choice["logprobs"]["token_logprobs"]
            # The server may add the token that it generated, and nothing else.
            if len(given) not in (len(prompt), len(prompt) + 1):
                raise ValueError(f"{len(given)} log-probabilities for {len(prompt)} tokens")
        else:
            entries = choice["prompt_logprobs"]
            if len(entries) != len(prompt):
                raise ValueError(f"{len(entries)} log-probabilities for {len(prompt)} tokens")
            given = [
                entry and entry[str(token)]["logprob"]
                for entry, token in zip(entries, prompt, strict=True)
            ]
        found = np.asarray(given[len(context) : len(prompt)], dtype=np.float32)
        if not np.isfinite(found).all() or (found > 0).any():
            raise ValueError("not log-probabilities")
        return found


class _Transient(Exception):
    """A failure that may pass; ``retry_after`` is how long the server said to wait, in seconds."""

    def __init__(self, message: str, retry_after: str = "") -> None:
        super().__init__(message)
        self.retry_after = float(retry_after) if retry_after.isdecimal() else None


_growing = wait_random_exponential(multiplier=0.5, max=_LONGEST_WAIT)


def _wait(state: RetryCallState) -> float:
    """Seconds until the next attempt."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Transient) and error.retry_after is not None:
        return min(error.retry_after, _LONGEST_WAIT)
    return _growing(state)


def _said(response: httpx.Response) -> str:
    return f"status {response.status_code}: {' '.join(response.text[:300].split())}"


def _load_tokenizer(name: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(str(resolve(name)), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load a tokenizer from {name!r}: {error}; name the folder, the pulled model or "
            "the hub id of the model that the server runs"
        ) from error
