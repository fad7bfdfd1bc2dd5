"""Options that several of the training commands take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from trlm_retrieval.training.recipe import Options
    from trlm_retrieval.training.workers import Workers

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="JSON lines, `.xz` or not, with `text` or `passage`, and `title`, `heading` or "
        "`query` if there is one; or `.txt`.",
        metavar="FILE...",
        show_default=False,
    ),
]
_PAIRS = typer.Option(
    "--pairs",
    help="JSON lines, `.xz` or not, with `query` and `passage`; `FILE:4000` takes 4,000 pairs, "
    "evenly spread over the file. Repeatable.",
    metavar="FILE[:MOST]",
    show_default=False,
)
PairsOption = Annotated[list[str], _PAIRS]
MaybePairsOption = Annotated[list[str] | None, _PAIRS]
FileOutOption = Annotated[
    Path, typer.Option("--out", "-o", help="File to write.", show_default=False, dir_okay=False)
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Folder to write to.", show_default=False)
]
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Number of steps. The weights are the same each time.")
]
MinutesOption = Annotated[
    float | None, typer.Option(min=0.01, help="Or the time to train, in minutes.")
]
RateOption = Annotated[
    float | None,
    typer.Option("--learning-rate", help="Its peak; by default what suits the model."),
]
DecayOption = Annotated[
    Literal["cosine", "wsd"],
    typer.Option(help="How the rate falls: from the start, or in the last fifth."),
]
BatchOption = Annotated[
    int, typer.Option("--batch-tokens", min=1, help="Tokens in a step, over all processes.")
]
DeviceTokensOption = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens in one pass; by default 4,096 on a CPU and 65,536 on a GPU."),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda or mps; by default the fastest of these that is here.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(help="bfloat16 or float32; by default bfloat16 where the device has it."),
]
CheckpointOption = Annotated[
    float, typer.Option("--checkpoint-minutes", min=0, help="Time between checkpoints.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of weights and data order.")]
DirectionOption = Annotated[
    Literal["ba", "fo"] | None,
    typer.Option(help="Read backwards or forwards; by default as the model was trained."),
]
OrderOption = Annotated[
    Literal["forward", "reverse", "both"], typer.Option(help="How the model reads.")
]
PassageTokensOption = Annotated[
    int, typer.Option("--max-passage-tokens", min=1, help="Longer passages are cut.")
]
ModelArgument = Annotated[str, typer.Argument(help="Name, folder or hub id of the model.")]


def options(
    workers: "Workers",
    *,
    steps: int | None,
    minutes: float | None,
    learning_rate: float,
    decay: Literal["cosine", "wsd"] = "cosine",
    warmup: float = 0.02,
    checkpoint_minutes: float,
    precision: str | None,
    seed: int,
) -> "Options":
    """What the options of a command say to its run, which shows its progress."""
    from trlm_retrieval.training.recipe import Options
    from trlm_retrieval.training.schedule import Schedule

    schedule = Schedule(steps, minutes, learning_rate, warmup, decay)
    return Options(schedule, workers, checkpoint_minutes, precision, seed, show_progress=True)


def device_tokens_of(asked: int | None, workers: "Workers") -> int:
    """Tokens in one pass: those asked for, or what suits the device."""
    return asked or (4096 if workers.device.type == "cpu" else 65536)
