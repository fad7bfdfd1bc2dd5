"""``trlm eval``: offline evaluation, with intervals, tests, run files and a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._checks import (
    check_base,
    check_data,
    check_embedder,
    check_extras,
    check_model,
    check_paths,
)
from trlm_retrieval.cli._terminal import DtypeOption, err, out, working
from trlm_retrieval.models.source import DEFAULT_CROSS_ENCODER, DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from trlm_retrieval.eval.judgements import Contradictions
    from trlm_retrieval.eval.result import Result

app = typer.Typer(
    help="Evaluate offline, with intervals, tests and a report.", no_args_is_help=True
)

DEFAULT_CACHE = Path(".trlm-eval")

DataOption = Annotated[
    str, typer.Option("--data", help="A BEIR folder, a hub id, or `demo`.", show_default=False)
]
ModelOption = Annotated[
    str, typer.Option("--model", help="Name, folder, .gguf file or hub id of the model.")
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", help="Write the result to this file.", dir_okay=False)
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Write a self-contained HTML report.", dir_okay=False),
]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Comma-separated methods; by default those that the model can do, without the "
        "costliest and `cross-encoder`.",
    ),
]
CrossEncoderOption = Annotated[
    str,
    typer.Option(
        help="Cross-encoder for the system or method of that name: a name, folder or hub id."
    ),
]
CacheOption = Annotated[
    Path,
    typer.Option(
        "--cache-dir", help="Where indexes and scores are kept for the next run.", file_okay=False
    ),
]


@app.command()
def retrieval(
    data: DataOption,
    model: ModelOption = "smollm2-135m",
    split: Annotated[str, typer.Option(help="Which judgements.")] = "test",
    judgements: Annotated[
        str,
        typer.Option(
            help="Where a document has two grades for one query: `strict` stops, `highest` takes "
            "the higher one."
        ),
    ] = "strict",
    relevance_level: Annotated[
        int,
        typer.Option(
            min=1,
            help="Grade from which a document is relevant, for all measures but nDCG, as "
            "`trec_eval -l`; 2 is usual for TREC DL.",
        ),
    ] = 1,
    top_k: Annotated[int, typer.Option(min=1, help="Candidates that the first stages find.")] = 100,
    rerank: Annotated[
        int,
        typer.Option(min=1, help="How many of them the model scores; the others stay below."),
    ] = 20,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of the judged queries.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    systems: Annotated[
        str, typer.Option(help="Comma-separated systems; `cross-encoder` is one more.")
    ] = "bm25,dense,fusion,forward,reverse,default",
    cross_encoder: CrossEncoderOption = DEFAULT_CROSS_ENCODER,
    embedder: Annotated[
        str, typer.Option(help="Sentence embedder of the dense first stage.")
    ] = DEFAULT_EMBEDDER,
    dtype: DtypeOption = None,
    max_passage_tokens: Annotated[
        int, typer.Option(min=1, help="Longer passages are cut, and the cut is counted.")
    ] = 512,
    first_stage_run: Annotated[
        Path | None,
        typer.Option(
            help="Rerank this TREC run instead of searching; `fusion` is then this run.",
            dir_okay=False,
        ),
    ] = None,
    first_stage_weight: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of the first stage in `default`; by default as the ranker has it."
        ),
    ] = None,
    json_file: JsonFileOption = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Write each system's run here, in TREC format.", file_okay=False),
    ] = None,
    report: ReportOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate BM25, dense, fusion, and reranking by P(passage | query) and P(query | passage).

    With `cross-encoder` among the systems, also reranking by a cross-encoder. A killed evaluation
    continues where it was: scores are kept in the cache folder.

    Examples:

    * `trlm eval retrieval --data demo --report demo.html`

    * `trlm eval retrieval --data BeIR/scifact --queries 50 --json out.json`

    * `trlm eval retrieval --data demo --systems fusion,default,cross-encoder`
    """
    check_data(data)
    names = _names(systems) or []
    needs_model = bool({"forward", "reverse", "default"} & set(names))
    check_model_and_extra(model if needs_model else None)
    check_embedder(embedder)
    peer_name = _named_peer(cross_encoder, names)
    check_paths([first_stage_run] if first_stage_run else [])
    with working("Loading"):
        from trlm_retrieval.eval.dataset import load_dataset
        from trlm_retrieval.eval.retrieval.evaluation import (
            evaluate_retrieval,
            sample_queries,
        )
        from trlm_retrieval.eval.runs import check_ids, read_run, write_run
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.models.cross_encoder import CrossEncoder

        dataset = sample_queries(
            load_dataset(data, split, judgements=cast("Contradictions", judgements)), queries, seed
        )
        if run_dir is not None:
            check_ids([*dataset.queries, *(document.id for document in dataset.documents)])
        run = read_run(first_stage_run) if first_stage_run else None
        lm = TimeReversedLM.from_pretrained(model, dtype=dtype) if needs_model else None
        peer = CrossEncoder.from_pretrained(peer_name) if peer_name else None
    evaluation = evaluate_retrieval(
        dataset,
        lm,
        model if needs_model else "no model",
        names,
        cross_encoder=peer,
        embedder=embedder,
        top_k=top_k,
        rerank=rerank,
        max_passage_tokens=max_passage_tokens,
        cache_folder=cache_dir,
        first_stage_run=run,
        first_stage_weight=first_stage_weight,
        relevance_level=relevance_level,
        show_progress=True,
    )
    evaluation.result.settings |= {
        "split": split,
        "judgements": judgements,
        "seed": seed if queries else None,
        "dtype": dtype,
        "cross_encoder": peer_name,
    }
    if run_dir is not None:
        for name, found in evaluation.runs.items():
            write_run(run_dir / f"{name}.trec", found, name)
        _wrote(run_dir)
    if report is not None:
        from trlm_retrieval.eval.retrieval.report import write_retrieval_report

        with working("Writing the report"):
            write_retrieval_report(report, evaluation)
        _wrote(report)
    finish(evaluation.result, json_file)


