"""The command ``trlm``. Nothing heavy is imported before a command runs."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from trlm_retrieval import __version__
from trlm_retrieval.cli import (
    _terminal,
    bench,
    cite,
    demo,
    evaluate,
    explain,
    index,
    models,
    prompt,
    score,
    search,
    serve,
    train,
)
from trlm_retrieval.cli._checks import EXTRA_OF
from trlm_retrieval.errors import TRLMError, causes

UNEXPECTED, BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

app = typer.Typer(
    name="trlm",
    help="Rank passages by how likely the question is, given each passage.",
    epilog="Exit codes: 0 done, 1 unexpected failure (TRLM_DEBUG=1 shows the traceback), "
    "2 bad input, 3 nothing found, 130 interrupted. "
    "TRLM_INDEX names the default index folder, TRLM_CACHE the folder of pulled models.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(index.index)
app.command()(search.search)
app.command()(explain.explain)
app.command()(cite.cite)
app.command()(score.score)
app.command()(serve.serve)
app.command()(demo.demo)
app.command()(bench.bench)
app.add_typer(models.app, name="models")
app.add_typer(evaluate.app, name="eval")
app.add_typer(train.app, name="train")
app.add_typer(prompt.app, name="prompt")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trlm-retrieval {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and stop.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become one line on standard error."""
    _terminal.quieten()
    try:
        code = app(list(arguments), prog_name="trlm", standalone_mode=False) or 0
    except typer.Exit as stop:
        code = stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as `head` does: no more output, no complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 (the last stop of every failure)
        return _report(error)
    if code == INTERRUPTED:  # typer answers Ctrl-C with this code as well
        print("\ninterrupted" if sys.stderr.isatty() else "interrupted", file=sys.stderr)
    return int(code)


def main() -> None:
    """The console script."""
    raise SystemExit(run(sys.argv[1:]))


def _report(error: Exception) -> int:
    if _terminal.debugging():
        traceback.print_exception(error)
    for cause in causes(error):
        if isinstance(cause, TyperException):
            context = getattr(cause, "ctx", None)
            command = context.command_path if context else "trlm"
            print(f"error: {cause.format_message()} (see {command} --help)", file=sys.stderr)
            return cause.exit_code
        if isinstance(cause, ModuleNotFoundError):
            module = (cause.name or "").partition(".")[0]
            if extra := EXTRA_OF.get(module):
                print(
                    f"error: {module} is not installed: pip install 'trlm-retrieval[{extra}]'",
                    file=sys.stderr,
                )
                return BAD_INPUT
        if isinstance(cause, TRLMError | ValueError):
            print(f"error: {_one_line(cause)}", file=sys.stderr)
            return BAD_INPUT
        if isinstance(cause, OSError) and cause.filename is not None:
            print(f"error: {cause.filename}: {cause.strerror}", file=sys.stderr)
            return BAD_INPUT
    print(
        f"error: unexpected {type(error).__name__}: {_one_line(error)} "
        "(set TRLM_DEBUG=1 to see the traceback)",
        file=sys.stderr,
    )
    return UNEXPECTED


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
