"""The report of a retrieval evaluation: with the queries that gain and lose most, and why."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from trlm_retrieval.lm import Likelihood, TimeReversedLM
from trlm_retrieval.passage_index.documents import passage_text

from ..measures import MAIN_MEASURE
from ..report import differences, write_report
from ..runs import ranked
from .evaluation import RetrievalEvaluation

_SHOWN_QUERIES = 10
_SHOWN_PASSAGES = 3
_PASSAGE_CHARACTERS = 420
_FULL_COLOUR = 4.0  # nats of gain that get the strongest colour

BASELINE = "fusion"

Pair = tuple[str, str]  # query id, document id
Rankings = dict[str, dict[str, list[str]]]  # system -> query id -> document ids, best first


_MEANINGS = {
    "bm25": "shared words",
    "dense": "nearness of embeddings",
    "fusion": "the first stage: reciprocal ranks of BM25 and dense, or the run that was given",
    "forward_sum": "log P(passage | query)",
    "forward": "the same for each token of the passage",
    "cross-encoder": "a model that reads query and passage together",
    "cross-encoder mixed": "the same mixed with the first stage's score, as in default",
    "reverse": "log P(query | passage)",
    "default": "reverse mixed with the first stage's score, as the ranker ships it",
}


def write_retrieval_report(
    path: Path, evaluation: RetrievalEvaluation, lm: TimeReversedLM | None
) -> None:
    """Write the page.

    :param lm: the model, which explains the queries that gained and lost most; None leaves the
        token gains out.
    :raises OSError: if the page cannot be written.
    """
    result = evaluation.result
    system = next((name for name in ("default", "reverse") if name in evaluation.runs), None)
    write_report(
        path,
        result,
        f"Retrieval on {result.data}",
        _lead(evaluation),
        _MEANINGS,
        [
            ("default", BASELINE),
            ("reverse", BASELINE),
            ("reverse", "forward"),
            ("default", "cross-encoder"),
        ],
        _queries(evaluation, system, lm) if system else "",
    )


def _lead(evaluation: RetrievalEvaluation) -> str:
    result, settings = evaluation.result, evaluation.result.settings
    found = f"the first {settings['top_k']} candidates of {settings['first_stage']}"
    if settings["pairs_scored"]:
        found += f", of which {settings['rerank']} are reranked with {result.model}"
    return f"{result.queries} queries over {settings['documents']:,} documents; {found}."


def _queries(evaluation: RetrievalEvaluation, system: str, lm: TimeReversedLM | None) -> str:
    """HTML of the queries that gain and lose most, with the first passages of both rankings.

    :param system: the system that is compared with the fusion.
    :param lm: the model that explains by token gains; None leaves them out.
    """
    found = differences(evaluation.result, system, BASELINE)
    ordered = sorted(found, key=lambda query: found[query], reverse=True)
    most = [query for query in ordered[:_SHOWN_QUERIES] if found[query] > 0]
    least = [query for query in ordered[::-1][:_SHOWN_QUERIES] if found[query] < 0]
    rankings = {
        name: {query: _ranking(evaluation, name, query) for query in [*most, *least]}
        for name in (system, BASELINE)
    }
    heats = _heats(evaluation, rankings, lm)

    def block(heading: str, chosen: Sequence[str]) -> str:
        rows = "".join(
            _query(evaluation, system, query, found[query], rankings, heats) for query in chosen
        )
        return f"<h2>{heading}</h2>{rows or '<p>None.</p>'}"

    legend = (
        "<p class='lead'>Colours: how much likelier the passage makes each token of the query, in "
        "<span class='token' style='background:var(--good-soft)'>green</span> if likelier, in "
        "<span class='token' style='background:var(--bad-soft)'>red</span> if less likely.</p>"
    )
    return (
        block("Queries that gain most", most)
        + block("Queries that lose most", least)
        + (legend if heats else "")
    )


def _ranking(evaluation: RetrievalEvaluation, name: str, query: str) -> list[str]:
    return ranked(evaluation.runs[name].get(query, {}))


def _query(
    evaluation: RetrievalEvaluation,
    system: str,
    query: str,
    gain: float,
    rankings: Rankings,
    heats: dict[Pair, str],
) -> str:
    before, after = (
        evaluation.result.per_query[name][MAIN_MEASURE][query] for name in (BASELINE, system)
    )
    columns = "".join(
        f"<div><h3>{name}</h3>{_passages(evaluation, query, name, other, rankings, heats)}</div>"
        for name, other in ((system, BASELINE), (BASELINE, system))
    )
    return (
        f"<details><summary><span class='{'up' if gain > 0 else 'down'}'>{gain:+.2f}</span> "
        f"{escape(evaluation.dataset.queries[query])} "
        f"<small>{before:.2f} → {after:.2f}</small></summary>"
        f"<div class='columns'>{columns}</div></details>"
    )


def _passages(
    evaluation: RetrievalEvaluation,
    query: str,
    system: str,
    other: str,
    rankings: Rankings,
    heats: dict[Pair, str],
) -> str:
    documents = {document.id: document for document in evaluation.dataset.documents}
    items = []
    for name in rankings[system][query][:_SHOWN_PASSAGES]:
        grade = evaluation.dataset.qrels[query].get(name)
        judged = "not judged" if grade is None else f"grade {grade}"
        text = passage_text(documents[name])
        cut = text[:_PASSAGE_CHARACTERS] + ("…" if len(text) > _PASSAGE_CHARACTERS else "")
        items.append(
            f"<li><b>{escape(name)}</b> <small class='{'up' if grade and grade > 0 else ''}'>"
            f"{judged}</small> <small>{other} rank "
            f"{rankings[other][query].index(name) + 1}</small>"
            f"{heats.get((query, name), '')}<p>{escape(cut)}</p></li>"
        )
    return f"<ol>{''.join(items)}</ol>"


def _heats(
    evaluation: RetrievalEvaluation,
    rankings: Rankings,
    lm: TimeReversedLM | None,
) -> dict[Pair, str]:
    """For each passage shown, the query with its tokens coloured by their gains."""
    pairs = sorted(
        {
            (query, document)
            for by_query in rankings.values()
            for query, ranking in by_query.items()
            for document in ranking[:_SHOWN_PASSAGES]
        }
    )
    if lm is None or not pairs:
        return {}
    documents = {document.id: document for document in evaluation.dataset.documents}
    likelihoods = lm.score(
        [(evaluation.dataset.queries[q], passage_text(documents[d])) for q, d in pairs],
        prior=True,
        max_passage_tokens=evaluation.result.settings["max_passage_tokens"],
    )
    return {pair: _heat(lm, found) for pair, found in zip(pairs, likelihoods, strict=True)}


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
    return f"<div class='heat'>{''.join(spans)}</div>"
