"""Safety data: exchanges with a model, and a split in which no behaviour is in both parts.

A folder holds ``jailbreaks.jsonl`` (JailbreakBench artifacts: ``goal``, ``attack``, ``prompt``,
``response``, ``jailbroken``) and ``xstest.jsonl`` (XSTest: ``type``, ``prompt``, ``response``),
each with ``.xz`` or without. Ordinary questions and answers come from a file of ``{query, answers:
[{answer}]}`` lines, as AlpacaEval's.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines

Source = Literal["jailbreaks", "xstest", "answers"]

_SAME = 0.7  # texts as alike as this are wordings of one behaviour
_CONTRAST = "contrast"  # XSTest's types of unsafe prompts begin so


@dataclass(frozen=True)
class Exchange:
    """A prompt and a model's response.

    :ivar question: what the prompt is after, plainly: a jailbreak's goal, else the prompt itself.
    :ivar unsafe: whether the question is; of jailbreaks, whether the response does as told.
    :ivar kind: the attack, or XSTest's type.
    :ivar held_out: whether the question is in the part that is measured.
    """

    source: Source
    kind: str
    question: str
    prompt: str
    response: str
    unsafe: bool
    held_out: bool


def find_answers(folder: Path) -> Path | None:
    """AlpacaEval's file in the folder, or in ``best_of_n`` beside it; None where there is none."""
    for place in (folder, folder.parent / "best_of_n"):
        for name in ("alpacaeval.jsonl", "alpacaeval.jsonl.xz"):
            if (place / name).is_file():
                return place / name
    return None


def load_exchanges(folder: Path, answers: Path | None) -> list[Exchange]:
    """All exchanges of a folder, and of a file of ordinary answers where one is given.

    :raises DataError: if a file is missing or a line malformed.
    """
    rows: list[tuple[Source, str, str, str, str, bool]] = []
    for path, _, row in _rows(folder, "jailbreaks", ("goal", "attack", "prompt", "response")):
        if not isinstance(row.get("jailbroken"), bool):
            raise DataError(f"{path}: each line needs jailbroken, true or false")
        rows.append(
            (
                "jailbreaks",
                row["attack"],
                row["goal"],
                row["prompt"],
                row["response"],
                row["jailbroken"],
            )
        )
    for _, _, row in _rows(folder, "xstest", ("type", "prompt", "response")):
        unsafe = row["type"].startswith(_CONTRAST)
        rows.append(("xstest", row["type"], row["prompt"], row["prompt"], row["response"], unsafe))
    for number, row in read_json_lines(answers) if answers else []:
        try:
            for answer in row["answers"]:
                query, response = str(row["query"]), str(answer["answer"])
                rows.append(
                    ("answers", str(answer.get("model", "")), query, query, response, False)
                )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{answers}, line {number}: needs query and answers, each with answer"
            ) from error
    held_out = split(question for source, _, question, *_ in rows if source != "answers")
    return [
        Exchange(*row, held_out=held_out[row[2]] if row[2] in held_out else _is_held_out(row[2]))
        for row in rows
    ]


def _rows(
    folder: Path, name: str, keys: Sequence[str]
) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.xz"):
        if path.exists():
            break
    else:
        raise DataError(f"{folder} holds no {name}.jsonl or {name}.jsonl.xz")
    for number, row in read_json_lines(path):
        if missing := [key for key in keys if not isinstance(row.get(key), str)]:
            raise DataError(f"{path}, line {number}: needs {', '.join(missing)}, as text")
        yield path, number, row


def split(questions: Iterable[str]) -> dict[str, bool]:
    """Whether each question is held out: about half are, and wordings of one behaviour together."""
    return {question: _is_held_out(first) for question, first in behaviours(questions).items()}


def behaviours(questions: Iterable[str]) -> dict[str, str]:
    """What each question is a wording of: the first, in the alphabet, that is like it."""
    found: dict[str, str] = {}
    known: list[tuple[str, SequenceMatcher[str]]] = []
    for question in sorted(set(questions)):
        for first, behaviour in known:
            behaviour.set_seq1(question)
            ratios = (behaviour.real_quick_ratio, behaviour.quick_ratio, behaviour.ratio)
            if all(ratio() >= _SAME for ratio in ratios):  # the first two are cheap upper bounds
                found[question] = first
                break
        else:
            found[question] = question
            known.append((question, SequenceMatcher(None, "", question)))
    return found


def _is_held_out(question: str) -> bool:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[0] % 2 == 1
