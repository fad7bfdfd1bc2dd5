"""One self-contained HTML page from an evaluation, for people who must decide by it."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from trlm_retrieval.lm import Likelihood, TimeReversedLM
from trlm_retrieval.passage_index.text import passage_text
from trlm_retrieval.text_files import write_text

from .measures import MAIN_MEASURE
from .result import Result
from .retrieval import RetrievalEvaluation

_SHOWN_QUERIES = 10
_SHOWN_PASSAGES = 3
_PASSAGE_CHARACTERS = 420
_FULL_COLOUR = 4.0  # nats of gain that get the strongest colour


def write_report(path: Path, evaluation: RetrievalEvaluation, lm: TimeReversedLM | None) -> None:
    """Write the page.

    :param lm: the model, which explains the queries that gained and lost most; None leaves the
        token gains out.
    """
    result = evaluation.result
    system = next((name for name in ("default", "reverse") if name in evaluation.runs), None)
    parts = [
        _table(result),
        _tests(result),
        _bars(result),
        _notes(result),
    ]
    if system is not None:
        parts += [_differences(result, system), _queries(evaluation, system, lm)]
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
    candidates = f"the first {settings['top_k']} candidates of {settings['first_stage']}"
    reranked = f", reranked with {result.model}" if settings["pairs_scored"] else ""
    return (
        f"{result.queries} queries over {settings['documents']:,} documents; "
        f"{candidates}{reranked}. "
        "Means over queries; intervals hold 95 % of 10,000 bootstrap resamples."
    )


def _table(result: Result) -> str:
    measures = list(next(iter(result.systems.values())))
    best = {m: max(found[m].mean for found in result.systems.values()) for m in measures}
    head = "".join(f"<th>{escape(measure)}</th>" for measure in measures)
    rows = []
    for name, found in result.systems.items():
        cells = "".join(
            f'<td class="{"best" if value.mean == best[measure] else ""}">{value.mean:.3f}'
            f"<small>{value.low:.3f}–{value.high:.3f}</small></td>"
            for measure, value in found.items()
        )
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return f"<h2>Systems</h2><table><tr><th>system</th>{head}</tr>{''.join(rows)}</table>"


def _tests(result: Result) -> str:
    if not result.tests:
        return ""
    rows = "".join(
        f"<tr><td>{escape(key)}</td>"
        f'<td class="{"up" if test.difference > 0 else "down"}">{test.difference:+.3f}</td>'
        f"<td>{test.p:.4f}</td><td>{'yes' if test.p < 0.05 else 'no'}</td></tr>"
        for key, test in result.tests.items()
    )
    measure = escape(next(iter(result.tests.values())).measure)
    return (
        f"<h2>Differences in {measure}</h2><p class='lead'>Paired randomisation tests over "
        "queries, two-sided, Holm-corrected.</p>"
        "<table><tr><th>comparison</th><th>difference</th><th>p</th><th>p &lt; 0.05</th></tr>"
        f"{rows}</table>"
    )


def _bars(result: Result) -> str:
    height, left, width = 30, 130, 620
    top = max(found[MAIN_MEASURE].high for found in result.systems.values()) or 1.0
    rows = []
    for row, (name, found) in enumerate(result.systems.items()):
        value = found[MAIN_MEASURE]
        y = row * height + 6
        mean, low, high = (left + width * x / top for x in (value.mean, value.low, value.high))
        rows.append(
            f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{left}" y="{y}" width="{mean - left:.1f}" height="19" fill="var(--bar)" '
            'rx="2"/>'
            f'<path d="M{low:.1f} {y + 9.5}H{high:.1f}M{low:.1f} {y + 5}v9M{high:.1f} {y + 5}v9" '
            'stroke="var(--ink)" fill="none"/>'
            f'<text class="soft" x="{high + 10:.1f}" y="{y + 14}">{value.mean:.3f}</text>'
        )
    size = f"0 0 {left + width + 70} {len(result.systems) * height + 8}"
    return f'<h2>{MAIN_MEASURE}</h2><svg viewBox="{size}" role="img">{"".join(rows)}</svg>'


def _differences(result: Result, system: str) -> str:
    gains = sorted(_gains(result, system).values(), reverse=True)
    width, height = 800, 170
    step = width / len(gains)
    middle = height / 2
    scale = (middle - 12) / max(max(map(abs, gains)), 1e-9)
    bars = "".join(
        f'<rect x="{i * step:.2f}" width="{max(step - 0.6, 0.6):.2f}" '
        f'y="{middle - max(gain, 0) * scale:.1f}" height="{abs(gain) * scale:.1f}" '
        f'fill="var(--{"good" if gain > 0 else "bad"})"/>'
        for i, gain in enumerate(gains)
    )
    won, lost = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return (
        f"<h2>Query by query: {system} against fusion</h2>"
        f"<p class='lead'>Difference in {MAIN_MEASURE}, sorted: {won} queries gain, {lost} lose, "
        f"{len(gains) - won - lost} stay. The tallest bar is {max(map(abs, gains)):.2f}.</p>"
        f'<svg viewBox="0 0 {width} {height}" role="img">{bars}'
        f'<path class="axis" d="M0 {middle}H{width}"/></svg>'
    )


def _gains(result: Result, system: str) -> dict[str, float]:
    ours = result.per_query[system][MAIN_MEASURE]
    fusion = result.per_query["fusion"][MAIN_MEASURE]
    return {query: ours[query] - fusion[query] for query in ours}


def _queries(evaluation: RetrievalEvaluation, system: str, lm: TimeReversedLM | None) -> str:
    gains = _gains(evaluation.result, system)
    ranked = sorted(gains, key=lambda query: gains[query], reverse=True)
    most = [query for query in ranked[:_SHOWN_QUERIES] if gains[query] > 0]
    least = [query for query in ranked[::-1][:_SHOWN_QUERIES] if gains[query] < 0]
    documents = {document.id: document for document in evaluation.dataset.documents}
    shown: dict[tuple[str, str], list[str]] = {
        (query, name): sorted(run.get(query, {}), key=lambda doc: run[query][doc], reverse=True)[
            :_SHOWN_PASSAGES
        ]
        for name, run in evaluation.runs.items()
        if name in (system, "fusion")
        for query in [*most, *least]
    }
    pairs = sorted({(query, doc) for (query, _), docs in shown.items() for doc in docs})
    explained: dict[tuple[str, str], Likelihood] = {}
    if lm is not None and pairs:
        found = lm.score(
            [(evaluation.dataset.queries[q], passage_text(documents[d])) for q, d in pairs],
            prior=True,
            max_passage_tokens=evaluation.result.settings["max_passage_tokens"],
        )
        explained = dict(zip(pairs, found, strict=True))

    def passages(query: str, name: str) -> str:
        items = []
        for doc in shown[query, name]:
            grade = evaluation.dataset.qrels[query].get(doc)
            likelihood = explained.get((query, doc))
            heat = _heat(lm, likelihood) if lm is not None and likelihood is not None else ""
            text = passage_text(documents[doc])
            cut = text[:_PASSAGE_CHARACTERS] + ("…" if len(text) > _PASSAGE_CHARACTERS else "")
            judged = "not judged" if grade is None else f"grade {grade}"
            items.append(f"<li><b>{escape(doc)}</b> ({judged}) {heat}<p>{escape(cut)}</p></li>")
        return f"<ol>{''.join(items)}</ol>"

    def block(heading: str, queries: Sequence[str]) -> str:
        rows = "".join(
            f"<details><summary><span class='{'up' if gains[query] > 0 else 'down'}'>"
            f"{gains[query]:+.2f}</span> {escape(evaluation.dataset.queries[query])}</summary>"
            f"<div class='columns'><div><b>{system}</b>{passages(query, system)}</div>"
            f"<div><b>fusion</b>{passages(query, 'fusion')}</div></div></details>"
            for query in queries
        )
        return f"<h2>{heading}</h2>{rows or '<p>None.</p>'}"

    return (
        block("Queries that gain most", most)
        + block("Queries that lose most", least)
        + "<p class='lead'>Token colours: gain of a query token over its prior, in nats.</p>"
    )


def _heat(lm: TimeReversedLM, likelihood: Likelihood) -> str:
    spans = []
    for piece, gain in zip(
        lm.pieces(likelihood.token_ids), likelihood.token_gains.tolist(), strict=True
    ):
        share = 60 * min(1.0, abs(gain) / _FULL_COLOUR)
        colour = f"color-mix(in srgb, var(--{'good' if gain > 0 else 'bad'}) {share:.0f}%, #0000)"
        spans.append(
            f'<span class="token" style="background:{colour}" title="{gain:+.2f} nats">'
            f"{escape(piece)}</span>"
        )
    return "".join(spans)


def _notes(result: Result) -> str:
    return _list("Notes", [escape(warning) for warning in result.warnings])


def _cost(result: Result) -> str:
    scored = result.settings.get("pairs_scored", {})
    rows = []
    for name, seconds in result.seconds.items():
        pairs = scored.get(name)
        rate = f"{pairs / seconds:,.0f}" if pairs and seconds else "–"
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{seconds:,.1f}</td>"
            f"<td>{'–' if pairs is None else f'{pairs:,}'}</td><td>{rate}</td></tr>"
        )
    return (
        "<h2>Cost</h2><table><tr><th>step</th><th>seconds</th><th>pairs scored now</th>"
        f"<th>pairs a second</th></tr>{''.join(rows)}</table>"
        "<p class='lead'>Pairs found in the score cache cost nothing and are not counted.</p>"
    )


def _list(heading: str, items: Iterable[str]) -> str:
    entries = "".join(f"<li>{item}</li>" for item in items)
    return f"<h2>{heading}</h2><ul class='notes'>{entries}</ul>" if entries else ""
