"""Quality against cost in one picture: a point for each system.

    python -m trlm_retrieval.eval.bench.frontier RESULT.json... --bench bench.json -o frontier.png

The results are those of ``trlm eval retrieval --json``: any number of collections and models, in as
many files as there happen to be. ``bench.json`` is that of ``trlm bench --json``. Quality is the
mean of nDCG@10 over the collections, on the queries that all systems of a collection share. Cost is
what a question takes: finding 100 candidates and, where they are reranked, scoring all of them.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from trlm_retrieval.errors import DataError
from trlm_retrieval.files import new_file, parse_object, read_bytes

from ..measures import MAIN_MEASURE
from .first_stages import CANDIDATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FIRST_STAGES = ("bm25", "dense", "fusion")
_PEERS = ("cross-encoder", "cross-encoder mixed")
_OURS = "default"
_AGREE = 0.001  # of nDCG@10, between two files with the same system on the same queries

_COLOURS = {**dict.fromkeys(_FIRST_STAGES, "#6b7280"), **dict.fromkeys(_PEERS, "#c2410c")}
_OUR_COLOURS = ("#2563eb", "#15803d", "#7e22ce", "#b45309")  # one for each model


class System(NamedTuple):
    """A system as evaluated: its name in the results, and what it scores with, if anything."""

    name: str
    model: str = ""
    int8: bool = False

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, self.model, "int8" if self.int8 else "")))


class Cost(NamedTuple):
    """One way to run a system, and the seconds that a question takes with it."""

    label: str
    seconds: float


@dataclass(frozen=True)
class Point:
    """A point of the picture. Points of one system share a quality."""

    system: System
    label: str
    seconds: float
    quality: float


@dataclass(frozen=True)
class Frontier:
    """What is drawn, and what has to be said of it."""

    points: list[Point]
    caption: str


@dataclass(frozen=True)
class _Evaluation:
    """A file of ``trlm eval retrieval``; ``values`` are nDCG@10 by system and query."""

    file: Path
    data: str
    first_stage: str
    rerank: int
    values: Mapping[System, Mapping[str, float]]


@dataclass(frozen=True)
class _Bench:
    """The file of ``trlm bench``."""

    file: Path
    model: str
    machine: str
    pairs_a_second: Mapping[str, float]
    first_stages: Mapping[str, float]

    def costs(self, system: System, first_stage: str) -> list[Cost]:
        """The ways to run a system over the candidates of a first stage.

        :raises DataError: if one was not timed.
        """
        if system.name in _FIRST_STAGES:
            parts = first_stage.split(" + ")
            name = dict(zip(_FIRST_STAGES, [*parts, first_stage], strict=True))[system.name]
            label = {"bm25": name, "dense": f"dense ({name})", "fusion": "fusion"}[system.name]
            return [Cost(label, self.first_stages[name])]
        searching = self.first_stages[first_stage]
        return [
            Cost(label, searching + CANDIDATES / self._rate(row))
            for label, row in self._rows(system).items()
        ]

    def _rows(self, system: System) -> dict[str, str]:
        """The rows of the bench that tell what a system costs, by label."""
        if system.name in _PEERS:
            label = "cross-encoder" if system.name == _PEERS[0] else "cross-encoder + fusion"
            return {label: f"cross-encoder {system.model}"}
        name = system.model + (" int8" if system.int8 else "")
        plain, states = name, f"{name}, states"
        if system.model == self.model:
            ending = "_int8" if system.int8 else ""
            plain, states = f"plain{ending}", f"states_warm{ending}"
        return {f"{name}, plain": plain, f"{name}, states kept": states}

    def _rate(self, row: str) -> float:
        if row not in self.pairs_a_second:
            raise DataError(
                f"{self.file} has not timed {row!r} on one query: run `trlm bench` with its peers "
                "and all models pulled, or leave out the results of that model"
            )
        return self.pairs_a_second[row]


def frontier(results: Sequence[Path], bench_file: Path) -> Frontier:
    """The points of some results, each system's in the order of its cost.

    :param results: files of ``trlm eval retrieval --json``.
    :param bench_file: the file of ``trlm bench --json``.
    :raises DataError: if a file is missing or something else, or they do not belong together.
    """
    bench = _read_bench(bench_file)
    evaluations = [_read_result(path) for path in results]
    _check_settings(evaluations, bench)
    by_data: dict[str, list[_Evaluation]] = {}
    for one in evaluations:
        by_data.setdefault(one.data, []).append(one)
    systems = list(dict.fromkeys(system for one in evaluations for system in one.values))
    quality: dict[System, list[float]] = {system: [] for system in systems}
    said = []
    for data, files in by_data.items():
        queries = _shared_queries(files)
        for system in systems:
            quality[system].append(_quality(system, files, queries))
        said.append(f"{data} ({len(queries)} queries)")
    points = [
        Point(system, cost.label, cost.seconds, fmean(quality[system]))
        for system in systems
        for cost in bench.costs(system, evaluations[0].first_stage)
    ]
    return Frontier(
        points,
        f"{', '.join(said)}. The first {evaluations[0].rerank} of {evaluations[0].first_stage} are "
        f"reranked; seconds are for {CANDIDATES}, on {bench.machine}.",
    )


def _check_settings(evaluations: Sequence[_Evaluation], bench: _Bench) -> None:
    """
    :raises DataError: if evaluations differ in what they rerank, or the bench has not timed it.
    """
    first, fusions = evaluations[0], [name for name in bench.first_stages if " + " in name]
    for one in evaluations:
        if one.first_stage not in fusions:
            timed = ", ".join(fusions) or "none: run `trlm bench` with its peers and minilm pulled"
            raise DataError(
                f"{one.file} reranks what {one.first_stage!r} found; fusions that {bench.file} has "
                f"timed: {timed}"
            )
        for name in ("first_stage", "rerank"):
            if getattr(one, name) != getattr(first, name):
                raise DataError(
                    f"{one.file} does not belong with {first.file}: {name} is "
                    f"{getattr(one, name)!r} in it and {getattr(first, name)!r} in the other"
                )


def _shared_queries(files: Sequence[_Evaluation]) -> list[str]:
    """The queries that all files of a collection hold.

    :raises DataError: if there are none.
    """
    shared = set.intersection(*(set(values) for one in files for values in one.values.values()))
    if not shared:
        raise DataError(
            f"{files[-1].file} has no query of {files[-1].data} that all of "
            f"{', '.join(str(one.file) for one in files[:-1])} have"
        )
    return sorted(shared)


def _quality(system: System, files: Sequence[_Evaluation], queries: Sequence[str]) -> float:
    """The mean of a system over the queries of a collection.

    :raises DataError: if no file has the system, or two disagree about it.
    """
    means = {
        one.file: fmean(one.values[system][query] for query in queries)
        for one in files
        if system in one.values
    }
    if not means:
        raise DataError(
            f"no result has {str(system)!r} on {files[0].data}, and others have it on theirs: "
            f"evaluate it there too, or leave out {', '.join(str(one.file) for one in files)}"
        )
    if max(means.values()) - min(means.values()) > _AGREE:
        told = ", ".join(f"{mean:.3f} in {file}" for file, mean in means.items())
        raise DataError(f"results disagree about {str(system)!r} on {files[0].data}: {told}")
    return fmean(means.values())


def _read_result(path: Path) -> _Evaluation:
    found = parse_object(read_bytes(path), str(path))
    try:
        settings = found["settings"]
        systems = [
            *(System(name) for name in _FIRST_STAGES),
            *(System(name, settings["cross_encoder"]) for name in _PEERS),
            System(_OURS, found["model"], settings["dtype"] == "int8"),
        ]
        values = {
            system: found["per_query"][system.name][MAIN_MEASURE]
            for system in systems
            if system.name in found["per_query"]
        }
        return _Evaluation(path, found["data"], settings["first_stage"], settings["rerank"], values)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no result that `trlm eval retrieval --json` wrote ({error!r})"
        ) from error


def _read_bench(path: Path) -> _Bench:
    found = parse_object(read_bytes(path), str(path))
    try:
        rows = [row for row in found["rows"] if row["queries"] == 1]
        # The row nearest to the number of candidates comes last, and is the one that stays.
        rows.sort(key=lambda row: -abs(row["passages"] - CANDIDATES))
        return _Bench(
            path,
            found["model"],
            f"{found['machine']}, {found['threads']} threads",
            {row["system"]: row["pairs_a_second"] for row in rows},
            found.get("first_stages", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no file that `trlm bench --json` wrote ({error!r})") from error


def draw(found: Frontier) -> "Figure":
    """The picture: seconds on a log axis, nDCG@10, and labels that do not overlap."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    colours = _colours(found.points)
    for system, colour in colours.items():
        mine = [point for point in found.points if point.system == system]
        seconds, quality = [p.seconds for p in mine], [p.quality for p in mine]
        axes.plot(seconds, quality, "o-", color=colour, linewidth=1, markersize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel(f"seconds a question, for {CANDIDATES} candidates")
    axes.set_ylabel(f"mean {MAIN_MEASURE}")
    axes.grid(color="#e5e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(fill(found.caption, 150), fontsize=8, color="#4b5563")
    _label(figure, axes, found.points, colours)
    return figure


def _colours(points: Sequence[Point]) -> dict[System, str]:
    """One for first stages, one for the cross-encoder, one for each model of ours."""
    systems = list(dict.fromkeys(point.system for point in points))
    models = list(dict.fromkeys(system.model for system in systems if system.name == _OURS))
    ours = {model: _OUR_COLOURS[at % len(_OUR_COLOURS)] for at, model in enumerate(models)}
    return {system: _COLOURS.get(system.name) or ours[system.model] for system in systems}


def _label(
    figure: "Figure", axes: "Axes", points: Sequence[Point], colours: dict[System, str]
) -> None:
    """Write each point's label at the nearest place beside it where nothing stands yet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # settles where the axes are
    renderer = canvas.get_renderer()
    spots = axes.transData.transform([(point.seconds, point.quality) for point in points])
    taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    within = axes.get_window_extent(renderer)
    places = [
        (right, up)
        for distance in range(8, 120, 8)
        for height in (distance, -distance - 8)
        for right, up in ((0, height), (distance, height / 2), (-distance, height / 2))
    ]
    for point in points:
        colour = colours[point.system]
        label = axes.annotate(
            point.label,
            (point.seconds, point.quality),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=9,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4},
        )
        for right, up in places:
            label.set_position((right, up))
            label.set_horizontalalignment(
                "left" if right > 0 else "right" if right < 0 else "center"
            )
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer).padded(2)  # without the line to its point
            inside = within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0
            if inside and box.y1 <= within.y1 and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def main() -> None:
    """Draw the picture, and print its points."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    parser.add_argument("--bench", required=True, type=Path, help="what `trlm bench --json` wrote")
    parser.add_argument("-o", "--out", required=True, type=Path, help="the picture, a PNG file")
    arguments = parser.parse_args()
    try:
        found = frontier(arguments.results, arguments.bench)
    except DataError as error:
        parser.error(str(error))
    for point in found.points:
        print(f"{point.label}: {MAIN_MEASURE} {point.quality:.3f}, {point.seconds:.2g} s")
    with new_file(arguments.out) as file:
        draw(found).savefig(file, dpi=150, format="png")


if __name__ == "__main__":
    main()
