"""`trlm train check` and `export`: is a model any good, and how is it shipped?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trlm_retrieval.cli._checks import check_data, check_model, check_pairs, check_paths
from trlm_retrieval.cli._terminal import DtypeOption, JsonOption, out, print_json, working
from trlm_retrieval.cli.train._options import (
    DirectionOption,
    MaybePairsOption,
    ModelArgument,
    OutOption,
    PassageTokensOption,
    SeedOption,
)
from trlm_retrieval.cli.train._results import tell_check


def check(
    model: ModelArgument,
    pairs: MaybePairsOption = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Or the judged pairs of a BEIR folder or hub id.")
    ] = None,
    direction: DirectionOption = None,
    most: Annotated[
        int, typer.Option(min=2, help="Check at most this many pairs, from the first.")
    ] = 500,
    max_passage_tokens: PassageTokensOption = 384,
    dtype: DtypeOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare queries given their passage with the same queries given a random one.

    Of pair files, the held-out part is checked. Prints perplexities, and the share of pairs in
    which the true passage is preferred.

    Example: `trlm train check ba/model --data papers`
    """
    if bool(pairs) == bool(data):
        raise typer.BadParameter("give --pairs or --data, one of them")
    if data:
        check_data(data)
    check_pairs(pairs or ())
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.training.check import check as check_preference
        from trlm_retrieval.training.check import order_losses
        from trlm_retrieval.training.corpus import PairFile, read_pairs

        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
        if data:
            chosen = _judged_pairs(data)
        else:
            chosen = read_pairs(map(PairFile.parse, pairs or ()), held_out=True)
    chosen = chosen[:most]
    with progress_bar("scoring", 2 * len(chosen)) as advance:
        found = check_preference(
            lm,
            chosen,
            direction,
            max_passage_tokens=max_passage_tokens,
            seed=seed,
            progress=advance,
        )
    # An encoder-decoder predicts no passage.
    decodes = not lm.model.config.is_encoder_decoder
    losses = order_losses(lm, [passage for _, passage in chosen[:100]]) if decodes else None
    if as_json:
        print_json(vars(found) | {"nats_a_token": losses})
        return
    tell_check(found)
    if losses is not None:
        out.print(
            f"passages read backwards: {losses['reverse']:.2f} nats a token; "
            f"read forwards: {losses['forward']:.2f}"
        )


def _judged_pairs(data: str) -> list[tuple[str, str]]:
    """Each query of a collection with its best judged passage."""
    from trlm_retrieval.eval.dataset import load_dataset

    dataset = load_dataset(data)
    texts = {document.id: document.content or "" for document in dataset.documents}
    best = {query: max(grades, key=grades.__getitem__) for query, grades in dataset.qrels.items()}
    return [
        (dataset.queries[query], texts[passage])
        for query, passage in best.items()
        if query in dataset.queries and passage in texts
    ]


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    folder: OutOption,
    name: Annotated[str, typer.Option(help="The model's name.")],
    licence: Annotated[str, typer.Option(help="Its licence.")] = "Apache-2.0",
    precision: Annotated[
        Literal["int8", "float16"], typer.Option(help="How the weights are stored.")
    ] = "int8",
    figures: Annotated[
        list[Path] | None,
        typer.Option("--figures", help="JSON of `trlm train check` or `trlm eval`; repeatable."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write an adapter and its base as one model.")
    ] = False,
    first_stage_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="First-stage weight to recommend to the ranker; by default it takes 0.45.",
        ),
    ] = None,
    base_share: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Average the weights with so much of those the run began with."
        ),
    ] = 0.0,
) -> None:
    """Write a run's model, or adapter, small enough to ship, with a card of how it was made.

    Example: `trlm train export ba --name my-ba -o my-ba`
    """
    check_paths([run, *(figures or [])])
    with working("Exporting"):
        from trlm_retrieval.training.export import export_run

        size = export_run(
            run,
            folder,
            name=name,
            licence=licence,
            precision=precision,
            figures=figures or [],
            merge=merge,
            first_stage_weight=first_stage_weight,
            base_share=base_share,
        )
    out.print(f"{folder} holds {name}, {size / 1e6:.1f} MB", soft_wrap=True)
