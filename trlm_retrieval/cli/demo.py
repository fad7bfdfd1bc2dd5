"""``trlm demo``: everything from nothing, on the Python language reference."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._checks import check_model
from trlm_retrieval.cli._states import drop_states, keep_states, states_format
from trlm_retrieval.cli._terminal import (
    DEFAULT_INDEX,
    IndexOption,
    JsonOption,
    ModelOption,
    count,
    err,
    out,
    print_json,
    working,
)
from trlm_retrieval.cli.search import as_data, moved, timing
from trlm_retrieval.errors import PassageIndexError
from trlm_retrieval.models.source import DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from haystack import Document

    from trlm_retrieval.cli._ranking import Ranking

QUESTIONS = (
    "how does the with statement call enter and exit",
    "UnboundLocalError when I assign to a variable that exists outside the function",
    "why does my default list argument keep its old values between calls",
    "what values count as false in an if",
)
DEMO_MODEL = "trlm-small"  # ships with the package; its states take 40 MB
_SHOWN = 3


def demo(
    index: IndexOption = DEFAULT_INDEX,
    model: ModelOption = None,
    candidates: Annotated[
        int, typer.Option("--candidates", "-c", min=_SHOWN, help="Passages to rerank.")
    ] = 100,
    as_json: JsonOption = False,
) -> None:
    """Fetch an embedder, index the Python reference, answer some questions.

    The model that ranks ships with the package, and each passage is read once, when indexing.
    What is there already is used again, so that a second run takes seconds. Shows for each
    question the first passages before and after reranking.

    Examples:

    * `trlm demo`

    * `trlm demo --index demo-index --json`
    """
    started = time.perf_counter()
    if model is not None:
        check_model(model)
    _prepare(index, keep=model is None)
    with working("Loading"):
        from trlm_retrieval.cli._searcher import Searcher

        searcher = Searcher(index, model or DEMO_MODEL, candidates)
    rankings = []
    for question in QUESTIONS:
        with working(question):
            rankings.append(searcher.ask(question))
        if not as_json:
            show(rankings[-1])
    seconds = time.perf_counter() - started
    if as_json:
        print_json(
            {
                "index": str(index),
                "seconds": round(seconds, 3),
                "questions": [
                    as_data(ranking, _SHOWN)
                    | {"before": [document.id for document in ranking.before[:_SHOWN]]}
                    for ranking in rankings
                ],
            }
        )
    else:
        out.print(f"{count(len(rankings), 'question')} in {seconds:.1f} s. Try your own:")
        where = "" if index == DEFAULT_INDEX else f" --index {index}"
        out.print(f'  trlm search "what is a descriptor"{where} --explain', markup=False)
        out.print(f'  trlm explain "what is a descriptor"{where}', markup=False)


def show(ranking: "Ranking") -> None:
    """Print the first passages of both orders, side by side."""
    from trlm_retrieval.pages.display import printable

    table = Table(
        title=printable(ranking.query),
        title_justify="left",
        title_style="bold",
        caption=timing(ranking),
        caption_justify="left",
        expand=True,
        show_lines=True,
        header_style="",
    )
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("before: BM25 + FAISS", ratio=1)
    table.add_column("after: P(question | passage)", ratio=1)
    both = zip(ranking.before[:_SHOWN], ranking.documents[:_SHOWN], strict=True)
    for rank, (before, after) in enumerate(both, start=1):
        was = after.meta["trlm"]["first_stage_rank"]
        table.add_row(
            str(rank),
            _entry(before, ranking.query),
            Text.assemble(moved(rank, was), "  ", _entry(after, ranking.query)),
        )
    out.print(table)
    out.print()


def _entry(document: "Document", query: str) -> Text:
    from trlm_retrieval.pages.display import (
        display_title,
        marked,
        printable,
        query_pattern,
        snippet,
    )

    pattern = query_pattern(query)
    text = Text(printable(display_title(document)), "bold cyan")
    text.append("\n")
    for piece, is_match in marked(
        snippet(printable(document.content or ""), pattern, 150), pattern
    ):
        text.append(piece, "bold yellow" if is_match else "")
    return text


def _prepare(folder: Path, keep: bool) -> None:
    """Pull the embedder and make the index, unless they are there.

    :param keep: whether the states of the demo's model are kept beside the index.
    """
    from trlm_retrieval.models.store import is_pulled, pull

    if not is_pulled(DEFAULT_EMBEDDER):
        pull(DEFAULT_EMBEDDER, report=lambda step: err.print(f"{DEFAULT_EMBEDDER}: {step}"))
    with working("Loading"):
        from trlm_retrieval.index_data import demo_documents
        from trlm_retrieval.passage_index import PassageIndex

        documents = demo_documents()
        state = _state(folder, {document.id: document.content for document in documents})
    if state != "ready":
        err.print(f"The demo index is {state}: indexing {count(len(documents), 'passage')}.")
        PassageIndex.build(folder, documents, embedder=DEFAULT_EMBEDDER, show_progress=True)
        drop_states(folder)
    if keep:
        from trlm_retrieval.lm.state_folder import model_of_states
        from trlm_retrieval.passage_index.files import STATES

        if model_of_states(folder / STATES) != DEMO_MODEL:
            keep_states(folder, DEMO_MODEL, states_format("int8", None))


def _state(folder: Path, wanted: dict[str, str | None]) -> str:
    """Whether the index at a folder is ready, out of date or missing.

    :raises PassageIndexError: if it is damaged, or holds other documents than the demo's.
    """
    from trlm_retrieval.passage_index import PassageIndex

    if not (folder / "manifest.json").is_file():
        return "missing"
    held = {document.id: document.content for document in PassageIndex.open(folder).documents()}
    if held and not held.keys() & wanted.keys():
        raise PassageIndexError(
            f"the index at {folder} holds other documents than the demo's: choose another folder "
            "with --index"
        )
    return "ready" if held == wanted else "out of date"
