"""``trlm search``: passages for a question, best first."""

import json
import os
import re
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._checks import check_index, check_model
from trlm_retrieval.cli._interactive import Asked, Conversation
from trlm_retrieval.cli._ranking import Ranking, ServerSearcher
from trlm_retrieval.cli._terminal import (
    DEFAULT_CANDIDATES,
    DEFAULT_INDEX,
    NOTHING_FOUND,
    CandidatesOption,
    DeviceOption,
    DtypeOption,
    IndexOption,
    JsonOption,
    MaybeQuestionArgument,
    ModelOption,
    TopKOption,
    count,
    out,
    print_json,
    working,
)

if TYPE_CHECKING:
    from haystack import Document


_FULL_SHADE = 4.0  # nats of gain that get the strongest colour


def search(
    question: MaybeQuestionArgument = None,
    index: IndexOption = DEFAULT_INDEX,
    model: ModelOption = None,
    top_k: TopKOption = 5,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each word of the question gained.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Only passages whose field has this value, as `topic=io`. Repeatable.",
            metavar="FIELD=VALUE",
            show_default=False,
        ),
    ] = None,
    first_stage_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the first stage in the score; by default what suits the model.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Ask the `trlm serve` at this address, which has all loaded, with the key in "
            "TRLM_API_KEY.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search an index: BM25 and FAISS find candidates, the reversed model orders them.

    Each passage shows its rank, where the first stage had it, the score that the order follows,
    and log P(question | passage) in nats. Without a question, at a terminal, it loads once and
    asks for one question after the other.

    Examples:

    * `trlm search "how does the with statement call enter and exit"`

    * `trlm search "when is a generator closed" --top-k 3 --explain`

    * `trlm search "what is a slice" --candidates 30 --json`

    * `trlm search "what is a slice" --server http://127.0.0.1:8000`

    * `trlm search`
    """
    if question is None and (as_json or not sys.stdin.isatty()):
        raise typer.BadParameter("give one, or start at a terminal", param_hint="QUESTION")
    filters = as_filters(only or [])
    started = time.perf_counter()
    if server is not None:
        given = {"--model": model, "--first-stage-weight": first_stage_weight}
        given |= {"--device": device, "--dtype": dtype}
        for option, value in given.items():
            if value is not None:
                raise typer.BadParameter("a server has its own: leave it out", param_hint=option)
        if not server.startswith(("http://", "https://")):
            raise typer.BadParameter("give http://HOST:PORT", param_hint="--server")
        searcher: Asked = ServerSearcher(
            server, max(top_k, candidates), os.environ.get("TRLM_API_KEY")
        )
        load = None
    else:
        check_index(index, model)

        def load(name: str | None) -> Asked:
            if name is not None:
                check_model(name)
            from trlm_retrieval.cli._searcher import Searcher

            ranker: dict[str, Any] = {"first_stage_weight": first_stage_weight, "dtype": dtype}
            return Searcher(index, name, max(candidates, top_k), device=device, ranker=ranker)

        with working("Loading"):
            searcher = load(model)
    loading = time.perf_counter() - started
    if question is None:
        Conversation(searcher, show, as_filters, load, top_k, loading, filters).run()
        return
    with working("Ranking"):
        ranking = searcher.ask(question, explain, filters)
    if as_json:
        print_json({**as_data(ranking, top_k), "loading_seconds": round(loading, 4)})
    else:
        show(ranking, top_k, loading)
    if not ranking.documents:
        raise typer.Exit(NOTHING_FOUND)


def as_filters(conditions: list[str]) -> dict[str, Any] | None:
    """Conditions such as ``topic=io`` as filters in Haystack's syntax; None where there are none.

    :raises ValueError: if one has no field or no value.
    """
    parts = []
    for condition in conditions:
        name, equals, text = (part.strip() for part in condition.partition("="))
        if not name or not equals or not text:
            raise ValueError(f"a filter is written FIELD=VALUE, as topic=io, not {condition!r}")
        values: list[Any] = [text]
        with suppress(ValueError):  # a number or a truth value may be kept as such
            values.append(json.loads(text))
        parts.append({"field": f"meta.{name}", "operator": "in", "value": values})
    return {"operator": "AND", "conditions": parts} if parts else None


def as_data(ranking: Ranking, top_k: int) -> dict[str, Any]:
    """A ranking as JSON: what was asked, what was found, and how long each stage took."""
    return {
        "query": ranking.query,
        "candidates": ranking.candidates,
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


def show(ranking: Ranking, top_k: int, loading: float | None = None) -> None:
    """Print a ranking for a person.

    :param loading: seconds that were spent before the question could be asked.
    """
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
    out.print(Text(timing(ranking, loading), "dim"))


def moved(rank: int, was: int) -> Text:
    """Where the first stage had a passage, and how far reranking moved it."""
    if was == rank:
        return Text(f"was {was}", "dim")
    sign, style = ("▲", "green") if was > rank else ("▼", "red")
    return Text.assemble((f"was {was} ", "dim"), (f"{sign}{abs(was - rank)}", style))


def timing(ranking: Ranking, loading: float | None = None) -> str:
    """How long each stage took, on one line, and loading apart from them."""
    stages = [f"{stage} {_duration(seconds)}" for stage, seconds in ranking.seconds.items()]
    if loading is not None:
        stages.append(f"loaded before in {_duration(loading)}")
    return f"{count(ranking.candidates, 'candidate')} · " + " · ".join(stages)


def _entry(document: "Document", pattern: re.Pattern[str] | None) -> Group:
    from trlm_retrieval.pages.display import (
        display_place,
        display_title,
        marked,
        printable,
        snippet,
    )

    measured = document.meta["trlm"]
    heading = Text.assemble(
        (printable(display_title(document)), "bold cyan"),
        (f"   score {document.score:.3f}   log P {measured['log_likelihood']:.1f} nats", "dim"),
    )
    place = display_place(document)
    if place and place != display_title(document):
        heading.append(f"   {printable(place)}", "dim")
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
