"""Files of answers with their sources, in the three shapes that there are.

==================================================== ============================================
a line holds                                         a unit is
==================================================== ============================================
``question, claims: [{text, sources}], passages``    a claim; right are the passages in sources
``question, answer, quotes: [{source, text}],``      a sentence of the answer; right are the
``sources: [{title, text}]``                         sources of the quotes that stand in it
``question, answer, sentences, selected``            an answer; right are the selected sentences
(or ``claim, sentences, evidence``)                  of its one source
==================================================== ============================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.text.sentences import sentence_spans


@dataclass(frozen=True)
class Claim:
    """A claim of an answer, the answer's passages, and the indices of those that support it.

    :ivar group: claims of one group share their passages; they stay on one side of a split.
    """

    id: str
    group: str
    text: str
    passages: tuple[str, ...]
    sources: frozenset[int]


@dataclass(frozen=True)
class Grounded:
    """An answer with its one source, and the indices of the source's sentences it rests on.

    :ivar answer: its sentences; none where the source does not answer the question.
    """

    id: str
    question: str
    answer: tuple[str, ...]
    sentences: tuple[str, ...]
    selected: frozenset[int]

    @property
    def source(self) -> str:
        """The source's text."""
        return " ".join(self.sentences)


def holds_sentences(path: Path) -> bool:
    """Whether a file holds answers with one source cut into sentences.

    :raises DataError: if the file is missing or its first line is malformed.
    """
    return any("sentences" in entry for _, entry in [*read_json_lines(path)][:1])


def load_claims(path: Path) -> tuple[list[Claim], list[str]]:
    """Claims with several passages to choose from, and warnings.

    :raises DataError: if the file is missing, a line is malformed, or nothing is left.
    """
    claims: list[Claim] = []
    left_out = {"have no source": 0, "are supported by all of their passages": 0}
    for number, entry in read_json_lines(path):
        try:
            passages, found = _quoted(entry) if "quotes" in entry else _claimed(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: needs claims (with text and sources) and passages, or "
                f"an answer, quotes (with source and text) and sources ({error!r})"
            ) from error
        for position, (text, sources) in enumerate(found):
            if not all(0 <= source < len(passages) for source in sources):
                raise DataError(
                    f"{path}, line {number}: claim {position} cites a passage that is not there"
                )
            if not sources:
                left_out["have no source"] += 1
            elif len(sources) == len(passages) and "quotes" in entry:
                left_out["are supported by all of their passages"] += 1
            else:
                group = str(entry.get("question", number))
                claims.append(Claim(f"{number}.{position}", group, text, passages, sources))
    if not claims:
        raise DataError(f"{path} holds no claim with a source")
    return claims, [
        f"{count} claims {what} and are left out" for what, count in left_out.items() if count
    ]


def load_grounded(path: Path) -> tuple[list[Grounded], list[str]]:
    """Answers with one source each, cut into sentences, and warnings.

    A line that selects a sentence that is not there is left out, with a warning.

    :raises DataError: if the file is missing, a line is malformed, or nothing is left.
    """
    found, warnings = [], []
    for number, entry in read_json_lines(path):
        try:
            sentences = tuple(map(_text, entry["sentences"]))
            selected = entry["selected"] if "selected" in entry else entry["evidence"]
            indices = frozenset(map(int, selected))
            answer = _text(entry["answer"] if "answer" in entry else entry["claim"])
            question = _text(entry.get("question", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: needs sentences with selected and answer, or with "
                "evidence and claim"
            ) from error
        if not all(0 <= index < len(sentences) for index in indices):
            warnings.append(f"line {number} selects a sentence that is not there and is left out")
            continue
        claims = tuple(span.of(answer) for span in sentence_spans(answer))
        found.append(Grounded(str(number), question, claims, sentences, indices))
    if not found:
        raise DataError(f"{path} holds no line that can be used")
    return found, warnings


def halves(groups: Sequence[str]) -> dict[str, int]:
    """0 or 1 for each distinct group, in turn, in order of appearance."""
    return {group: position % 2 for position, group in enumerate(dict.fromkeys(groups))}


_Claims = list[tuple[str, frozenset[int]]]


def _claimed(entry: dict[str, Any]) -> tuple[tuple[str, ...], _Claims]:
    passages = tuple(_text(passage) for passage in entry["passages"])
    return passages, [
        (_text(claim["text"]), frozenset(map(int, claim["sources"]))) for claim in entry["claims"]
    ]


def _quoted(entry: dict[str, Any]) -> tuple[tuple[str, ...], _Claims]:
    """The answer's sentences, each with the sources of the quotes that stand in it.

    Quotes are in the order in which the answer uses them.
    """
    passages = tuple(f"{_text(s['title'])}\n{_text(s['text'])}" for s in entry["sources"])
    answer = _text(entry["answer"])
    spans = sentence_spans(answer)
    sources: list[set[int]] = [set() for _ in spans]
    done = 0
    for quote in entry["quotes"]:
        start = answer.index(_text(quote["text"]), done)
        done = start + len(quote["text"])
        for span, named in zip(spans, sources, strict=True):
            if span.start < done and start < span.end:
                named.add(int(quote["source"]))
    return passages, [
        (span.of(answer), frozenset(named)) for span, named in zip(spans, sources, strict=True)
    ]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
