"""The report of a retrieval evaluation: with the queries that gain and lose most, and why."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from trlm_retrieval.passage_index.documents import passage_text

from ..measures import MAIN_MEASURE
from ..report import differences, write_report
from ..runs import ranked
from .evaluation import RetrievalEvaluation

_SHOWN_QUERIES = 10
_SHOWN_PASSAGES = 3
_PASSAGE_CHARACTERS = 420

BASELINE = "fusion"


_MEANINGS = {
    "bm25": "shared words",
    "dense": "nearness of embeddings",
    "fusion": "the first stage: BM25 and dense by standardised scores, or the run that was given",
    "forward_sum": "log P(passage | query)",
    "forward": "the same for each token of the passage",
    "cross-encoder": "a model that reads query and passage together",
    "cross-encoder mixed": "the same mixed with the first stage's score, as in default",
    "reverse": "log P(query | passage)",
    "default": "reverse mixed with the first stage's score, as the ranker ships it",
}


def write_retrieval_report(path: Path, evaluation: RetrievalEvaluation) -> None:
    """Write the page.

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
        _queries(evaluation, system) if system else "",
    )


def _lead(evaluation: RetrievalEvaluation) -> str:
    result, settings = evaluation.result, evaluation.result.settings
    found = f"the first {settings['top_k']} candidates of {settings['first_stage']}"
    if settings["pairs_scored"]:
        found += f", of which {settings['rerank']} are reranked with {result.model}"
    return f"{result.queries} queries over {settings['documents']:,} documents; {found}."


def _queries(evaluation: RetrievalEvaluation, system: str) -> str:
    """HTML of the queries that gain and lose most, with the first passages of both rankings.

    :param system: the system that is compared with the fusion.
    """
    found = differences(evaluation.result, system, BASELINE)
    ordered = sorted(found, key=lambda query: found[query], reverse=True)
    most = [query for query in ordered[:_SHOWN_QUERIES] if found[query] > 0]
    least = [query for query in ordered[::-1][:_SHOWN_QUERIES] if found[query] < 0]

    def block(heading: str, chosen: Sequence[str]) -> str:
        rows = "".join(_query(evaluation, system, query, found[query]) for query in chosen)
        return f"<h2>{heading}</h2>{rows or '<p>None.</p>'}"

    return block("Queries that gain most", most) + block("Queries that lose most", least)


def _query(evaluation: RetrievalEvaluation, system: str, query: str, gain: float) -> str:
    before, after = (
        evaluation.result.per_query[name][MAIN_MEASURE][query] for name in (BASELINE, system)
    )
    columns = "".join(
        f"<div><h3>{name}</h3>{_passages(evaluation, query, name, other)}</div>"
        for name, other in ((system, BASELINE), (BASELINE, system))
    )
    return (
        f"<details><summary><span class='{'up' if gain > 0 else 'down'}'>{gain:+.2f}</span> "
        f"{escape(evaluation.dataset.queries[query])} "
        f"<small>{before:.2f} → {after:.2f}</small></summary>"
        f"<div class='columns'>{columns}</div></details>"
    )


def _passages(evaluation: RetrievalEvaluation, query: str, system: str, other: str) -> str:
    """The first passages of a system, each with its rank in the other one."""
    documents = {document.id: document for document in evaluation.dataset.documents}
    ranking, others = (ranked(evaluation.runs[name].get(query, {})) for name in (system, other))
    items = []
    for name in ranking[:_SHOWN_PASSAGES]:
        grade = evaluation.dataset.qrels[query].get(name)
        judged = "not judged" if grade is None else f"grade {grade}"
        text = passage_text(documents[name])
        cut = text[:_PASSAGE_CHARACTERS] + ("…" if len(text) > _PASSAGE_CHARACTERS else "")
        items.append(
            f"<li><b>{escape(name)}</b> <small class='{'up' if grade and grade > 0 else ''}'>"
            f"{judged}</small> <small>{other} rank "
            f"{others.index(name) + 1}</small><p>{escape(cut)}</p></li>"
        )
    return f"<ol>{''.join(items)}</ol>"