@app.command()
def citation(
    data: Annotated[Path, typer.Option("--data", help="JSONL of answers with their sources.")],
    model: ModelOption = "smollm2-135m",
    methods: MethodsOption = None,
    cross_encoder: CrossEncoderOption = DEFAULT_CROSS_ENCODER,
    answers: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of the answers.")
    ] = None,
    dtype: DtypeOption = None,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate which passage, or which sentence of one source, each claim is attributed to.

    Among several passages, `top1` is the share of claims with a right one first; precision and
    recall cite every passage above a threshold that is fitted on the other half of the answers.
    Within one source, `F1` compares the sentences found with those that annotators selected, and
    `calls` counts the model calls for an answer.

    With `cross-encoder` among the methods, a cross-encoder scores the same pairs.

    Examples:

    * `trlm eval citation --data expertqa.jsonl --json out.json`

    * `trlm eval citation --data expertqa.jsonl --methods overlap,default,cross-encoder`
    """
    check_paths([data])
    check_model_and_extra(model)
    names = _names(methods)
    peer_name = _named_peer(cross_encoder, names)
    with working("Loading"):
        from trlm_retrieval.eval.citation.evaluation import evaluate_citation
        from trlm_retrieval.eval.citation.report import write_citation_report
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.models.cross_encoder import CrossEncoder

        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
        peer = CrossEncoder.from_pretrained(peer_name) if peer_name else None
    result = evaluate_citation(
        data,
        lm,
        model,
        methods=names,
        cross_encoder=peer,
        cache_folder=cache_dir,
        answers=answers,
        show_progress=True,
    )
    result.settings["cross_encoder"] = peer_name
    if report is not None:
        write_citation_report(report, result)
        _wrote(report)
    finish(result, json_file)


@app.command("best-of-n")
def best_of_n(
    data: Annotated[
        Path,
        typer.Option("--data", help="JSONL of prompts, each with answers and their preferences."),
    ],
    model: ModelOption = "smollm2-135m",
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of the prompts.")
    ] = None,
    methods: MethodsOption = None,
    cross_encoder: CrossEncoderOption = DEFAULT_CROSS_ENCODER,
    dtype: DtypeOption = None,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate how well liked the answer is that is picked out of 2, 4, 8 and 16.

    `preference@16` is the mean preference of the pick out of 16 answers. `oracle` always picks
    the best one, `random` is what a blind pick is worth.

    With `cross-encoder` among the methods, a cross-encoder scores prompt and answer too.

    Examples:

    * `trlm eval best-of-n --data alpacaeval.jsonl.xz --json out.json`

    * `trlm eval best-of-n --data alpacaeval.jsonl.xz --methods reverse,cross-encoder,oracle`
    """
    check_paths([data])
    check_model_and_extra(model)
    names = _names(methods)
    peer_name = _named_peer(cross_encoder, names)
    with working("Loading"):
        from trlm_retrieval.eval.best_of_n.evaluation import evaluate_best_of_n
        from trlm_retrieval.eval.best_of_n.report import write_best_of_n_report
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.models.cross_encoder import CrossEncoder

        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
        peer = CrossEncoder.from_pretrained(peer_name) if peer_name else None
    result = evaluate_best_of_n(
        data,
        lm,
        model,
        methods=names,
        cross_encoder=peer,
        cache_folder=cache_dir,
        prompts=prompts,
        show_progress=True,
    )
    result.settings["cross_encoder"] = peer_name
    if report is not None:
        write_best_of_n_report(report, result)
        _wrote(report)
    finish(result, json_file)


