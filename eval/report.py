"""One self-contained HTML page from an evaluation, for people who must decide by it."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.text_files import write_text

from .measures import MAIN_MEASURE
from .report_queries import gains, queries
from .result import Result, Test
from .retrieval import RetrievalEvaluation

_MEANINGS = {
    "bm25": "shared words",
    "dense": "nearness of embeddings",
    "fusion": "the first stage: reciprocal ranks of BM25 and dense, or the run that was given",
    "forward_sum": "log P(passage | query)",
    "forward": "the same for each token of the passage",
    "reverse": "log P(query | passage)",
    "default": "reverse mixed with the first stage's score, as the ranker ships it",
}
_LEVEL = 0.05


def write_report(path: Path, evaluation: RetrievalEvaluation, lm: TimeReversedLM | None) -> None:
    """Write the page.

    :param lm: the model, which explains the queries that gained and lost most; None leaves the
        token gains out.
    :raises OSError: if the page cannot be written.
    """
    result = evaluation.result
    system = next((name for name in ("default", "reverse") if name in evaluation.runs), None)
    parts = [_verdict(result), _table(result), _bars(result), _tests(result), _notes(result)]
    if system is not None:
        parts += [_differences(evaluation, system), queries(evaluation, system, lm)]
    parts.append(_cost(result))
    page = Template((Path(__file__).with_name("report.html")).read_text(encoding="utf-8"))
    write_text(
        path,
        page.substitute(
            title=escape(f"Retrieval on {result.data}"),
            lead=escape(_lead(result)),
            body="\n".join(part for part in parts if part),
        ),
    )


def _lead(result: Result) -> str:
    settings = result.settings
    found = f"the first {settings['top_k']} candidates of {settings['first_stage']}"
    if settings["pairs_scored"]:
        found += f", of which {settings['rerank']} are reranked with {result.model}"
    return (
        f"{result.queries} queries over {settings['documents']:,} documents; {found}. "
        "Means over queries; intervals hold 95 % of 10,000 bootstrap resamples."
    )


def _verdict(result: Result) -> str:
    """What the table says, in words: the best system, and what the shipped ones gain."""
    name, best = max(
        ((name, found[MAIN_MEASURE]) for name, found in result.systems.items()),
        key=lambda item: item[1].mean,
    )
    lines = [f"Highest {MAIN_MEASURE}: {name}, {best.mean:.3f} ({best.low:.3f}–{best.high:.3f})."]
    for pair in ("default vs fusion", "reverse vs fusion", "reverse vs forward"):
        if pair in result.tests:
            lines.append(_said(result.tests[pair]))
    return f"<ul class='verdict'>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _said(test: Test) -> str:
    size = f"{abs(test.difference):.3f} {'above' if test.difference >= 0 else 'below'}"
    sure = (
        f"more than chance explains (p = {test.p:.4f})"
        if test.p < _LEVEL
        else f"which may be chance (p = {test.p:.2f})"
    )
    return f"{test.system} is {size} {test.baseline}, {sure}."


def _table(result: Result) -> str:
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
    meanings = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_MEANINGS[name])}</dd>"
        for name in result.systems
        if name in _MEANINGS
    )
    return f"<h2>Systems</h2>{_grid(['system', *measures], rows)}<dl>{meanings}</dl>"


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
        f"queries, two-sided, Holm-corrected.</p>"
        f"{_grid(['comparison', 'difference', 'p', f'p < {_LEVEL}'], rows)}"
    )


def _bars(result: Result) -> str:
    top = max(found[MAIN_MEASURE].high for found in result.systems.values()) or 1.0
    rows = []
    for name, found in result.systems.items():
        mean, low, high = (
            100 * x / top
            for x in (found[MAIN_MEASURE].mean, found[MAIN_MEASURE].low, found[MAIN_MEASURE].high)
        )
        rows.append(
            f"<span>{escape(name)}</span><span class='track'><i style='width:{mean:.2f}%'></i>"
            f"<b style='left:{low:.2f}%;width:{high - low:.2f}%'></b></span>"
            f"<span>{found[MAIN_MEASURE].mean:.3f}</span>"
        )
    return f"<h2>{MAIN_MEASURE}</h2><div class='bars'>{''.join(rows)}</div>"


def _differences(evaluation: RetrievalEvaluation, system: str) -> str:
    found = gains(evaluation.result, system)
    ordered = sorted(found, key=lambda query: found[query], reverse=True)
    top = max(max(map(abs, found.values())), 1e-9)
    bars = "".join(
        f'<rect x="{position + 0.05:.2f}" width="0.9" '
        f'y="{100 * (1 - max(found[query], 0) / top):.2f}" '
        f'height="{max(100 * abs(found[query]) / top, 0.5):.2f}" '
        f'fill="var(--{"good" if found[query] > 0 else "bad" if found[query] else "line"})">'
        f"<title>{found[query]:+.2f} {escape(evaluation.dataset.queries[query])}</title></rect>"
        for position, query in enumerate(ordered)
    )
    won, lost = (sum(gain * sign > 0 for gain in found.values()) for sign in (1, -1))
    return (
        f"<h2>Query by query: {system} against fusion</h2>"
        f"<p class='lead'>Difference in {MAIN_MEASURE}, sorted: {won} queries gain, {lost} lose, "
        f"{len(found) - won - lost} stay.</p>"
        f"<div class='axis'><span>{top:+.2f}</span><span>0</span><span>−{top:.2f}</span></div>"
        f'<svg viewBox="0 0 {len(found)} 200" preserveAspectRatio="none" role="img" '
        f'aria-label="Differences of {len(found)} queries, sorted">{bars}</svg>'
    )


def _notes(result: Result) -> str:
    entries = "".join(f"<li>{escape(warning)}</li>" for warning in result.warnings)
    return f"<h2>Notes</h2><ul class='notes'>{entries}</ul>" if entries else ""


def _cost(result: Result) -> str:
    scored = result.settings.get("pairs_scored", {})
    rows = []
    for name, seconds in result.seconds.items():
        pairs = scored.get(name)
        rate = f"{pairs / seconds:,.1f}" if pairs and seconds else "–"
        rows.append(
            f"<tr><th scope='row'>{escape(name)}</th><td>{seconds:,.1f}</td>"
            f"<td>{'–' if pairs is None else f'{pairs:,}'}</td><td>{rate}</td></tr>"
        )
    head = ["step", "seconds", "passages scored now", "passages a second"]
    return (
        f"<h2>Cost</h2>{_grid(head, rows)}<p class='lead'>Scores found in the cache cost nothing "
        "and are not counted.</p>"
    )


def _grid(head: Sequence[str], rows: Sequence[str]) -> str:
    """A table that scrolls by itself where the page is narrow."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<div class='scroll'><table><tr>{cells}</tr>{''.join(rows)}</table></div>"
