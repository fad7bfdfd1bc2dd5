"""`trlm train cloze` and `warm-start`: how `trlm-ba-small` was begun."""

from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._terminal import count, out, working
from trlm_retrieval.cli.train._options import (
    CheckpointOption,
    DecayOption,
    DeviceOption,
    FilesArgument,
    MinutesOption,
    OrderOption,
    OutOption,
    PairsOption,
    PassageTokensOption,
    PrecisionOption,
    RateOption,
    SeedOption,
    StepsOption,
    options,
)
from trlm_retrieval.cli.train._results import tell_run


def cloze(
    files: FilesArgument,
    file: Annotated[Path, typer.Option("--out", "-o", help="JSON lines to write.")],
) -> None:
    """Make pairs of plain text: a sentence as the query, and the passage it was taken out of.

    Example: `trlm train cloze wikipedia.jsonl.xz -o cloze.jsonl`
    """
    with working("Reading"):
        from trlm_retrieval.files import write_text
        from trlm_retrieval.training.cloze import cloze_pairs
        from trlm_retrieval.training.corpus import read_sections, section_line

        lines = [section_line(pair) for pair in cloze_pairs(read_sections(files))]
        write_text(file, "".join(lines))
    out.print(f"{file} holds {count(len(lines), 'pair')}", soft_wrap=True)


def warm_start(
    pairs: PairsOption,
    folder: OutOption,
    tokenizer: Annotated[Path, typer.Option(help="Folder of a tokenizer.")],
    order: OrderOption = "reverse",
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: RateOption = None,
    decay: DecayOption = "cosine",
    contrast: Annotated[
        float, typer.Option(min=0, help="Weight of log P(q|d+) against log P(q|d) of the batch.")
    ] = 1.0,
    max_passage_tokens: PassageTokensOption = 128,
    checkpoint_minutes: CheckpointOption = 5.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Learn from pairs which words go with which, and write a small model that starts from there.

    Example: `trlm train warm-start --pairs papers.jsonl.xz --tokenizer tok --minutes 10 -o warm`
    """
    with working("Loading"):
        from trlm_retrieval.training import warm_start as starting
        from trlm_retrieval.training.corpus import PairFile
        from trlm_retrieval.training.presets import WARM
        from trlm_retrieval.training.workers import join_workers

    with join_workers(device) as workers:
        run = starting.warm_start(
            [PairFile.parse(text) for text in pairs],
            tokenizer,
            folder,
            options(
                workers,
                steps=steps,
                minutes=minutes,
                learning_rate=learning_rate or WARM.learning_rate,
                decay=decay,
                checkpoint_minutes=checkpoint_minutes,
                precision=precision,
                seed=seed,
            ),
            order=order,
            contrast=contrast,
            max_passage_tokens=max_passage_tokens,
        )
        if workers.leads:
            tell_run(run)
