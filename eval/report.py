"""One self-contained HTML page from an evaluation, for people who must decide by it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from trlm_retrieval.files import write_text
from trlm_retrieval.pages.rendering import render

from .result import Result, Test

_LEVEL = 0.05
_FEW = 50  # units, as TREC takes for the least number of topics


def write_report(
    path: Path,
    result: Result,
    title: str,
    lead: str,
    meanings: Mapping[str, str],
    compared: Sequence[tuple[str, str]],
    details: str = "",
) -> None:
    """Write the page.

    :param lead: what was measured, in a sentence or two.
    :param meanings: what the names of systems stand for.
    :param compared: (system, baseline) pairs, the most important first, that the page says in words
        where they were tested; the first is drawn query by query.
    :param details: HTML that goes before the costs.
    :raises OSError: if the page cannot be written.
    """
    tested = [pair for pair in compared if " vs ".join(pair) in result.tests]
    parts = [
        _few(result),
        _verdict(result, tested),
        _table(result, meanings),
        _bars(result),
        _tests(result),
        _notes(result),
        _differences(result, *tested[0]) if tested else "",
        details,
        _cost(result),
    ]
    write_text(
        path,
        render(
            "report.html",
            title=title,
            lead=f"{lead} Means over {result.unit}; intervals hold 95 % of 10,000 bootstrap "
            "resamples.",
            body="\n".join(part for part in parts if part),
            made=result.made,
        ),
    )


def _few(result: Result) -> str:
    """A warning where so few units were measured that most differences are hidden by chance."""
    if result.queries >= _FEW:
        return ""
    return (
        f"<ul class='warned'><li>Only {result.queries} {escape(result.unit)} were measured: the "
        "intervals are wide, and all but large differences may be chance. Measure at least "
        f"{_FEW} before you decide by this page.</li></ul>"
    )


def _verdict(result: Result, tested: Sequence[tuple[str, str]]) -> str:
    """What the table says, in words: the best system, and what the shipped ones gain."""
    name, best = max(
        ((name, found[result.measure]) for name, found in result.systems.items()),
        key=lambda item: item[1].mean,
    )
    lines = [f"Highest {result.measure}: {name}, {best.mean:.3f} ({best.low:.3f}–{best.high:.3f})."]
    lines += [_said(result.tests[" vs ".join(pair)]) for pair in tested]
    return f"<ul class='verdict'>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _said(test: Test) -> str:
    size = f"{abs(test.difference):.3f} {'above' if test.difference >= 0 else 'below'}"
    sure = (
        f"more than chance explains (p = {test.p:.4f})"
        if test.p < _LEVEL
        else f"which may be chance (p = {test.p:.2f})"
    )
    return f"{test.system} is {size} {test.baseline}, {sure}."


def _table(result: Result, meanings: Mapping[str, str]) -> str:
    measures = list(next(iter(result.systems.values())))
    best = {m: max(found[m].mean for found in result.systems.values()) for m in measures}
    rows = []
    for name, found in result.systems.items():
        cells = "".join(
            f'<td class="{"best" if value.mean == best[measure] else ""}">{value.mean:.3f}'
            f"<small>{value.low:.3f}–{value.high:.3f}</small></td>"
            for measure, value in found.items()
        )
        rows.append(f"<tr><th scope='row'>{escape(name)}</th>{cells}</tr>")
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(meanings[name])}</dd>"
        for name in result.systems
        if name in meanings
    )
    return f"<h2>Systems</h2>{_grid('systems', ['system', *measures], rows)}<dl>{terms}</dl>"


def _tests(result: Result) -> str:
    if not result.tests:
        return ""
    rows = [
        f"<tr><th scope='row'>{escape(key)}</th>"
        f'<td class="{"up" if test.difference > 0 else "down"}">{test.difference:+.3f}</td>'
        f"<td>{test.p:.4f}</td><td>{'yes' if test.p < _LEVEL else 'no'}</td></tr>"
        for key, test in result.tests.items()
    ]
    measure = escape(next(iter(result.tests.values())).measure)
    return (
        f"<h2>Differences in {measure}</h2><p class='lead'>Paired randomisation tests over "
        f"{result.unit}, two-sided, Holm-corrected.</p>"
        f"{_grid('differences', ['comparison', 'difference', 'p', f'p < {_LEVEL}'], rows)}"
    )


def _bars(result: Result) -> str:
    found = {name: measures[result.measure] for name, measures in result.systems.items()}
    top = max(value.high for value in found.values()) or 1.0
    rows = []
    for name, value in found.items():
        mean, low, high = (100 * x / top for x in (value.mean, value.low, value.high))
        rows.append(
            f"<span>{escape(name)}</span><span class='track'><i style='width:{mean:.2f}%'></i>"
            f"<b style='left:{low:.2f}%;width:{high - low:.2f}%'></b></span>"
            f"<span>{value.mean:.3f}</span>"
        )
    return f"<h2>{escape(result.measure)}</h2><div class='bars'>{''.join(rows)}</div>"


def differences(result: Result, system: str, baseline: str) -> dict[str, float]:
    """What a system adds to the main measure of a baseline, for each unit."""
    ours, theirs = (result.per_query[name][result.measure] for name in (system, baseline))
    return {unit: ours[unit] - theirs[unit] for unit in ours}


def _differences(result: Result, system: str, baseline: str) -> str:
    found = sorted(differences(result, system, baseline).items(), key=lambda one: -one[1])
    top = max(max(abs(gain) for _, gain in found), 1e-9)
    bars = "".join(
        f'<rect x="{position + 0.05:.2f}" width="0.9" '
        f'y="{100 * (1 - max(gain, 0) / top):.2f}" '
        f'height="{max(100 * abs(gain) / top, 0.5):.2f}" '
        f'fill="var(--{"good" if gain > 0 else "bad" if gain else "line"})">'
        f"<title>{gain:+.2f} {escape(unit)}</title></rect>"
        for position, (unit, gain) in enumerate(found)
    )
    won, lost = (sum(gain * sign > 0 for _, gain in found) for sign in (1, -1))
    return (
        f"<h2>One by one: {escape(system)} against {escape(baseline)}</h2>"
        f"<p class='lead'>Difference in {escape(result.measure)}, sorted: of {len(found)} "
        f"{result.unit}, {won} gain, {lost} lose, {len(found) - won - lost} stay.</p>"
        f"<div class='axis'><span>{top:+.2f}</span><span>0</span><span>−{top:.2f}</span></div>"
        f'<svg viewBox="0 0 {len(found)} 200" preserveAspectRatio="none" role="img" '
        f'aria-label="Differences of {len(found)} {result.unit}, sorted">{bars}</svg>'
    )


def _notes(result: Result) -> str:
    entries = "".join(f"<li>{escape(warning)}</li>" for warning in result.warnings)
    return f"<h2>Notes</h2><ul class='notes'>{entries}</ul>" if entries else ""


def _cost(result: Result) -> str:
    scored = result.settings.get("pairs_scored", {})
    head = ["step", "seconds", *(["passages scored now", "passages a second"] if scored else [])]
    rows = []
    for name, seconds in result.seconds.items():
        cells = [f"{seconds:,.1f}"]
        if scored:
            pairs = scored.get(name)
            rate = f"{pairs / seconds:,.1f}" if pairs and seconds else "–"
            cells += ["–" if pairs is None else f"{pairs:,}", rate]
        rows.append(
            f"<tr><th scope='row'>{escape(name)}</th>"
            f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        )
    return (
        f"<h2>Cost</h2>{_grid('cost', head, rows)}<p class='lead'>Scores found in the cache cost "
        "nothing and are not counted.</p>"
    )


def _grid(name: str, head: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls by itself where the page is narrow."""
    cells = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    return (
        f"<div class='scroll' role='region' aria-label='{name}' tabindex='0'>"
        f"<table><tr>{cells}</tr>{''.join(rows)}</table></div>"
    )
