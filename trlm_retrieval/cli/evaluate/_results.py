"""How a result of ``trlm eval`` is shown and written."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._terminal import err, out

if TYPE_CHECKING:
    from trlm_retrieval.eval.result import Result


def finish(result: "Result", json_file: Path | None, measures_down: bool = False) -> None:
    """Print a result as a table and its warnings, and write it where asked.

    :param measures_down: one row for each measure, where there are many.
    """
    title = f"{result.data}: {result.queries} {result.unit}, {result.model}"
    out.print(Text(title, style="italic"), soft_wrap=True)
    out.print(_table_of_measures(result) if measures_down else _table(result))
    for key, test in result.tests.items():
        out.print(f"{key}: {test.measure} {test.difference:+.3f}, p = {test.p:.4f}")
    if result.tests:
        out.print("p from paired randomisation tests, Holm-corrected", style="dim")
    for warning in result.warnings:
        err.print(f"note: {warning}", style="yellow", markup=False, soft_wrap=True)
    if json_file is not None:
        result.write_json(json_file)
        wrote(json_file)


def wrote(path: Path) -> None:
    err.print(f"wrote {path}", markup=False, soft_wrap=True)


def _table(result: "Result") -> Table:
    measures = list(next(iter(result.systems.values())))
    headers = (measure.replace("@", "\n@") for measure in measures)  # a narrow terminal has room
    table = Table("system", *headers, box=None)
    best = {
        measure: max(found[measure].mean for found in result.systems.values())
        for measure in measures
    }
    for name, found in result.systems.items():
        cells = []
        for measure, value in found.items():
            style = "bold" if value.mean == best[measure] else "none"
            cell = f"[{style}]{value.mean:.3f}[/{style}]"
            if measure == result.measure:
                cell += f"\n[dim]{value.low:.3f}–{value.high:.3f}[/dim]"
            cells.append(cell)
        table.add_row(name, *cells)
    return table


def _table_of_measures(result: "Result") -> Table:
    table = Table("measure", *result.systems, box=None)
    for measure in next(iter(result.systems.values())):
        values = [found[measure] for found in result.systems.values()]
        cells = [f"{v.mean:.3f} [dim]{v.low:.3f}–{v.high:.3f}[/dim]" for v in values]
        table.add_row(measure, *cells)
    return table
