"""`trlm train pretrain`, `finetune` and `soft-prompt`: the runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trlm_retrieval.cli._checks import (
    check_base,
    check_extras,
    check_model,
    check_pairs,
    check_paths,
)
from trlm_retrieval.cli._terminal import working
from trlm_retrieval.cli.train._options import (
    BatchOption,
    CheckpointOption,
    DecayOption,
    DeviceOption,
    DeviceTokensOption,
    DirectionOption,
    MaybePairsOption,
    MinutesOption,
    ModelArgument,
    OrderOption,
    OutOption,
    PairsOption,
    PassageTokensOption,
    PrecisionOption,
    RateOption,
    SeedOption,
    StepsOption,
    device_tokens_of,
    options,
)
from trlm_retrieval.cli.train._results import tell_run

if TYPE_CHECKING:
    from trlm_retrieval.models.loading import Orders

_SOFT_PROMPT_MINUTES = 3.0
_SOFT_PROMPT_PAIRS = 64

_ORDERS: dict[str, "Orders"] = {"ba": "reverse", "fo": "forward", "both": "both"}
_FOR_PAIRS = (
    "direction",
    "max_passage_tokens",
    "batch_tokens",
    "device_tokens",
)
_FOR_GROUPS = (
    "contrast",
    "labels",
    "order",
    "encoder_layers",
    "decoder_layers",
    "no_copy",
    "frozen_encoder_layers",
    "encoder_rate",
    "teacher_weight",
    "groups_a_step",
)


def pretrain(
    shards: Annotated[Path, typer.Option(help="Folder that `trlm train pack` wrote.")],
    folder: OutOption,
    order: OrderOption = "reverse",
    preset: Annotated[str | None, typer.Option(help="Size of a new model, such as 6m.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Or a model to start from: the shards must have its tokens.")
    ] = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: RateOption = None,
    decay: DecayOption = "cosine",
    context: Annotated[int, typer.Option(min=8, help="Tokens in a row.")] = 512,
    batch_tokens: BatchOption = 16384,
    device_tokens: DeviceTokensOption = None,
    checkpoint_minutes: CheckpointOption = 5.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Pre-train on running text: predict each next token, reading backwards, forwards or either.

    Example: `trlm train pretrain --shards shards --preset 10m --minutes 60 -o ba-10m`
    """
    check_paths([shards])
    if base is not None:
        check_base(base)
    with working("Loading"):
        from trlm_retrieval.training import pretraining
        from trlm_retrieval.training.presets import PRESETS
        from trlm_retrieval.training.workers import join_workers

    suits = PRESETS[preset].learning_rate if preset in PRESETS else 3e-4
    with join_workers(device) as workers:
        run = pretraining.pretrain(
            shards,
            folder,
            options(
                workers,
                steps=steps,
                minutes=minutes,
                learning_rate=learning_rate or suits,
                decay=decay,
                checkpoint_minutes=checkpoint_minutes,
                precision=precision,
                seed=seed,
            ),
            order=order,
            preset=preset,
            base=base,
            context=context,
            batch_tokens=batch_tokens,
            device_tokens=device_tokens_of(device_tokens, workers),
        )
        if workers.leads:
            tell_run(run)


