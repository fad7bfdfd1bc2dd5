"""`trlm train`: make time-reversed models, from text or pairs to a model that can be shipped."""

import os
from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._terminal import count, err, out, working
from trlm_retrieval.cli.train import groups, models, runs, text
from trlm_retrieval.cli.train._results import tell_check

app = typer.Typer(
    help="Train models that read backwards, or fine-tune any model on pairs.",
    epilog="To continue a killed run, give its command again. For several GPUs: "
    "`torchrun --nproc-per-node 4 --no-python trlm train pretrain …`",
)
app.command()(text.tokenizer)
app.command()(text.pack)
app.command()(groups.groups)
app.command()(groups.label)
app.command()(runs.pretrain)
app.command()(runs.finetune)
app.command()(runs.soft_prompt)
app.command()(models.check)
app.command()(models.export)


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Train a tiny model on the demo corpus, in a few minutes."),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--out", help="With --demo: keep the runs in this folder.")
    ] = None,
) -> None:
    """Train models that read backwards, or fine-tune any model on pairs."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # there is much to tokenise, and nothing forks
    if context.invoked_subcommand is None:
        if not demo:
            out.print(context.get_help())
            raise typer.Exit
        _demo(folder)


def _demo(folder: Path | None) -> None:
    import tempfile

    with working("Loading"):
        from trlm_retrieval.index_data import demo_documents
        from trlm_retrieval.training.corpus import Section
        from trlm_retrieval.training.demo import STEPS, train_demo
        from trlm_retrieval.training.workers import join_workers

        sections = [
            Section(document.meta["title"], document.content or "") for document in demo_documents()
        ]
    err.print(
        f"Two runs of {STEPS} steps each, pre-training and fine-tuning, and a check: a few minutes "
        "on a core of its own, longer on a shared one.",
        soft_wrap=True,
    )
    with tempfile.TemporaryDirectory() as scratch, join_workers() as workers:
        found = train_demo(sections, folder or Path(scratch), workers, show_progress=True)
        for name, run in (("pre-training", found.pretraining), ("fine-tuning", found.finetuning)):
            entries = run.entries()
            out.print(
                f"{name}: loss {entries[0]['loss']:.2f} → {entries[-1]['loss']:.2f} nats a token "
                f"in {count(len(entries), 'step')}, {entries[-1]['seconds']:.0f} s"
            )
    out.print(
        f"held-out text read backwards: {found.flip['reverse']:.2f} nats a token; "
        f"read forwards: {found.flip['forward']:.2f}"
    )
    tell_check(found.check)
    if found.check.learned:
        out.print("The model learned to prefer true pairs: the interval is above 50 %.")
    else:
        out.print(
            "The model did not learn to prefer true pairs, as far as this can tell: the interval "
            "does not lie above 50 %, which is chance.",
            soft_wrap=True,
        )
    if folder:
        out.print(f"the model is in {found.finetuning.model_folder}", soft_wrap=True)
