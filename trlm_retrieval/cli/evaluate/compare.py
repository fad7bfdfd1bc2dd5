"""``trlm eval compare``: one system of several evaluations beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._checks import check_paths
from trlm_retrieval.cli._terminal import working
from trlm_retrieval.cli.evaluate._options import (
    JsonFileOption,
)
from trlm_retrieval.cli.evaluate._results import finish


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