def finetune(
    told: typer.Context,
    base: Annotated[
        str,
        typer.Argument(
            help="Name, folder or hub id: a decoder, or for --groups also an encoder such as "
            "minilm, or an encoder-decoder that this command made."
        ),
    ],
    folder: OutOption,
    pairs: MaybePairsOption = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="Or the groups that `trlm train groups` wrote.", dir_okay=False),
    ] = None,
    contrast: Annotated[
        float,
        typer.Option(
            min=0, help="With --groups: weight of log P(q|d+) against log P(q|d) of the others."
        ),
    ] = 1.0,
    direction: DirectionOption = None,
    lora: Annotated[
        int | None, typer.Option(min=1, help="Train an adapter of this rank, not all weights.")
    ] = None,
    max_passage_tokens: PassageTokensOption = 384,
    batch_tokens: BatchOption = 16384,
    device_tokens: DeviceTokensOption = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="With --groups: the scores that `trlm train label` wrote.", dir_okay=False
        ),
    ] = None,
    teacher_weight: Annotated[
        float, typer.Option(min=0, help="With --labels: weight of the divergence from the teacher.")
    ] = 1.0,
    order: Annotated[
        Literal["ba", "fo", "both"] | None,
        typer.Option(
            help="With --groups: read queries last to first, first to last, or either; by default "
            "ba, or as the decoder reads."
        ),
    ] = None,
    encoder_layers: Annotated[
        int | None,
        typer.Option(min=1, help="With an encoder: take this many of its first layers."),
    ] = None,
    decoder_layers: Annotated[
        int | None, typer.Option(min=1, help="With an encoder: layers of the new decoder.")
    ] = None,
    no_copy: Annotated[
        bool, typer.Option("--no-copy", help="With an encoder: a decoder without a copy head.")
    ] = False,
    frozen_encoder_layers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With an encoder: do not train its embeddings and this many of its "
            "first layers; by default none of it is trained.",
        ),
    ] = None,
    encoder_rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With an encoder: its learning rate, as a share of the decoder's; by default 0.1.",
        ),
    ] = None,
    groups_a_step: Annotated[
        int, typer.Option(min=1, help="With --groups: groups in a step, over all processes.")
    ] = 2,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: RateOption = None,
    decay: DecayOption = "cosine",
    checkpoint_minutes: CheckpointOption = 5.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Fine-tune on (query, passage) pairs, or on groups of them: only queries are learned.

    With pairs a decoder learns to predict queries. With groups it, or an encoder-decoder, also
    learns to tell passages apart that are hard to tell apart.

    Examples:

    * `trlm train finetune ba-10m/model --pairs papers.jsonl.xz --minutes 20 -o ba`

    * `trlm train finetune smollm2-135m --lora 16 --groups groups.jsonl --minutes 60 -o adapter`

    * `trlm train finetune minilm --groups groups.jsonl --minutes 60 --decay wsd -o small`
    """
    if bool(pairs) == bool(groups):
        raise typer.BadParameter("give --pairs or --groups, one of them")
    _refuse(told, _FOR_PAIRS if groups else _FOR_GROUPS, "--pairs" if groups else "--groups")
    if labels is None:
        _refuse(told, ["teacher_weight"], "--labels")
    check_pairs(pairs or ())
    check_paths(path for path in (groups, labels) if path)
    if lora:
        check_extras("peft")
    check_base(base)
    with working("Loading"):
        from trlm_retrieval.training.corpus import PairFile
        from trlm_retrieval.training.finetuning import finetune as finetune_pairs
        from trlm_retrieval.training.group_finetuning import finetune_groups
        from trlm_retrieval.training.workers import join_workers

    suits = 2e-4 if lora else 7e-4 if groups else 5e-4
    with join_workers(device) as workers:
        common = options(
            workers,
            steps=steps,
            minutes=minutes,
            learning_rate=learning_rate or suits,
            decay=decay,
            warmup=0.03 if groups else 0.02,
            checkpoint_minutes=checkpoint_minutes,
            precision=precision,
            seed=seed,
        )
        if groups:
            run = finetune_groups(
                base,
                groups,
                folder,
                common,
                labels=labels,
                order=_ORDERS[order] if order else None,
                adapter_rank=lora,
                encoder_layers=encoder_layers,
                decoder_layers=decoder_layers,
                copy=not no_copy,
                frozen_encoder_layers=frozen_encoder_layers,
                encoder_rate=encoder_rate,
                contrast=contrast,
                teacher_weight=teacher_weight,
                groups_a_step=groups_a_step,
            )
        else:
            run = finetune_pairs(
                base,
                [PairFile.parse(text) for text in pairs or ()],
                folder,
                common,
                direction=direction,
                adapter_rank=lora,
                max_passage_tokens=max_passage_tokens,
                batch_tokens=batch_tokens,
                device_tokens=device_tokens_of(device_tokens, workers),
            )
        if workers.leads:
            tell_run(run)


def soft_prompt(
    base: ModelArgument,
    pairs: PairsOption,
    folder: OutOption,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the soft prompt.")] = 16,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: Annotated[float, typer.Option(help="Its peak.")] = 0.02,
    batch_pairs: Annotated[int, typer.Option(min=1, help="Pairs in a step.")] = 16,
    max_passage_tokens: PassageTokensOption = 192,
    checkpoint_minutes: CheckpointOption = 1.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Train a soft prompt: a few vectors read before the query, and nothing of the model itself.

    Takes three minutes by default, and one more to measure. Learns from 64 pairs of each file,
    unless the file is given as `FILE:MOST`.
    `trlm search --model soft/model` and `TRLMRanker(soft_prompt="soft/model")` use it.

    Example: `trlm train soft-prompt smollm2-135m --pairs squad.jsonl.xz -o soft`
    """
    check_pairs(pairs)
    check_model(base)
    with working("Loading"):
        from dataclasses import replace

        from trlm_retrieval.training.corpus import PairFile
        from trlm_retrieval.training.soft_prompt import train_soft_prompt
        from trlm_retrieval.training.workers import join_workers

    files = [PairFile.parse(text) for text in pairs]
    if steps is None and minutes is None:
        minutes = _SOFT_PROMPT_MINUTES
    with join_workers(device) as workers:
        run = train_soft_prompt(
            base,
            [replace(file, most=file.most or _SOFT_PROMPT_PAIRS) for file in files],
            folder,
            options(
                workers,
                steps=steps,
                minutes=minutes,
                learning_rate=learning_rate,
                checkpoint_minutes=checkpoint_minutes,
                precision=precision,
                seed=seed,
            ),
            tokens=tokens,
            max_passage_tokens=max_passage_tokens,
            batch_pairs=batch_pairs,
        )
        if workers.leads:
            tell_run(run)


def _refuse(told: typer.Context, names: Sequence[str], needed: str) -> None:
    """Say which of these options were given though only ``needed`` makes use of them.

    :raises typer.BadParameter: if one was.
    """
    sources = {name: told.get_parameter_source(name) for name in names}
    given = [name for name, source in sources.items() if source and source.name != "DEFAULT"]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise typer.BadParameter(f"only {needed} makes use of it", param_hint=options)
