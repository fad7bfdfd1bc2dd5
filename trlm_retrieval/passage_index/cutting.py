"""Long documents cut into passages: at headings, along functions, at paragraphs and sentences."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from haystack import Document
from haystack.components.preprocessors import RecursiveDocumentSplitter

from trlm_retrieval.passage_index.converted import Section
from trlm_retrieval.passage_index.source_code import cut_code

DEFAULT_MAX_CHARACTERS = 800  # some 130 English words: what small sentence embedders read whole
_SEPARATORS = ["\n\n", ".\n", ". ", "\n", " "]
_BETWEEN_HEADINGS = " › "


def split(documents: Iterable[Document], max_characters: int) -> list[Document]:
    """Cut long documents, as :func:`cut` does, without sections.

    :param documents: documents with content; the short ones are passed on as they are.
    :param max_characters: the most characters in a passage.
    :raises ValueError: if ``max_characters`` is not positive.
    """
    _check(max_characters)
    return [part for document in documents for part in cut(document, (), max_characters)]


def cut(
    document: Document,
    sections: Sequence[Section],
    max_characters: int,
    language: str | None = None,
) -> list[Document]:
    """Cut a document that is too long at its headings, and what is then too long at paragraphs,
    else at sentences, lines or words.

    Source code is cut along its functions and classes; its passages have ``meta["first_line"]``
    and ``meta["last_line"]``.

    :param document: a document with content; a short one comes back as it is.
    :param sections: of its content; none for a text without headings.
    :param max_characters: the most characters in a passage.
    :param language: of source code.
    :returns: passages; those of a cut document have its meta, its id with ``#1``, ``#2``, ...
        added, and the id itself as ``meta["source_id"]``. What they stand under, below the title,
        is ``meta["heading"]``, and ends the title.
    :raises ValueError: if ``max_characters`` is not positive.
    """
    _check(max_characters)
    text = document.content or ""
    if len(text) <= max_characters:
        return [document]
    code = cut_code(text, language, max_characters) if language else None
    if code is not None:
        parts = [
            (one.text, one.headings, {"first_line": one.first_line, "last_line": one.last_line})
            for one in code
        ]
    else:
        parts = list(_parts(sections or [Section(text)], max_characters))
    passages = []
    for number, (content, headings, place) in enumerate(parts, start=1):
        meta = {
            **document.meta,
            "source_id": document.id,
            **_headed(document.meta.get("title"), headings),
            **place,
        }
        passages.append(replace(document, id=f"{document.id}#{number}", content=content, meta=meta))
    return passages


def _check(max_characters: int) -> None:
    if max_characters <= 0:
        raise ValueError(f"max_characters must be positive, not {max_characters}")


def _parts(
    sections: Sequence[Section], max_characters: int
) -> Iterator[tuple[str, tuple[str, ...], dict[str, Any]]]:
    splitter = RecursiveDocumentSplitter(
        split_length=max_characters, split_unit="char", separators=_SEPARATORS
    )
    for section in sections:
        parts = splitter.run([Document(content=section.text)])["documents"]
        texts = [(part.content or "").strip() for part in parts]
        # Headings cut off from their text say nothing that the titles of the others do not.
        alone = [set(text.split("\n\n")) <= {"", *section.headings} for text in texts]
        for part, text, is_alone in zip(parts, texts, alone, strict=True):
            if text and not (is_alone and not all(alone)):
                paged = "\f" in section.text
                yield (
                    text,
                    section.headings,
                    {"page_number": part.meta["page_number"]} if paged else {},
                )


def _headed(title: Any, headings: Sequence[str]) -> dict[str, str]:
    """The title of a passage with the headings that it stands under, and these alone."""
    below = list(headings[1:] if headings and headings[0] == title else headings)
    if not below:
        return {}
    named = [str(title), *below] if title else below
    return {"title": _BETWEEN_HEADINGS.join(named), "heading": _BETWEEN_HEADINGS.join(below)}
