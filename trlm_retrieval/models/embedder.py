"""Sentence embeddings for the dense half of the first stage."""

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.hub import Hub
from trlm_retrieval.models.kinds import check_can_embed, kind_of
from trlm_retrieval.models.source import embedder_source
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.text.normalise import normalise

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from trlm_retrieval.models.plain_embedder import PlainEmbedder

logger = logging.getLogger(__name__)

Vectors = npt.NDArray[np.float32]

# Texts embedded between two steps of the progress bar.
_CHUNK = 512
# No text needs more than this many characters for each token the model reads. It bounds what
# tokenising a huge text costs.
_CHARACTERS_PER_TOKEN = 100


class Embedder(Protocol):
    """What a passage index needs of an embedder; any object with these three works."""

    @property
    def name(self) -> str:
        """The name written to the index, which loads the same embedder again."""

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""

    def embed(self, texts: Sequence[str], show_progress: bool = False) -> Vectors:
        """Return float32 vectors of shape (len(texts), dimension)."""


class SentenceEmbedder:
    """
    A model that embeds sentences, loaded on first use.

    Those of the common shape, as minilm and bge-small are, are read through transformers; others
    need the extra `embedders`, which brings sentence-transformers.

    ```python
    from trlm_retrieval.models.embedder import SentenceEmbedder

    vectors = SentenceEmbedder("minilm").embed(["one passage", "another"])   # (2, 384)
    ```

    Unpaired surrogates, which no tokenizer takes, are read as U+FFFD. Safe to call from several
    threads.

    :param model: a name known to `trlm models`, a folder, or a hub id.
    :param device: "cpu", "cuda", "mps", ...; None takes the best one present.
    :param batch_size: texts of full length in one pass through the model; None takes what suits
        the device.
    :param token: key of a model hub, for models that are not open to everybody.
    :param revision: branch, tag or commit of a hub's model; by default ``main``. An index keeps the
        name alone: to open one, give the embedder to ``PassageIndex.open``.
    """

    def __init__(
        self,
        model: str = "minilm",
        *,
        device: str | None = None,
        batch_size: int | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> None:
        if batch_size is not None and batch_size <= 0:
            raise ValueError(f"batch_size must be greater than 0, but got {batch_size}")
        self.name = model
        self.device = device
        self._given: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
        self._hub = Hub(token, revision)
        self._model: SentenceTransformer | PlainEmbedder | None = None
        # Fast tokenizers change their own state while they encode.
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """
        Numbers in a vector. Loads the model.

        :raises ModelError: if the model cannot be loaded.
        """
        with self._lock:
            dimension = self._load().get_embedding_dimension()
        if dimension is None:
            raise ValueError(f"model {self.name!r} does not say the size of its embeddings")
        return dimension

    def embed(self, texts: Sequence[str], show_progress: bool = False) -> Vectors:
        """
        Embed texts. A warning is logged where a text is longer than the model reads.

        :param texts: the texts.
        :param show_progress: show a bar with the time left.
        :returns: float32 vectors of length 1, shape (len(texts), dimension).
        :raises ModelError: if the model cannot be loaded.
        """
        with self._lock, progress_bar("Embedding", len(texts), show_progress) as advance:
            model = self._load()
            rows = []
            cut = 0
            for start in range(0, len(texts), _CHUNK):
                chunk = [normalise(text) for text in texts[start : start + _CHUNK]]
                cut += _cut(chunk, model)
                rows.append(
                    model.encode(
                        chunk,
                        show_progress_bar=False,
                        convert_to_numpy=True,
                        normalize_embeddings=True,
                        **self._given,
                    ).astype(np.float32, copy=False)
                )
                advance(len(chunk))
        if cut:
            logger.warning(
                "%d of %d texts are longer than the %s tokens that %s reads: only their beginning "
                "is embedded. Split them first, for example with Haystack's DocumentSplitter.",
                cut,
                len(texts),
                model.max_seq_length,
                self.name,
            )
        return np.concatenate(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)

    def _load(self) -> "SentenceTransformer | PlainEmbedder":
        if self._model is None:
            source = embedder_source(self.name, self._hub)
            check_can_embed(self.name, kind_of(source, self._hub))
            try:
                self._model = _read(source, self.device, self._hub)
            except (OSError, ValueError) as error:
                raise ModelError(
                    f"cannot load the embedder {self.name!r} ({error}): give the folder or hub id "
                    "of a sentence-transformers model, or pull one with `trlm models pull minilm`"
                ) from error
        return self._model


def _read(
    source: str | Path, device: str | None, hub: Hub
) -> "SentenceTransformer | PlainEmbedder":
    """The embedder of a folder or hub id, by the lightest way that gives its vectors."""
    from trlm_retrieval.models.plain_embedder import PlainEmbedder, is_plain

    if isinstance(source, Path) and is_plain(source):
        return PlainEmbedder(source, device)
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(source), device=device, **hub.arguments(source))


@lru_cache(maxsize=4)
def shared_embedder(name: str) -> SentenceEmbedder:
    """Return the embedder of that name, the same one for all indexes and components."""
    return SentenceEmbedder(name)


def _cut(texts: list[str], model: "SentenceTransformer | PlainEmbedder") -> int:
    """Bound the texts in place to what the model can need; return how many it will not read to
    their end."""
    limit = model.max_seq_length
    if limit is None:
        return 0
    whole = [len(text) for text in texts]
    texts[:] = [text[: limit * _CHARACTERS_PER_TOKEN] for text in texts]
    # A token covers at least one character: only longer texts can have too many tokens.
    doubtful = [text for text in texts if len(text) + 2 > limit]
    encoded = model.tokenizer(doubtful, truncation=False, verbose=False) if doubtful else {}
    tokens = iter(encoded.get("input_ids", []))
    return sum(
        (len(text) + 2 > limit and len(next(tokens)) > limit) or len(text) < length
        for text, length in zip(texts, whole, strict=True)
    )
