"""Evaluations of the same data beside each other: one model against the one before it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trlm_retrieval.errors import DataError

from .result import Result, summarise

_NEEDED = {"data", "measure", "unit", "model", "seconds", "per_query"}


def compare_results(files: Sequence[Path], system: str) -> Result:
    """One system of several evaluations, each tested against the file before it.

    :param files: what ``trlm eval … --json`` wrote, of the same data and queries; they are named
        after their files.
    :param system: the system that is taken from each.
    :raises DataError: if a file is none of these, or they do not fit together.
    """
    found = {file.stem: _read(file, system) for file in files}
    if len(found) != len(files):
        raise DataError("the files need different names: results are named after them")
    (first, one), *others = found.items()
    units = one["per_query"][system][one["measure"]]
    for name, other in others:
        for what in ("data", "measure"):
            if other[what] != one[what]:
                raise DataError(f"{name} has {what} {other[what]!r}, and {first} {one[what]!r}")
        if set(other["per_query"][system][one["measure"]]) != set(units):
            raise DataError(
                f"{name} and {first} hold different {one['unit']}; evaluate both on the same draw"
            )
    names = list(found)
    return summarise(
        one["data"],
        system,
        {name: result["per_query"][system] for name, result in found.items()},
        one["measure"],
        list(zip(names[1:], names, strict=False)),
        {name: result["seconds"].get(system, 0.0) for name, result in found.items()},
        {"models": {name: result["model"] for name, result in found.items()}},
        [],
        one["unit"],
    )


def _read(file: Path, system: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        missing = _NEEDED - set(found)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} is not what `trlm eval … --json` writes ({error})") from error
    if missing:
        raise DataError(f"{file} is not what `trlm eval … --json` writes (no {min(missing)})")
    if system not in found["per_query"]:
        there = ", ".join(found["per_query"])
        raise DataError(f"{file} has no system {system!r}; it has {there}")
    return found
