"""``trlm index``: make a collection searchable."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trlm_retrieval.cli._checks import check_embedder, check_index, check_model, check_paths
from trlm_retrieval.cli._states import (
    StatesPoolOption,
    StatesPrecisionOption,
    check_states_options,
    drop_states,
    keep_states,
    states_format,
)
from trlm_retrieval.cli._terminal import (
    DEFAULT_INDEX,
    IndexOption,
    JsonOption,
    ModelOption,
    count,
    err,
    out,
    print_json,
    some_of,
    working,
)
from trlm_retrieval.errors import DataError
from trlm_retrieval.models.source import DEFAULT_EMBEDDER, DEFAULT_MODEL

if TYPE_CHECKING:
    from haystack import Document

    from trlm_retrieval.passage_index import PassageIndex
    from trlm_retrieval.passage_index.reading import Skipped

_NAMED = 3  # files of one reason that are named


FaissKind = Literal["flat", "hnsw"]


def index(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files and folders: .txt .md .html .pdf .docx .jsonl .json .csv .tsv and code "
            "such as .py .js .java .c, or a folder in BEIR layout.",
            metavar="PATH...",
            show_default=False,
        ),
    ] = None,
    index: IndexOption = DEFAULT_INDEX,
    demo: Annotated[
        bool, typer.Option("--demo", help="Index the Python language reference.")
    ] = False,
    embedder: Annotated[
        str | None,
        typer.Option(
            help=f"Sentence embedder: a name, folder or hub id. [default: {DEFAULT_EMBEDDER}]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    faiss: Annotated[
        FaissKind | None,
        typer.Option(
            help="Exact search, or a graph that stays fast beyond a million passages. "
            "[default: flat]",
            show_default=False,
        ),
    ] = None,
    split_chars: Annotated[
        int,
        typer.Option(
            min=1, help="Cut longer documents into passages of at most this many characters."
        ),
    ] = 800,
    append: Annotated[
        bool, typer.Option("--append", help="Add to the index, replacing what has the same id.")
    ] = False,
    duplicates: Annotated[
        Literal["fail", "first", "last"],
        typer.Option(help="A second document of the same id: an error, or which one is kept."),
    ] = "fail",
    states: Annotated[
        bool,
        typer.Option(
            "--states",
            help="Also compute each passage's states for `trlm search`, so that a question only "
            "pays for its own words. Without files it does so for an "
            "existing index. The size is shown first.",
        ),
    ] = False,
    expand: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of queries to write for each passage; BM25 counts their words too "
            "(doc2query). Takes about a second a passage on a CPU.",
        ),
    ] = 0,
    model: ModelOption = None,
    states_precision: StatesPrecisionOption = None,
    states_pool: StatesPoolOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index files, folders, a BEIR collection or the demo for `trlm search`.

    Whatever was at the index folder is replaced when the new index is complete, not before.
    Files that give no text are listed with the reason. Collections in BEIR layout and the demo
    keep their documents whole, as judgements refer to them.

    Examples:

    * `trlm index --demo`

    * `trlm index docs/ src/ report.pdf prices.csv`

    * `trlm index rows.jsonl --index support-index --faiss hnsw`

    * `trlm index new-notes/ --append`

    * `trlm index --states --states-precision int8`

    * `trlm index --states --model trlm-small --states-pool 2`

    * `trlm index notes/ --expand 5`
    """
    check_states_options(states, states_precision, states_pool)
    if not (states or expand) and model:
        raise typer.BadParameter("only --states and --expand need it", param_hint="--model")
    if expand and not paths and not demo:
        raise typer.BadParameter("give the files and folders to index", param_hint="--expand")
    if states or expand:
        check_model(model)
    if states and not paths and not demo:
        check_index(index, ranked=False)
        alone = keep_states(index, model, states_format(states_precision, states_pool))
        if as_json:
            print_json({"index": str(index), "states": alone})
        else:
            _states_summary(alone, index)
        return
    if demo == bool(paths):
        raise typer.BadParameter(
            "give either files and folders to index, or --demo", param_hint="PATH..."
        )
    if append and (embedder or faiss):
        raise typer.BadParameter(
            "an existing index keeps its own embedder and FAISS kind: leave --embedder and "
            "--faiss out with --append",
            param_hint="--append",
        )
    check_paths(paths or [])
    if append:
        check_index(index, ranked=False)
    else:
        check_embedder(embedder or DEFAULT_EMBEDDER)
    started = time.perf_counter()
    with working("Starting"):
        from trlm_retrieval.passage_index.documents import PREDICTED_QUERIES
        from trlm_retrieval.passage_index.reading import Reading, read

    if demo:
        with working("Reading the Python language reference"):
            from trlm_retrieval.index_data import demo_documents

            passages = demo_documents()
        reading = Reading(passages, documents=len(passages))
    else:
        reading = read(paths or [], split_chars, True, duplicates=duplicates)
    if not as_json:
        _list_skipped(reading.skipped)
        for note in reading.notes:
            err.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    if not reading.passages:
        raise DataError(f"no documents found in {some_of([str(path) for path in paths or []])}")
    passages = _expand(reading.passages, expand, model) if expand else reading.passages
    if append:
        built, replaced = _append(index, passages)
    else:
        built, replaced = _build(index, passages, embedder, faiss), 0
        drop_states(index)
    kept = None
    if states:
        kept = keep_states(index, model, states_format(states_precision, states_pool))
    facts = {
        "index": str(index),
        "documents": reading.documents,
        "cut": reading.cut,
        "passages": len(reading.passages),
        "replaced": replaced,
        "passages_in_index": len(built),
        "seconds": round(time.perf_counter() - started, 3),
        "notes": reading.notes,
        "skipped": [asdict(skipped) for skipped in reading.skipped],
        "predicted_queries": sum(len(p.meta[PREDICTED_QUERIES]) for p in passages) if expand else 0,
        "states": kept,
    }
    if as_json:
        print_json(facts)
    else:
        _summary(facts)
        if kept is not None:
            _states_summary(kept, index)


