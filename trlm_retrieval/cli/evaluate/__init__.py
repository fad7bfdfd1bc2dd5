"""``trlm eval``: offline evaluation, with intervals, tests, run files and a report."""

import typer

from trlm_retrieval.cli.evaluate import answers, calibrate, compare, retrieval

app = typer.Typer(
    help="Evaluate offline, with intervals, tests and a report.", no_args_is_help=True
)
app.command()(retrieval.retrieval)
app.command()(answers.citation)
app.command("best-of-n")(answers.best_of_n)
app.command()(answers.safety)
app.command()(compare.compare)
app.command()(calibrate.calibrate)
