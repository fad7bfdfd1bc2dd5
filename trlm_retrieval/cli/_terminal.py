"""What all commands share: where output goes, and the options that mean the same everywhere."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from trlm_retrieval.progress import watched

NOTHING_FOUND = 3


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # `run` answers it; rich would exit as if something had failed


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)

IndexOption = Annotated[
    Path,
    typer.Option("--index", envvar="TRLM_INDEX", help="Folder of the index.", metavar="FOLDER"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Model to rank with: a name from `trlm models list`, a folder, a .gguf file or a "
        "hub id. By default the pipeline's own.",
        metavar="NAME",
        show_default=False,
    ),
]
DtypeOption = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"] | None,
    typer.Option(
        "--dtype", help="The model's precision; by default what suits.", show_default=False
    ),
]


def _device(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"cpu|(cuda|mps|xpu)(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is none: give cpu, cuda, cuda:1 or mps")
    return value


DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where the model runs: cpu, cuda, cuda:1, mps; by default the fastest that is here.",
        show_default=False,
        callback=_device,
    ),
]
TopKOption = Annotated[int, typer.Option("--top-k", "-k", min=1, help="Passages to show.")]
CandidatesOption = Annotated[
    int,
    typer.Option(
        "--candidates",
        "-c",
        min=1,
        help="Passages of the first stage to rerank: more may find more, and take longer.",
    ),
]


def _question(value: str | None) -> str | None:
    if value is None:
        return None
    if not value.strip():
        raise typer.BadParameter("the question is empty")
    # Bytes that are no text arrive from the shell as surrogates, which no model reads.
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


QuestionArgument = Annotated[
    str,
    typer.Argument(
        help="What you want to know.", metavar="QUESTION", show_default=False, callback=_question
    ),
]
MaybeQuestionArgument = Annotated[
    str | None,
    typer.Argument(
        help="What you want to know; without it, a prompt asks.",
        metavar="[QUESTION]",
        show_default=False,
        callback=_question,
    ),
]
DEFAULT_INDEX = Path("trlm-index")
DEFAULT_CANDIDATES = 20


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output, plain also on a terminal; NaN becomes null."""
    from trlm_retrieval.files import json_text

    sys.stdout.write(json_text(value, indent=2) + "\n")


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Say what is going on, on standard error and only where a person is watching.

    :returns: a function that says something else.
    """
    if watched():
        with err.status(what) as status:
            yield lambda changed: status.update(changed)
    else:
        yield lambda changed: None


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 passage``, ``1,200 passages``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def some_of(items: Sequence[str], most: int = 3) -> str:
    """The first few items, and how many more there are."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most:,} more"


def quieten() -> None:
    """Stop libraries from reporting home, and from talking over a command's output.

    With ``TRLM_DEBUG`` set they may talk.
    """
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debugging():
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")  # ours are rich's, theirs would print over them


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("TRLM_DEBUG", "") not in ("", "0")


def read_text(path: Path) -> str:
    """The text of a file, or of standard input for ``-``; says so where it is not UTF-8.

    :raises DataError: if it is no text.
    """
    from trlm_retrieval.errors import DataError
    from trlm_retrieval.files import read_bytes
    from trlm_retrieval.passage_index.converted import Unreadable
    from trlm_retrieval.passage_index.converting import decode

    try:
        text, encoding = decode(sys.stdin.buffer.read() if str(path) == "-" else read_bytes(path))
    except Unreadable as error:
        raise DataError(f"{path}: {error}") from error
    if encoding is not None:
        err.print(f"note: {path}: not UTF-8, read as {encoding}", style="yellow", markup=False)
    return text
