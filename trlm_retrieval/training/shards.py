"""Texts as tokens on disk: files of two bytes a token, memory-mapped when read.

A folder holds ``manifest.json``, the tokenizer, and shards for training and for measuring. Tokens
stand in natural order; the reading order is chosen when they are read. Each text ends with the
tokenizer's end token.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import write_text
from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.training.corpus import Section
from trlm_retrieval.training.tokenizer import end_id, load_tokenizer

Split = Literal["train", "held_out"]

_MANIFEST = "manifest.json"
_TOKENIZER = "tokenizer"
_SHARD_TOKENS = 1 << 25
_TEXTS_AT_ONCE = 1024


def pack(
    sections: Iterable[Section],
    tokenizer: Any,
    folder: Path,
    *,
    sources: Sequence[str] = (),
    shard_tokens: int = _SHARD_TOKENS,
) -> dict[Split, int]:
    """Write sections as shards; the manifest comes last, so a killed run leaves none.

    :param sources: names of where the text comes from, for the record.
    :param shard_tokens: a shard is closed at the first text that brings it to this size.
    :returns: tokens of each split.
    :raises ValueError: if the tokenizer has more than 65,536 tokens.
    """
    if len(tokenizer) > 1 << 16:
        raise ValueError(f"shards take tokenizers of up to 65,536 tokens, not {len(tokenizer)}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)
    tokenizer.save_pretrained(folder / _TOKENIZER)
    writers: dict[Split, _Writer] = {
        split: _Writer(folder, split, shard_tokens) for split in ("train", "held_out")
    }
    encoder, end = PairEncoder(tokenizer, {}, 0), end_id(tokenizer)
    remaining = iter(sections)
    while chunk := list(islice(remaining, _TEXTS_AT_ONCE)):
        encoded = encoder.encode_texts([section.running_text for section in chunk])
        for section, ids in zip(chunk, encoded, strict=True):
            writers["held_out" if section.held_out else "train"].add([*ids, end])
    shards = {split: writer.close() for split, writer in writers.items()}
    write_text(
        folder / _MANIFEST,
        json.dumps({"sources": list(sources), "shards": shards}, indent=2) + "\n",
    )
    return {split: sum(files.values()) for split, files in shards.items()}


class _Writer:
    """Fills one shard after the other."""

    def __init__(self, folder: Path, split: Split, shard_tokens: int) -> None:
        self._folder, self._split, self._shard_tokens = folder, split, shard_tokens
        self._parts: list[np.ndarray] = []
        self._waiting = 0
        self._written: dict[str, int] = {}

    def add(self, ids: list[int]) -> None:
        self._parts.append(np.array(ids, np.uint16))
        self._waiting += len(ids)
        if self._waiting >= self._shard_tokens:
            self._write()

    def close(self) -> dict[str, int]:
        if self._waiting:
            self._write()
        return self._written

    def _write(self) -> None:
        name = f"{self._split}-{len(self._written):05d}.bin"
        np.concatenate(self._parts).tofile(self._folder / name)
        self._written[name] = self._waiting
        self._parts, self._waiting = [], 0


class Shards:
    """The tokens of one split as one long sequence.

    :raises DataError: if the folder is not complete, or holds no tokens of this split.
    """

    def __init__(self, folder: Path, split: Split) -> None:
        self.tokenizer = load_tokenizer(folder / _TOKENIZER)
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            files: dict[str, int] = manifest["shards"][split]
            self.sources: list[str] = manifest["sources"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{folder} holds no finished shards; `trlm train pack` writes them"
            ) from error
        for name, tokens in files.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != 2 * tokens:
                raise DataError(
                    f"{folder / name} is missing or damaged; write the shards again with "
                    "`trlm train pack`"
                )
        if not files:
            raise DataError(f"{folder} holds no text for the split {split!r}: more is needed")
        self._maps = [np.memmap(folder / name, np.uint16, mode="r") for name in files]
        self._ends = np.cumsum(list(files.values()))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens ``start`` to ``stop`` of the whole sequence, int64 of shape (tokens,)."""
        return np.concatenate(list(self._parts(start, stop))).astype(np.int64)

    def _parts(self, start: int, stop: int) -> Iterator[np.ndarray]:
        first = int(np.searchsorted(self._ends, start, side="right"))
        for tokens, end in zip(self._maps[first:], self._ends[first:], strict=True):
            begin = int(end) - len(tokens)
            yield tokens[max(start - begin, 0) : stop - begin]
            if end >= stop:
                return
