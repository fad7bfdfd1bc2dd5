"""FilesToPassages: the beginning of an indexing pipeline."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from haystack import Document, component

from trlm_retrieval.components.base import SerialisableComponent, in_thread
from trlm_retrieval.passage_index.reading import DEFAULT_MAX_CHARACTERS, Duplicates, read

logger = logging.getLogger(__name__)


@component
class FilesToPassages(SerialisableComponent):
    """
    Reads files and folders as passages, just as `trlm index` does.

    Usage:

    ```python
    from trlm_retrieval.components import FilesToPassages

    found = FilesToPassages().run(["docs/", "manual.pdf"])
    passages, skipped = found["documents"], found["skipped"]
    ```
    """

    def __init__(
        self, max_characters: int = DEFAULT_MAX_CHARACTERS, *, duplicates: Duplicates = "fail"
    ) -> None:
        """
        Creates the reader.

        :param max_characters: Longer documents are cut into passages of at most this many
            characters.
        :param duplicates: A second document of the same id: `fail`, or which one is kept, the
            `first` or the `last`.
        :raises ValueError: If `max_characters` is not positive, or `duplicates` is none of these.
        """
        if max_characters <= 0:
            raise ValueError(f"max_characters must be positive, not {max_characters}")
        if duplicates not in ("fail", "first", "last"):
            raise ValueError(f"duplicates must be 'fail', 'first' or 'last', not {duplicates!r}")
        self.max_characters = max_characters
        self.duplicates = duplicates

    @component.output_types(documents=list[Document], skipped=list[dict[str, str]])
    def run(self, sources: list[str | Path]) -> dict[str, Any]:
        """
        Reads files, and folders with all that is under them.

        :param sources: Paths of files and folders.
        :returns: `documents`: passages to index; `skipped`: the `path` and the `reason` of each
            file and row that gave none, which is also logged as a warning.
        :raises DataError: If a path does not exist, a line of a JSON lines file is malformed, or
            an id comes twice.
        """
        reading = read(sources, self.max_characters, duplicates=self.duplicates)
        for skipped in reading.skipped:
            logger.warning("skipped %s: %s", skipped.path, skipped.reason)
        for note in reading.notes:
            logger.info("%s", note)
        return {
            "documents": reading.passages,
            "skipped": [asdict(skipped) for skipped in reading.skipped],
        }

    run_async = in_thread(run)
