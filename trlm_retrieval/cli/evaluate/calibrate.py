"""``trlm eval calibrate``: how a model's scores are read as probabilities."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from trlm_retrieval.cli._checks import check_data
from trlm_retrieval.cli._terminal import DtypeOption, err, out, working
from trlm_retrieval.cli.evaluate._options import (
    DEFAULT_CACHE,
    CacheOption,
    JudgementsOption,
    ModelOption,
    check_model_and_extra,
)

if TYPE_CHECKING:
    from trlm_retrieval.eval.judgements import Contradictions
    from trlm_retrieval.eval.retrieval.calibration import Reliability


def calibrate(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="A BEIR folder, a hub id, `irds:NAME` or `demo`; give several.",
            show_default=False,
        ),
    ],
    model: ModelOption = "smollm2-135m",
    judgements: JudgementsOption = "strict",
    rerank: Annotated[int, typer.Option(min=1, help="Candidates of each query.")] = 20,
    queries: Annotated[
        int | None, typer.Option(min=2, help="Draw this many queries of each collection.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    dtype: DtypeOption = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write it into the model's folder (trlm_config.json).")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the reliability diagram into this file.", dir_okay=False),
    ] = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Fit how the model's gains are read as P(relevant), for `scale_score`.

    It is fitted on every other query of each collection; the table tells how far off it is on the
    others. Candidates without a judgement count as not relevant.

    Example: `trlm eval calibrate --data demo --data cranfield --model my-model --save`
    """
    for name in data:
        check_data(name)
    check_model_and_extra(model)
    with working("Loading"):
        from trlm_retrieval.components.fusion import choose_weight
        from trlm_retrieval.eval.dataset import load_dataset
        from trlm_retrieval.eval.retrieval import calibration as c
        from trlm_retrieval.eval.retrieval.evaluation import evaluate_retrieval, sample_queries
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.models.loading import save_calibration

        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
    weight = choose_weight(None, lm.first_stage_weight)
    fitted_on, held_back = {}, {}
    for name in data:
        loaded = load_dataset(name, judgements=cast("Contradictions", judgements))
        evaluation = evaluate_retrieval(
            sample_queries(loaded, queries, seed),
            lm,
            model,
            ["reverse"],
            rerank=rerank,
            cache_folder=cache_dir,
            show_progress=True,
        )
        found = c.examples(evaluation, lm, weight)
        fitted_on[loaded.name], held_back[loaded.name] = c.halves(found)
    calibration = c.fit(lm, list(fitted_on.values()))
    groups = {name: [queries] for name, queries in held_back.items()}
    if len(groups) > 1:
        groups["all"] = list(held_back.values())
    results = {
        kind: {
            name: c.reliability(calibration, group, mixed=kind == "mixed")
            for name, group in groups.items()
        }
        for kind in ("alone", "mixed")
    }
    out.print(_table(results))
    if plot is not None:
        c.draw(results, plot)
        err.print(f"wrote {plot}", soft_wrap=True)
    if save:
        file = save_calibration(
            model, lm.order, lm.start_tokens, lm.first_stage_weight, calibration
        )
        err.print(f"wrote {file}", soft_wrap=True)


def _table(results: "dict[str, dict[str, Reliability]]") -> Table:
    table = Table(
        "the other half of",
        "calibration error",
        "relevant",
        "precision at 0.5",
        "recall at 0.5",
        title="P(relevant), from the likelihood alone and mixed with the first stage",
        title_justify="left",
    )
    for kind, lines in results.items():
        for name, found in lines.items():
            precision = "–" if found.precision is None else f"{found.precision:.3f}"
            rest = (f"{value:.3f}" for value in (found.error, found.base_rate))
            table.add_row(f"{name}, {kind}", *rest, precision, f"{found.recall:.3f}")
    return table
