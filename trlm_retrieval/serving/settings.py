"""The settings that a server starts with."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServingSettings:
    """Settings of one server.

    :ivar index: folder of the passage index.
    :ivar model: what ranks and attributes; None leaves what the pipelines say.
    :ivar candidates: passages that each first stage finds, and that are reranked.
    :ivar states_megabytes: memory for passage states, all endpoints together; 0 keeps none.
    :ivar workers: requests that the models work on at the same time.
    :ivar queue: requests that may wait for a worker; one more is answered 503.
    :ivar timeout: the most seconds that a request waits for a worker, and that it then takes.
    :ivar max_documents: the most documents of a rerank request.
    :ivar max_body: the largest request body, in bytes.
    :ivar api_key: what a request must carry as ``Authorization: Bearer …``; None lets all in.
    :raises ValueError: if a number is out of its range, or the key is blank.
    """

    index: Path
    model: str | None = None
    candidates: int = 20
    states_megabytes: int = 2048
    workers: int = 1
    queue: int = 32
    timeout: float = 60.0
    max_documents: int = 1000
    max_body: int = 8 * 1024**2
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("candidates", "workers", "timeout", "max_documents", "max_body"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("states_megabytes", "queue"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("api_key must not be blank; unset TRLM_API_KEY to serve without a key")
