"""What filters share that judge a text piece by piece: a linear head on sentence embeddings."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from threading import Lock
from typing import ClassVar

import numpy as np

from trlm_retrieval.components.base import SerialisableComponent
from trlm_retrieval.components.linear_head import LinearHead
from trlm_retrieval.models.embedder import SentenceEmbedder

_PIECE = 250  # characters: no more tokens than MiniLM reads, whatever the language


class PieceFilter(SerialisableComponent):
    """Base of the filters that ship."""

    _shipped: ClassVar[Path]

    def __init__(self, head: str | None = None) -> None:
        self.head = head
        self._head: LinearHead | None = None
        self._embedder: SentenceEmbedder | None = None
        self._loading = Lock()

    def warm_up(self) -> None:
        """
        Loads head and embedder; does nothing if they are loaded.

        :raises ModelError: If one of them is not there.
        """
        with self._loading:
            if self._head is None:
                head = LinearHead.load(Path(self.head) if self.head else self._shipped)
                self._embedder = SentenceEmbedder(head.embedder)
                self._head = head

    def _logits(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text the log odds of its pieces, shape (pieces,)."""
        self.warm_up()
        assert self._head is not None and self._embedder is not None
        if not texts:
            return []
        pieces = [pieces_of(text) for text in texts]
        vectors = self._embedder.embed([piece for of_text in pieces for piece in of_text])
        return np.split(self._head.logits(vectors), np.cumsum([len(p) for p in pieces])[:-1])


def pieces_of(text: str) -> list[str]:
    """The text in pieces that the embedder reads whole, to its end; at least one."""
    return wrap(text, _PIECE) or [text]
