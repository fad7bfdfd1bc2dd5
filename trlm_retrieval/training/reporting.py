"""How a run shows itself: a bar for people, lines for logs, and a plot of the loss."""

from datetime import timedelta
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trlm_retrieval.progress import watched

_LINE_SECONDS = 30  # between two lines where there is no terminal


class Reporter:
    """Shows loss, speed and time left on standard error: a bar on a terminal, else lines.

    :param enabled: False shows nothing.
    """

    def __init__(self, description: str, enabled: bool = True) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=not enabled)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not (enabled and watched()),
        )
        self._task = self._bar.add_task(description, total=1.0, figures="")
        self._description, self._shown = description, 0.0
        self._begun: tuple[float, float] | None = None  # time and share at the first step shown

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, entry: dict[str, Any], done: float) -> None:
        """Show the latest step.

        :param done: share of the run that is over.
        """
        figures = " · ".join(
            f"{name.replace('_', ' ')} {entry[name]:.3f}"
            for name in ("loss", "contrast", "teacher", "held_out", "prefers_true")
            if name in entry
        )
        figures = f"{figures} · {entry['tokens_per_second']:,} tokens/s"
        self._bar.update(self._task, completed=done, figures=figures)
        now = monotonic()
        begun, share = self._begun = self._begun or (now, done)
        due = now - self._shown >= _LINE_SECONDS or done >= 1 or "held_out" in entry
        if due and not watched():
            self._shown = now
            left = ""
            if share < done < 1:
                seconds = (now - begun) * (1 - done) / (done - share)
                left = f" · {timedelta(seconds=round(seconds))} left"
            self._console.print(
                f"{self._description}: step {entry['step']:,} · {done:.0%}{left} · {figures}",
                soft_wrap=True,
            )


def plot_loss(entries: list[dict[str, Any]], file: Path) -> bool:
    """Draw the loss by tokens read, with that on held-out data; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e["tokens"] for e in entries], [e["loss"] for e in entries], lw=0.8, label="trained")
    measured = [entry for entry in entries if "held_out" in entry]
    if measured:
        tokens, losses = [e["tokens"] for e in measured], [e["held_out"] for e in measured]
        axes.plot(tokens, losses, "o-", label="held out")
    axes.set(xlabel="tokens read", ylabel="nats per token")
    axes.legend()
    figure.savefig(file, dpi=120)
    return True
