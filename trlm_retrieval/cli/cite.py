"""``trlm cite``: an answer with numbered citations, and what the sources say in support."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._checks import check_model, check_paths
from trlm_retrieval.cli._terminal import (
    NOTHING_FOUND,
    JsonOption,
    count,
    err,
    out,
    print_json,
    read_text,
    some_of,
    working,
)

if TYPE_CHECKING:
    from haystack import GeneratedAnswer

_NEAREST = (
    "The nearest source of each sentence. Near is not the same as saying so: read the quotes. "
    "! marks numbers, dates or negations that differ."
)
_WITH_NLI = (
    "The nearest source of each sentence, and what the NLI model says of it. ✓ marks sentences "
    "that follow from their quote, ! those that contradict it or differ from it in numbers, dates "
    "or negations."
)


def cite(
    answer: Annotated[
        Path,
        typer.Option(
            "--answer",
            "-a",
            help="Text file with the answer, or - for standard input.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    sources: Annotated[
        list[Path],
        typer.Option(
            "--sources",
            "-s",
            help="File or folder with sources; more may follow without it.",
            metavar="PATH",
            show_default=False,
        ),
    ],
    more: Annotated[
        list[Path] | None, typer.Argument(help="More sources.", metavar="PATH", show_default=False)
    ] = None,
    question: Annotated[
        str, typer.Option("--question", "-q", help="What was asked, for the page's heading.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write an HTML page as well.", metavar="FILE", dir_okay=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Model to score with, as for `trlm search`.", show_default=False
        ),
    ] = None,
    search: Annotated[
        Literal["linear", "binary", "exclusion"] | None,
        typer.Option(
            help="How the supporting sentence is found; binary needs the fewest model calls.",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Citations a sentence.")] = 1,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Support below which a sentence counts as unsupported.", show_default=False
        ),
    ] = None,
    nli: Annotated[
        str | None,
        typer.Option(
            help="NLI model, a folder or hub id: says whether each sentence follows from its quote "
            "or contradicts it.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which source is nearest to each sentence of an answer, and which sentences none is.

    Markers such as [2] in the answer count the sources in the order given; they are checked, and
    the ones found are written in their place.

    Examples:

    * `trlm cite --answer answer.txt --sources notes/`

    * `trlm cite --answer - --sources a.md b.pdf --output cited.html < answer.txt`
    """
    text = read_text(answer)
    if not text.strip():
        raise typer.BadParameter("the answer is empty", param_hint="--answer")
    check_paths([*sources, *(more or [])])
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.components import TRLMCitationAttributor
        from trlm_retrieval.errors import DataError
        from trlm_retrieval.passage_index.reading import read_sources

        reading = read_sources([*sources, *(more or [])])
        for skipped in reading.skipped:
            err.print(f"note: {skipped.path}: {skipped.reason}", style="yellow", soft_wrap=True)
        for remark in reading.notes:
            err.print(f"note: {remark}", style="yellow", soft_wrap=True)
        if not any((passage.content or "").strip() for passage in reading.passages):
            raise DataError(f"no text to cite in {some_of([str(path) for path in sources])}")
        given = {"model": model, "search": search, "score_threshold": threshold, "nli": nli}
        settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        attributor = TRLMCitationAttributor(top_k=top_k, **settings)
        attributor.warm_up()
    with working(f"Reading {count(len(reading.passages), 'source')}"):
        arguments: Any = {"replies": [text], "documents": reading.passages, "query": question}
        [found] = attributor.run(**arguments)["answers"]
    if output is not None:
        from trlm_retrieval.files import write_text
        from trlm_retrieval.pages.citations import citation_page

        names = {"model": str(attributor.model)} | ({"NLI model": nli} if nli else {})
        write_text(output, citation_page(found, names))
    if as_json:
        print_json(as_data(found))
    else:
        show(found)
        if output is not None:
            out.print(f"Wrote {output}: open it in a browser.", markup=False)
    if not any(sentence["supported"] for sentence in found.meta["trlm"]["sentences"]):
        raise typer.Exit(NOTHING_FOUND)


def as_data(answer: "GeneratedAnswer") -> dict[str, Any]:
    """A cited answer as JSON: its text with markers, its sentences, and the sources by number."""
    return {
        "query": answer.query,
        "answer": _marked(answer),
        **answer.meta["trlm"],
        "sources": {
            document.meta["source_index"]: {
                "id": document.id,
                "referenced": document.meta["referenced"],
            }
            for document in answer.documents
        },
    }


def show(answer: "GeneratedAnswer") -> None:
    """Print a cited answer for a person."""
    from trlm_retrieval.pages.citations import note, sign
    from trlm_retrieval.pages.display import display_title, printable

    out.print(Text(printable(_marked(answer).strip())))
    out.print()
    sentences = answer.meta["trlm"]["sentences"]
    checked = any("nli" in citation for s in sentences for citation in s["citations"])
    out.print(Text(_WITH_NLI if checked else _NEAREST, "dim"))
    titles = {d.meta["source_index"]: printable(display_title(d)) for d in answer.documents}
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for sentence in sentences:
        claim = " ".join(printable(sentence["text"]).split())
        mark = sign(sentence)
        style = {"!": "red", "?": "yellow"}.get(mark, "green")
        table.add_row(Text(mark, style), Text(claim, "bold" if sentence["supported"] else style))
        for citation in sentence["citations"]:
            quote = " ".join(printable(citation["quote"]).split())
            table.add_row(
                Text(f"[{citation['number']}]", "cyan"),
                Text.assemble((titles[citation["number"]], "cyan"), f" “{quote}”"),
            )
        table.add_row("", Text(note(sentence), "dim"))
    out.print(table)
    unsupported = answer.meta["trlm"]["unsupported"]
    counted = f"{count(len(sentences), 'sentence')}, {unsupported} without a near source"
    out.print(Text(counted, "dim"))


def _marked(answer: "GeneratedAnswer") -> str:
    from trlm_retrieval.citation.markers import with_markers
    from trlm_retrieval.text.sentences import Span

    return with_markers(
        answer.data or "",
        {
            Span(sentence["start"], sentence["end"]): [c["number"] for c in sentence["citations"]]
            for sentence in answer.meta["trlm"]["sentences"]
        },
        {document.meta["source_index"] for document in answer.documents},
    )
