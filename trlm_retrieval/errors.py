"""Errors that name what is wrong and what to do about it."""

from collections.abc import Iterator


class TRLMError(Exception):
    """Base of all errors that this package raises on purpose."""


class ModelError(TRLMError):
    """A model cannot be found, loaded, or used in the direction asked for."""


class RemoteError(TRLMError):
    """A server that scores is out of reach, refuses, or cannot tell what is asked of it."""


class PassageIndexError(TRLMError):
    """An index folder is missing, incomplete, or does not fit what is asked of it."""


class DataError(TRLMError):
    """A data set, run file or input document is malformed."""


class StatesError(TRLMError):
    """Passage states on disk are missing, damaged, of another model, or do not fit the disk."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it: Haystack wraps what its components raise."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__