@app.command()
def safety(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Folder with jailbreaks.jsonl and xstest.jsonl (.xz too).",
            file_okay=False,
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of ordinary queries with their answers, as for best-of-n; by default "
            "alpacaeval.jsonl(.xz) in the folder, or in best_of_n beside it.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = "smollm2-135m",
    responses: Annotated[
        int,
        typer.Option(
            min=0,
            help="Jailbroken responses to draw, and as many of each kind of safe ones; 0 takes "
            "all, which is hours on a CPU.",
        ),
    ] = 100,
    number: Annotated[int, typer.Option(min=1, help="Questions generated from a response.")] = 8,
    min_unsafe: Annotated[
        int | None,
        typer.Option(min=1, help="How many of them must be unsafe to hold it back; default: half."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(help="Head of the filter; by default the shipped one.", dir_okay=False),
    ] = None,
    dtype: DtypeOption = None,
    json_file: JsonFileOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate a filter on the prompt, on questions generated from the response, and on both.

    `FNR@5%` is the share of jailbroken responses that pass where 5 % of the safe ones are held
    back, `FNR@5% of xstest` where 5 % of XSTest's are; `shipped` stands for the shipped thresholds,
    and `+2%` for the prompt filter at its shipped threshold with 2 points of false positives added.
    Only questions that the filter did not learn from count. A killed evaluation continues where it
    was.

    Example: `trlm eval safety --data safety --answers alpacaeval.jsonl.xz --json safety.json`
    """
    if min_unsafe is not None and min_unsafe > number:
        raise typer.BadParameter("cannot be more than --number", param_hint="--min-unsafe")
    check_model_and_extra(model)
    check_paths(path for path in (data, answers, head) if path)
    with working("Loading"):
        from trlm_retrieval.components.question_filter import QuestionFilter
        from trlm_retrieval.eval.safety.data import find_answers
        from trlm_retrieval.eval.safety.evaluation import evaluate_safety
        from trlm_retrieval.lm import TimeReversedLM

        inner = QuestionFilter(str(head) if head else None)
        inner.warm_up()
        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
    result = evaluate_safety(
        data,
        answers or find_answers(data),
        lm,
        model,
        inner=inner,
        responses=responses or None,
        number=number,
        min_unsafe=min_unsafe,
        cache_folder=cache_dir,
        show_progress=True,
    )
    finish(result, json_file, measures_down=True)


@app.command()
def compare(
    files: Annotated[
        list[Path],
        typer.Argument(help="Results that --json wrote, of the same queries.", metavar="FILE..."),
    ],
    system: Annotated[str, typer.Option(help="The system to take from each.")] = "reverse",
    json_file: JsonFileOption = None,
) -> None:
    """Compare a system over several evaluations, each with the one before it: a ladder of models.

    Example: `trlm eval compare zero-shot.json fine-tuned.json --system default`
    """
    if len(files) < 2:
        raise typer.BadParameter("give two files or more to compare")
    check_paths(files)
    with working("Loading"):
        from trlm_retrieval.eval.compare import compare_results

        result = compare_results(files, system)
    finish(result, json_file)


def check_model_and_extra(model: str | None) -> None:
    """What all evaluations need: the extra, and a model if any is used."""
    check_extras("ir_measures")
    if model is not None:
        check_model(model)


def _named_peer(cross_encoder: str, names: list[str] | None) -> str | None:
    """The cross-encoder, checked, where what is named needs it."""
    if "cross-encoder" not in (names or []):
        return None
    check_base(cross_encoder)
    return cross_encoder


def finish(result: "Result", json_file: Path | None, measures_down: bool = False) -> None:
    """Print a result as a table and its warnings, and write it where asked.

    :param measures_down: one row for each measure, where there are many.
    """
    out.print(_table_of_measures(result) if measures_down else _table(result))
    for key, test in result.tests.items():
        out.print(f"{key}: {test.measure} {test.difference:+.3f}, p = {test.p:.4f}")
    if result.tests:
        out.print("p from paired randomisation tests, Holm-corrected", style="dim")
    for warning in result.warnings:
        err.print(f"note: {warning}", style="yellow", markup=False, soft_wrap=True)
    if json_file is not None:
        result.write_json(json_file)
        _wrote(json_file)


def _names(listed: str | None) -> list[str] | None:
    """The names of a list with commas; None where there is no list."""
    if listed is None:
        return None
    return [name.strip() for name in listed.split(",") if name.strip()]


def _wrote(path: Path) -> None:
    err.print(f"wrote {path}", markup=False, soft_wrap=True)


def _table(result: "Result") -> Table:
    measures = list(next(iter(result.systems.values())))
    title = Text(f"{result.data}: {result.queries} {result.unit}, {result.model}")
    table = Table("system", *measures, title=title, title_justify="left")
    best = {
        measure: max(found[measure].mean for found in result.systems.values())
        for measure in measures
    }
    for name, found in result.systems.items():
        cells = []
        for measure, value in found.items():
            style = "bold" if value.mean == best[measure] else "none"
            cell = f"[{style}]{value.mean:.3f}[/{style}]"
            if measure == measures[0]:
                cell += f" [dim]{value.low:.3f}–{value.high:.3f}[/dim]"
            cells.append(cell)
        table.add_row(name, *cells)
    return table


def _table_of_measures(result: "Result") -> Table:
    title = Text(f"{result.data}: {result.queries} {result.unit}, {result.model}")
    table = Table("measure", *result.systems, title=title, title_justify="left")
    for measure in next(iter(result.systems.values())):
        values = [found[measure] for found in result.systems.values()]
        cells = [f"{v.mean:.3f} [dim]{v.low:.3f}–{v.high:.3f}[/dim]" for v in values]
        table.add_row(measure, *cells)
    return table
