"""One shape for every evaluation: data set, systems, measures, tests, seconds.

A task computes, for each system, each measure of each of its units (queries, claims, prompts);
:func:`summarise` turns that into means with intervals and corrected tests. JSON and report are
made from the result alone.
"""

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from trlm_retrieval import __version__
from trlm_retrieval.files import write_json

from .measures import Estimate, PerQuery, estimate, holm, paired_test


@dataclass(frozen=True)
class Test:
    """A paired test of two systems on one measure.

    :ivar difference: mean of ``system`` less mean of ``baseline``.
    :ivar p: two-sided, Holm-corrected over the tests of one evaluation.
    """

    measure: str
    system: str
    baseline: str
    difference: float
    p: float


def _made() -> dict[str, str]:
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"command": command, "date": date.today().isoformat(), "version": __version__}


@dataclass
class Result:
    """What an evaluation found; ``per_query`` is kept for reports and further tests.

    :ivar queries: how many units the means run over; ``unit`` says what these are.
    :ivar measure: the one that is tested.
    :ivar made: the ``command`` that made it, its ``date`` and the ``version`` of this package.
    """

    data: str
    queries: int
    unit: str
    model: str
    measure: str
    systems: dict[str, dict[str, Estimate]]
    tests: dict[str, Test]
    seconds: dict[str, float]
    per_query: dict[str, PerQuery]
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=_made)

    def write_json(self, path: Path) -> None:
        """Write everything but the report."""
        write_json(path, asdict(self))


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note the seconds that a block takes under its name."""
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 3)


def summarise(
    data: str,
    model: str,
    per_query: dict[str, PerQuery],
    measure: str,
    comparisons: Sequence[tuple[str, str]],
    seconds: dict[str, float],
    settings: dict[str, Any],
    warnings: Sequence[str],
    unit: str = "queries",
) -> Result:
    """Means with intervals for each system, and tests for each (system, baseline) there is.

    :param per_query: system -> measure -> unit -> value; all systems hold the same units.
    :param measure: the measure that is tested.
    :param unit: what the values are of, in the plural.
    """
    values = {name: found[measure] for name, found in per_query.items()}
    raw: dict[str, float] = {}
    pairs: dict[str, tuple[str, str]] = {}
    for system, baseline in comparisons:
        if system in values and baseline in values:
            units = list(values[system])
            key = f"{system} vs {baseline}"
            pairs[key] = (system, baseline)
            raw[key] = paired_test(
                [values[system][unit] for unit in units],
                [values[baseline][unit] for unit in units],
            )
    systems = {
        name: {key: estimate(list(units.values())) for key, units in found.items()}
        for name, found in per_query.items()
    }
    corrected = holm(raw)
    tests = {
        key: Test(
            measure,
            system,
            baseline,
            systems[system][measure].mean - systems[baseline][measure].mean,
            corrected[key],
        )
        for key, (system, baseline) in pairs.items()
    }
    number = len(next(iter(values.values())))
    return Result(
        data,
        number,
        unit,
        model,
        measure,
        systems,
        tests,
        seconds,
        per_query,
        settings,
        list(warnings),
    )
