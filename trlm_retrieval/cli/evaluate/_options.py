"""What the commands of ``trlm eval`` share: options, and checks before anything is loaded."""

from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._checks import check_base, check_extras, check_model

DEFAULT_CACHE = Path(".trlm-eval")

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="A BEIR folder, a hub id, `irds:NAME` for one of ir_datasets, or `demo`.",
        show_default=False,
    ),
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
JudgementsOption = Annotated[
    str,
    typer.Option(
        "--judgements",
        help="Where a document has two grades for one query: `strict` stops, `highest` takes the "
        "higher one.",
    ),
]
CacheOption = Annotated[
    Path,
    typer.Option(
        "--cache-dir", help="Where indexes and scores are kept for the next run.", file_okay=False
    ),
]


def check_model_and_extra(model: str | None) -> None:
    """What all evaluations need: the extra, and a model if any is used."""
    check_extras("ir_measures")
    if model is not None:
        check_model(model)


def named_peer(cross_encoder: str, names: list[str] | None) -> str | None:
    """The cross-encoder, checked, where what is named needs it."""
    if "cross-encoder" not in (names or []):
        return None
    check_base(cross_encoder)
    return cross_encoder


def split_names(listed: str | None) -> list[str] | None:
    """The names of a list with commas; None where there is no list."""
    if listed is None:
        return None
    return [name.strip() for name in listed.split(",") if name.strip()]
