"""An answer with its citations as one HTML page: hover over a sentence, and its support lights up.

The page needs no script, no network and no other file, escapes all text that came from outside,
and follows the reader's light or dark setting.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from haystack import GeneratedAnswer

from trlm_retrieval.citation.markers import Marker, find_markers
from trlm_retrieval.pages.display import display_title, printable
from trlm_retrieval.pages.rendering import render

_WHOLE = 4000  # characters: longer sources are shown around their quotes
_AROUND = 300
_MEANINGS = {
    "!": "check this",
    "?": "no source is near",
    "✓": "follows from its source",
    "≈": "has a near source",
}


@dataclass(frozen=True)
class Citing:
    """One sentence of the answer, or what stands between two.

    :ivar pieces: its text in pieces, and whether each is a wrong marker, to be struck out.
    :ivar number: of the sentence, from 1; 0 for what stands between.
    :ivar cited: numbers of the sources it cites.
    :ivar note: what to know about it, for people.
    :ivar sign: how it stands, see :func:`sign`.
    :ivar share: its nearness as a share of the nearest sentence's, 0 to 1.
    """

    pieces: tuple[tuple[str, bool], ...]
    number: int = 0
    cited: tuple[int, ...] = ()
    note: str = ""
    sign: str = ""
    share: float = 0.0

    @property
    def meaning(self) -> str:
        """The sign in words."""
        return _MEANINGS[self.sign]


@dataclass(frozen=True)
class Piece:
    """A piece of a source, and the sentences of the answer that it supports."""

    text: str
    supports: tuple[int, ...] = ()
    begins: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """A cited source."""

    number: int
    title: str
    pieces: list[Piece]


def citation_page(answer: GeneratedAnswer, facts: dict[str, str] | None = None) -> str:
    """The HTML page for an answer.

    :param answer: what a ``TRLMCitationAttributor`` gave, without markers written into it.
    :param facts: names and values to show under the heading, such as the model's name.
    :raises ValueError: if the answer was not attributed.
    """
    if "sentences" not in answer.meta.get("trlm", {}):
        raise ValueError("the answer carries no citations: run TRLMCitationAttributor first")
    sentences = answer.meta["trlm"]["sentences"]
    quotes: dict[int, list[tuple[int, int, int]]] = {}
    for position, sentence in enumerate(sentences, start=1):
        for citation in sentence["citations"]:
            quotes.setdefault(citation["number"], []).append(
                (citation["start"], citation["end"], position)
            )
    by_number = {document.meta["source_index"]: document for document in answer.documents}
    return render(
        "citations.html",
        query=printable(answer.query),
        sentences=_answer(answer.data or "", sentences, by_number),
        sources=[
            Source(number, printable(display_title(by_number[number])), _pieces(text, spans))
            for number, spans in sorted(quotes.items())
            if (text := by_number[number].content or "")
        ],
        uncited=[
            (number, printable(display_title(document)))
            for number, document in by_number.items()
            if number not in quotes
        ],
        total=len(sentences),
        unsupported=answer.meta["trlm"]["unsupported"],
        nli=any("nli" in citation for s in sentences for citation in s["citations"]),
        facts=facts or {},
    )


def _answer(
    text: str, sentences: Sequence[dict[str, Any]], sources: Collection[int]
) -> list[Citing]:
    markers = find_markers(text, sources)
    wrong: set[int] = set()
    found, done = [], 0
    nearest = max((sentence["score"] or 0.0 for sentence in sentences), default=0.0)
    for number, sentence in enumerate(sentences, start=1):
        found.append(Citing(_marked(text, done, sentence["start"], markers, wrong)))
        wrong = {m["number"] for m in sentence["markers"] if not m["supported"]}
        found.append(
            Citing(
                _marked(text, sentence["start"], sentence["end"], markers, wrong),
                number,
                tuple(citation["number"] for citation in sentence["citations"]),
                note(sentence),
                sign(sentence),
                max(0.0, sentence["score"] or 0.0) / nearest if nearest > 0 else 0.0,
            )
        )
        done = sentence["end"]
    return [*found, Citing(_marked(text, done, len(text), markers, wrong))]


def _marked(
    text: str, start: int, end: int, markers: Sequence[Marker], wrong: Collection[int]
) -> tuple[tuple[str, bool], ...]:
    """A part of the answer; right markers are left out and wrong ones are struck out."""
    pieces: list[tuple[str, bool]] = []
    for marker in markers:
        if start <= marker.span.start and marker.span.end <= end:
            pieces.append((printable(text[start : marker.span.start].rstrip(" \t")), False))
            struck = "".join(f"[{number}]" for number in marker.numbers if number in wrong)
            pieces += [(" ", False), (struck, True)] if struck else []
            start = marker.span.end
    return tuple(piece for piece in [*pieces, (printable(text[start:end]), False)] if piece[0])


def note(sentence: dict[str, Any]) -> str:
    """What to know about an attributed sentence, on one line."""
    parts = [f"check this: {conflict}" for conflict in sentence["conflicts"]]
    for citation in sentence["citations"]:
        if "nli" in citation:
            parts += _nli_parts(citation["number"], **citation["nli"])
    if sentence["score"] is not None:
        parts.append(f"nearness {sentence['score']:.2f}, gain {sentence['gain']:+.2f} nats a token")
    if not sentence["supported"]:
        parts.insert(0, "no source is near this")
    for marker in sentence["markers"]:
        if marker["document_id"] is None:
            parts.append(f"[{marker['number']}] is no source")
        elif marker["score"] is None:
            parts.append(f"source [{marker['number']}] could not be read")
        elif not marker["supported"]:
            parts.append(f"[{marker['number']}] is not near this")
    if sentence["cut_characters"]:
        parts.append(f"the last {sentence['cut_characters']:,} characters were not read")
    return "; ".join(parts)


def sign(sentence: dict[str, Any]) -> str:
    """How an attributed sentence stands.

    ``!`` where something in it differs from its quote, ``✓`` where an NLI model says that it
    follows from one of its quotes, ``≈`` where a source is near, ``?`` where none is.
    """
    labels = [citation["nli"]["label"] for citation in sentence["citations"] if "nli" in citation]
    if sentence["conflicts"]:
        return "!"
    if "entailment" in labels:
        return "✓"
    return "≈" if sentence["supported"] else "?"


def _nli_parts(number: int, label: str, probability: float, cut_characters: int) -> list[str]:
    if label == "contradiction":  # stands among the conflicts
        said = []
    elif label == "entailment":
        said = [f"follows from [{number}] ({probability:.2f})"]
    else:
        said = [f"neither follows from [{number}] nor contradicts it ({probability:.2f})"]
    if cut_characters:
        said.append(
            f"the NLI model did not read {cut_characters:,} characters of it and [{number}]"
        )
    return said


def _pieces(text: str, quotes: Sequence[tuple[int, int, int]]) -> list[Piece]:
    """The source cut where a quote begins or ends; far from all quotes it is left out."""
    shown = [(0, len(text))]
    if len(text) > _WHOLE:
        shown = _merged(
            [(max(0, s - _AROUND), min(len(text), e + _AROUND)) for s, e, _ in sorted(quotes)]
        )
    pieces: list[Piece] = []
    done = 0
    for start, end in shown:
        if start > done:
            pieces.append(Piece(" … "))
        edges = {edge for s, e, _ in quotes for edge in (s, e) if start < edge < end}
        cuts = sorted({start, end} | edges)
        for left, right in pairwise(cuts):
            inside = [quote for quote in quotes if quote[0] <= left and right <= quote[1]]
            pieces.append(
                Piece(
                    printable(text[left:right]),
                    tuple(number for _, _, number in inside),
                    tuple(number for first, _, number in inside if first == left),
                )
            )
        done = end
    return [*pieces, Piece(" …")] if done < len(text) else pieces


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
