"""How a finished run, and a check of a model, are shown."""

from typing import TYPE_CHECKING

from trlm_retrieval.cli._terminal import count, err, out

if TYPE_CHECKING:
    from trlm_retrieval.training.check import Check
    from trlm_retrieval.training.run import Run


def tell_run(run: "Run") -> None:
    """Print what a run reached, and where its model is."""
    entries = run.entries()
    if entries:
        first, last = entries[0], entries[-1]
        out.print(
            f"loss {first['loss']:.3f} → {last['loss']:.3f} nats a token, held out "
            f"{last['held_out']:.3f}; {last['tokens']:,} tokens in {last['seconds'] / 60:.1f} min"
        )
    out.print(f"the model is in {run.model_folder}", soft_wrap=True)
    if not (run.folder / "loss.png").exists():
        err.print("note: no plot: `pip install 'trlm-retrieval[train]'` brings matplotlib")


def tell_check(found: "Check") -> None:
    """Print what a model makes of held-out pairs."""
    out.print(
        f"{count(found.pairs, 'held-out query', 'held-out queries')}: perplexity "
        f"{found.perplexity:.1f} given the true passage, {found.random_perplexity:.1f} given a "
        f"random one; the true one is preferred for {found.prefers_true:.1%} "
        f"({found.low:.1%} to {found.high:.1%})",
        soft_wrap=True,
    )
