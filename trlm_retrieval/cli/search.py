"""``trlm search``: passages for a question, best first."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._checks import check_index
from trlm_retrieval.cli._terminal import (
    DEFAULT_CANDIDATES,
    DEFAULT_INDEX,
    NOTHING_FOUND,
    CandidatesOption,
    IndexOption,
    JsonOption,
    ModelOption,
    QuestionArgument,
    TopKOption,
    count,
    out,
    print_json,
    working,
)

if TYPE_CHECKING:
    from haystack import Document

    from trlm_retrieval.cli._ranking import Ranking

_FULL_SHADE = 4.0  # nats of gain that get the strongest colour


def search(
    question: QuestionArgument,
    index: IndexOption = DEFAULT_INDEX,
    model: ModelOption = None,
    top_k: TopKOption = 5,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each word of the question gained.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search an index: BM25 and FAISS find candidates, the reversed model orders them.

    Each passage shows its rank, where the first stage had it, the score that the order follows,
    and log P(question | passage) in nats.

    Examples:

    * `trlm search "how does the with statement call enter and exit"`

    * `trlm search "when is a generator closed" --top-k 3 --explain`

    * `trlm search "what is a slice" --candidates 30 --json`
    """
    check_index(index, model)
    with working("Loading"):
        from trlm_retrieval.cli._ranking import Searcher

        searcher = Searcher(index, model, max(candidates, top_k))
    with working(f"Ranking {count(searcher.candidates, 'passage')}"):
        ranking = searcher.ask(question, explain)
    if as_json:
        print_json(as_data(ranking, top_k))
    else:
        show(ranking, top_k)
    if not ranking.documents:
        raise typer.Exit(NOTHING_FOUND)


def as_data(ranking: "Ranking", top_k: int) -> dict[str, Any]:
    """A ranking as JSON: what was asked, what was found, and how long each stage took."""
    return {
        "query": ranking.query,
        "candidates": len(ranking.documents),
        "results": [
            _result(rank, document)
            for rank, document in enumerate(ranking.documents[:top_k], start=1)
        ],
        "seconds": {stage: round(seconds, 4) for stage, seconds in ranking.seconds.items()},
    }


def _result(rank: int, document: "Document") -> dict[str, Any]:
    meta = dict(document.meta)
    measured = meta.pop("trlm")
    return {
        "rank": rank,
        "first_stage_rank": measured["first_stage_rank"],
        "id": document.id,
        "title": meta.get("title"),
        "score": document.score,
        "first_stage_score": measured["first_stage_score"],
        "log_likelihood": measured["log_likelihood"],
        "mean_log_likelihood": measured["mean_log_likelihood"],
        "cut_tokens": measured["cut_tokens"],
        **{name: measured[name] for name in ("gain", "token_gains") if name in measured},
        "text": document.content,
        "meta": meta,
    }


def show(ranking: "Ranking", top_k: int) -> None:
    """Print a ranking for a person."""
    from trlm_retrieval.pages.display import printable, query_pattern

    if not ranking.documents:
        out.print("No passage found.")
        return
    pattern = query_pattern(ranking.query)
    out.print(Text(printable(ranking.query), style="bold"))
    out.print()
    table = Table.grid(padding=(0, 2, 1, 0))
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column()
    for rank, document in enumerate(ranking.documents[:top_k], start=1):
        was = document.meta["trlm"]["first_stage_rank"]
        table.add_row(Text(str(rank), "bold"), moved(rank, was), _entry(document, pattern))
    out.print(Padding(table, (0, 0, 0, 1)))
    out.print(Text(timing(ranking), "dim"))


def moved(rank: int, was: int) -> Text:
    """Where the first stage had a passage, and how far reranking moved it."""
    if was == rank:
        return Text(f"was {was}", "dim")
    sign, style = ("▲", "green") if was > rank else ("▼", "red")
    return Text.assemble((f"was {was} ", "dim"), (f"{sign}{abs(was - rank)}", style))


def timing(ranking: "Ranking") -> str:
    """How long each stage took, on one line."""
    stages = [f"{stage} {_duration(seconds)}" for stage, seconds in ranking.seconds.items()]
    return f"{count(len(ranking.documents), 'candidate')} · " + " · ".join(stages)


def _entry(document: "Document", pattern: re.Pattern[str] | None) -> Group:
    from trlm_retrieval.pages.display import marked, printable, snippet
    from trlm_retrieval.pages.explanation import display_title

    measured = document.meta["trlm"]
    heading = Text.assemble(
        (printable(display_title(document)), "bold cyan"),
        (f"   score {document.score:.3f}   log P {measured['log_likelihood']:.1f} nats", "dim"),
    )
    if measured["cut_tokens"]:
        heading.append(f"   last {count(measured['cut_tokens'], 'token')} not read", "yellow")
    text = Text()
    for piece, is_match in marked(snippet(printable(document.content or ""), pattern), pattern):
        text.append(piece, "bold yellow" if is_match else "")
    lines = [heading, text]
    if "token_gains" in measured:
        lines.append(_gains(measured))
    return Group(*lines)


def _gains(measured: dict[str, Any]) -> Text:
    """Each token of the question with its gain in nats; blue helps, orange hurts."""
    from trlm_retrieval.pages.display import printable

    line = Text("gain ", "dim")
    line.append(f"{measured['gain']:+.1f} nats ", "dim bold")
    for found in measured["token_gains"]:
        line.append(" ")
        line.append(
            f"{printable(found['token']).strip()} {found['gain']:+.1f}", _shade(found["gain"])
        )
    return line


def _shade(gain: float) -> str:
    """Black on a pastel, stronger for larger gains: readable on dark and on light terminals."""
    strength = min(1.0, abs(gain) / _FULL_SHADE)
    strongest = (110, 160, 245) if gain >= 0 else (245, 150, 80)
    red, green, blue = (round(245 + (channel - 245) * strength) for channel in strongest)
    return f"black on rgb({red},{green},{blue})"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