def _build(
    folder: Path, passages: Sequence["Document"], embedder: str | None, faiss: FaissKind | None
) -> "PassageIndex":
    from trlm_retrieval.passage_index import PassageIndex

    return PassageIndex.build(
        folder,
        passages,
        embedder=embedder or DEFAULT_EMBEDDER,
        faiss_kind=faiss or "flat",
        show_progress=True,
    )


def _expand(passages: Sequence["Document"], number: int, model: str | None) -> list["Document"]:
    """Copies of the passages with predicted queries in their meta; says how many were cut."""
    from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.passage_index.expansion import expand
    from trlm_retrieval.progress import progress_bar

    with working("Loading the model"):
        lm = TimeReversedLM.from_pretrained(model or DEFAULT_MODEL)
    most = DEFAULT_MAX_PASSAGE_TOKENS
    with progress_bar("Writing queries", len(passages)) as advance:
        expanded, cut = expand(
            passages, lm, number=number, max_passage_tokens=most, progress=advance
        )
    if cut:
        err.print(
            f"note: queries for {count(cut, 'long passage')} are written from the first "
            f"{most} tokens",
            style="yellow",
        )
    return expanded


def _append(folder: Path, passages: Sequence["Document"]) -> tuple["PassageIndex", int]:
    """Add passages to the index, and say how many of its own they replace."""
    from trlm_retrieval.passage_index import PassageIndex

    index = PassageIndex.open(folder)
    return index, index.upsert(passages)


def _list_skipped(skipped: Sequence["Skipped"]) -> None:
    """Name what was left out; files with the same reason share a line."""
    by_reason: dict[str, list[str]] = {}
    for entry in skipped:
        by_reason.setdefault(entry.reason, []).append(entry.path)
    for reason, paths in by_reason.items():
        more = " (--json lists all)" if len(paths) > _NAMED else ""
        err.print(
            f"skipped {some_of(paths, _NAMED)}: {reason}{more}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _summary(facts: dict[str, Any]) -> None:
    documents = count(facts["documents"], "document")
    if facts["cut"]:
        documents += f" ({facts['cut']:,} of them cut)"
    out.print(
        f"{documents}, {count(facts['passages'], 'passage')} indexed in {facts['seconds']:.1f} s "
        f"into {facts['index']}",
        markup=False,
        soft_wrap=True,
    )
    if facts["predicted_queries"]:
        out.print(f"{count(facts['predicted_queries'], 'predicted query', 'predicted queries')}")
    if facts["passages_in_index"] != facts["passages"]:
        out.print(
            f"{facts['replaced']:,} of them replace earlier ones; the index now holds "
            f"{count(facts['passages_in_index'], 'passage')}"
        )


def _states_summary(kept: dict[str, Any], index: Path) -> None:
    out.print(
        f"states of {count(kept['states'], 'passage')} computed in {kept['seconds']:.1f} s, "
        f"{kept['bytes'] / 1e9:.2f} GB in {index}",
        markup=False,
        soft_wrap=True,
    )
