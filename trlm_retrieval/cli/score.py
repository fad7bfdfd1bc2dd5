"""``trlm score``: many pairs, or the states of a whole corpus, offline."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trlm_retrieval.cli._checks import check_extras, check_model, check_paths
from trlm_retrieval.cli._states import (
    StatesPoolOption,
    StatesPrecisionOption,
    check_states_options,
    states_format,
)
from trlm_retrieval.cli._terminal import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    count,
    out,
    print_json,
    working,
)
from trlm_retrieval.models.source import DEFAULT_MODEL

if TYPE_CHECKING:
    from trlm_retrieval.offline import Summary
    from trlm_retrieval.offline.run import Workers


def score(
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            help="A .parquet or .jsonl file, or a folder of such files, a pair a row.",
            metavar="PATH",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the results. If it holds parts of this run, the run continues.",
            metavar="FOLDER",
            show_default=False,
        ),
    ],
    query: Annotated[str, typer.Option(help="Column of the query.", metavar="COLUMN")] = "query",
    passage: Annotated[
        str,
        typer.Option(
            help="Column of the passage, or several that are joined: `title,text`.",
            metavar="COLUMNS",
        ),
    ] = "passage",
    row_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="Column to pass on as `id`.", metavar="COLUMN", show_default=False
        ),
    ] = None,
    model: ModelOption = None,
    direction: Annotated[
        Literal["ba", "fo", "forward"] | None,
        typer.Option(help="By default what suits the model.", show_default=False),
    ] = None,
    max_passage_tokens: Annotated[
        int, typer.Option(min=1, help="Longer passages are cut, and the cut is counted.")
    ] = 512,
    prior: Annotated[
        bool,
        typer.Option("--prior", help="Also score each query without its passage, for the gain."),
    ] = False,
    states: Annotated[
        bool,
        typer.Option(
            "--states", help="Compute the passages' states for `TRLMRanker`, and no scores."
        ),
    ] = False,
    states_precision: StatesPrecisionOption = None,
    states_pool: StatesPoolOption = None,
    shard_rows: Annotated[
        int,
        typer.Option(
            min=1, help="Rows in a part: what a killed worker loses. A few minutes' work is right."
        ),
    ] = 1000,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    on_ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Work with actors of the Ray cluster at RAY_ADDRESS, else of a local one."
        ),
    ] = False,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Models at work at the same time; by default all that fit.",
            show_default=False,
        ),
    ] = None,
    cpus_per_actor: Annotated[int, typer.Option(min=1, help="Processor cores of an actor.")] = 1,
    gpus_per_actor: Annotated[
        float | None,
        typer.Option(
            min=0, help="GPUs of an actor; by default 1 where there are any.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score the (query, passage) pairs of files, shard by shard, into Parquet.

    Needs the extra `score`, and `ray` for `--ray`. Each part holds `row`, `log_likelihood` (of all
    the query's tokens, in nats), `tokens`, `cut_tokens`, `error` for rows that cannot be scored,
    with `--id` the `id`, with `--prior` the `prior` and the `gain`. Run again, it makes the parts
    that are missing.

    Examples:

    * `trlm score --input pairs.parquet --output scores`

    * `trlm score --input pairs/ --output scores --id pair --prior --ray --actors 2`

    * `trlm score --input corpus.jsonl --passage title,text --output states --states --ray`
    """
    check_states_options(states, states_precision, states_pool)
    if states and (prior or row_id):
        raise typer.BadParameter("states have none: leave it out", param_hint="--prior, --id")
    if not on_ray and (actors or gpus_per_actor is not None or cpus_per_actor != 1):
        raise typer.BadParameter("only --ray has actors", param_hint="--...actor")
    check_extras("pyarrow", *(["ray"] if on_ray else []))
    check_paths([source])
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.offline import Job, run
        from trlm_retrieval.offline.rows import Columns
        from trlm_retrieval.offline.run import Here

    workers: Callable[[Job], Workers] = Here
    if on_ray:
        from trlm_retrieval.offline.ray_actors import RayActors

        workers = partial(RayActors, actors=actors, cpus=cpus_per_actor, gpus=gpus_per_actor)
    job = Job(
        output=output,
        model=model or DEFAULT_MODEL,
        columns=Columns(
            None if states else query,
            tuple(column.strip() for column in passage.split(",") if column.strip()),
            row_id,
        ),
        direction=direction,
        max_passage_tokens=max_passage_tokens,
        prior=prior,
        states=states_format(states_precision, states_pool) if states else None,
        device=device,
        dtype=dtype,
    )
    summary = run(source, job, shard_rows, workers, show_progress=True)
    if as_json:
        print_json(_facts(summary, output))
    else:
        _print(summary, output, states)


def _facts(summary: "Summary", output: Path) -> dict[str, Any]:
    return {
        "output": str(output),
        "rows": summary.rows,
        "parts": summary.parts,
        "parts_done": len(summary.done),
        "rows_done": summary.rows_done,
        "unscored": summary.unscored,
        "cut": summary.cut,
        "seconds": round(summary.seconds, 3),
    }


def _print(summary: "Summary", output: Path, states: bool) -> None:
    noun = ("passage", "passages") if states else ("pair", "pairs")
    done = "nothing was missing"
    if summary.done:
        rate = summary.rows_done / summary.seconds
        done = (
            f"{count(summary.rows_done, *noun)} done in {summary.seconds:.1f} s "
            f"({rate:,.1f} a second)"
        )
    out.print(
        f"{done}: {output} holds {count(summary.parts, 'part')}, {count(summary.rows, *noun)}",
        markup=False,
        soft_wrap=True,
    )
    if summary.unscored:
        reason = "they hold no text" if states else "the column `error` says why"
        out.print(f"{count(summary.unscored, 'row')} left out: {reason}")
    if summary.cut:
        out.print(f"{count(summary.cut, 'passage')} cut")
