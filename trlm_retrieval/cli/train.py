"""`trlm train`: make time-reversed models, from a tokenizer to a model that can be shipped."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from trlm_retrieval.cli._terminal import JsonOption, count, err, out, print_json, working

app = typer.Typer(
    help="Train models that read backwards, or fine-tune any model on pairs.",
    epilog="A killed run goes on when its command is given again. For several GPUs: "
    "`torchrun --nproc-per-node 4 --no-python trlm train pretrain …`",
)

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="JSON lines, `.xz` or not: `text` or `passage`, and maybe `title`, `heading` or "
        "`query`; or `.txt`.",
        metavar="FILE...",
        show_default=False,
    ),
]
PairsOption = Annotated[
    list[Path],
    typer.Option(
        "--pairs", help="JSON lines, `.xz` or not, with `query` and `passage`; repeatable."
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", "-o", help="Folder to write to.", show_default=False)
]
StepsOption = Annotated[
    int | None, typer.Option(min=1, help="Train for so many steps: the same weights each time.")
]
MinutesOption = Annotated[
    float | None, typer.Option(min=0.01, help="Or for so many minutes, as far as that goes.")
]
RateOption = Annotated[
    float | None,
    typer.Option("--learning-rate", help="Its peak; by default what suits the size."),
]
DecayOption = Annotated[
    Literal["cosine", "wsd"],
    typer.Option(help="How the rate falls: all along, or in the last fifth."),
]
BatchOption = Annotated[
    int, typer.Option("--batch-tokens", min=1, help="Tokens in a step, over all processes.")
]
DeviceTokensOption = Annotated[
    int | None,
    typer.Option(min=1, help="Tokens in one pass; by default 4,096 on a CPU and 65,536 on a GPU."),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda or mps; by default the best there is.")
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
PassageTokensOption = Annotated[
    int, typer.Option("--max-passage-tokens", min=1, help="Longer passages are cut.")
]
FreezeOption = Annotated[
    int | None,
    typer.Option(
        "--freeze",
        min=0,
        help="Leave the embeddings, the head and so many first layers of the model as they are.",
    ),
]

_SOFT_PROMPT_MINUTES = 3.0


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
    _print_check(vars(found.check))
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


@app.command()
def tokenizer(
    files: FilesArgument,
    folder: OutOption,
    vocabulary: Annotated[int, typer.Option(help="Number of tokens, at most 65,536.")] = 16384,
    most_characters: Annotated[
        int, typer.Option(help="Learn from the first so many.")
    ] = 50_000_000,
) -> None:
    """Train a byte-level BPE tokenizer.

    Example: `trlm train tokenizer wikipedia.jsonl.xz -o tokenizer`
    """
    with working("Training a tokenizer"):
        from trlm_retrieval.training.corpus import read_sections
        from trlm_retrieval.training.tokenizer import train_tokenizer

        trained = train_tokenizer(read_sections(files), vocabulary, most_characters)
        trained.save_pretrained(folder)
    out.print(f"{folder} holds a tokenizer of {len(trained):,} tokens", soft_wrap=True)


@app.command()
def pack(
    files: FilesArgument,
    folder: OutOption,
    tokenizer: Annotated[Path, typer.Option(help="Folder of a tokenizer, or of a model.")],
) -> None:
    """Write text as tokens, two bytes each, for pre-training. One text in a hundred is held out.

    Example: `trlm train pack wikipedia.jsonl.xz --tokenizer tokenizer -o shards`
    """
    with working("Packing"):
        from trlm_retrieval.models.store import resolve
        from trlm_retrieval.training.corpus import read_sections
        from trlm_retrieval.training.shards import pack as pack_sections
        from trlm_retrieval.training.tokenizer import load_tokenizer

        kind = load_tokenizer(resolve(tokenizer))
        tokens = pack_sections(read_sections(files), kind, folder, [file.name for file in files])
    out.print(
        f"{folder} holds {tokens['train']:,} tokens to learn and {tokens['held_out']:,} held out",
        soft_wrap=True,
    )


@app.command()
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


@app.command()
def warm_start(
    pairs: PairsOption,
    folder: OutOption,
    tokenizer: Annotated[Path, typer.Option(help="Folder of a tokenizer.")],
    order: Annotated[
        Literal["forward", "reverse", "both"],
        typer.Option(help="How the model will be trained to read."),
    ] = "reverse",
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
        from trlm_retrieval.training.presets import WARM
        from trlm_retrieval.training.schedule import Schedule
        from trlm_retrieval.training.workers import join_workers

    with join_workers(device) as workers:
        run = starting.warm_start(
            pairs,
            tokenizer,
            folder,
            order,
            Schedule(steps, minutes, learning_rate or WARM.learning_rate, decay=decay),
            workers,
            contrast=contrast,
            max_passage_tokens=max_passage_tokens,
            checkpoint_minutes=checkpoint_minutes,
            precision=precision,
            seed=seed,
            show_progress=True,
        )
        if workers.leads:
            _tell(run)


@app.command()
def pretrain(
    shards: Annotated[Path, typer.Option(help="Folder that `trlm train pack` wrote.")],
    folder: OutOption,
    order: Annotated[
        Literal["forward", "reverse", "both"], typer.Option(help="How the model reads.")
    ] = "reverse",
    preset: Annotated[str | None, typer.Option(help="Size of a new model, such as 6m.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Or a model to go on from: the shards must have its tokens.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="With --base: keep just these layers, such as 0,1,29.")
    ] = None,
    frozen_layers: FreezeOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: RateOption = None,
    decay: DecayOption = "cosine",
    context: Annotated[int, typer.Option(min=8, help="Tokens in a row.")] = 512,
    batch_tokens: BatchOption = 16384,
    device_tokens: DeviceTokensOption = None,
    checkpoint_minutes: CheckpointOption = 5.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Pre-train on running text: predict each next token, reading backwards, forwards or either.

    Example: `trlm train pretrain --shards shards --preset 10m --minutes 60 -o ba-10m`
    """
    with working("Loading"):
        from trlm_retrieval.training import pretraining
        from trlm_retrieval.training.presets import PRESETS
        from trlm_retrieval.training.schedule import Schedule
        from trlm_retrieval.training.workers import join_workers

    suits = PRESETS[preset].learning_rate if preset in PRESETS else 3e-4
    with join_workers(device) as workers:
        run = pretraining.pretrain(
            shards,
            folder,
            order,
            Schedule(steps, minutes, learning_rate or suits, decay=decay),
            workers,
            preset=preset,
            base=base,
            layers=_numbers(layers) if layers else None,
            frozen_layers=frozen_layers,
            context=context,
            batch_tokens=batch_tokens,
            device_tokens=device_tokens or _device_tokens(workers.device.type),
            checkpoint_minutes=checkpoint_minutes,
            precision=precision,
            seed=seed,
            show_progress=True,
        )
        if workers.leads:
            _tell(run)


@app.command()
def finetune(
    base: Annotated[str, typer.Argument(help="Name, folder or hub id of the model.")],
    pairs: PairsOption,
    folder: OutOption,
    direction: DirectionOption = None,
    lora: Annotated[
        int | None, typer.Option(min=1, help="Train an adapter of this rank, not all weights.")
    ] = None,
    frozen_layers: FreezeOption = None,
    contrast: Annotated[
        float,
        typer.Option(
            min=0, help="Weight of log P(q|d+) against log P(q|d) of passages that BM25 finds too."
        ),
    ] = 0.0,
    others: Annotated[
        int, typer.Option(min=1, help="With --contrast: other passages that a query meets.")
    ] = 7,
    most: Annotated[
        int | None, typer.Option(min=1, help="Pairs taken of each file, where it has more.")
    ] = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: RateOption = None,
    decay: DecayOption = "cosine",
    max_passage_tokens: PassageTokensOption = 384,
    batch_tokens: BatchOption = 16384,
    device_tokens: DeviceTokensOption = None,
    checkpoint_minutes: CheckpointOption = 5.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Fine-tune on (query, passage) pairs: only the query's tokens are learned.

    Examples:

    * `trlm train finetune ba-10m/model --pairs papers.jsonl.xz --contrast 0.5 --minutes 20 -o ba`

    * `trlm train finetune smollm2-135m --lora 16 --pairs papers.jsonl.xz --minutes 30 -o adapter`
    """
    with working("Loading"):
        from trlm_retrieval.training import finetuning
        from trlm_retrieval.training.schedule import Schedule
        from trlm_retrieval.training.workers import join_workers

    with join_workers(device) as workers:
        run = finetuning.finetune(
            base,
            pairs,
            folder,
            Schedule(steps, minutes, learning_rate or (2e-4 if lora else 5e-4), decay=decay),
            workers,
            direction=direction,
            adapter_rank=lora,
            frozen_layers=frozen_layers,
            contrast=contrast,
            others=others,
            most=most,
            max_passage_tokens=max_passage_tokens,
            batch_tokens=batch_tokens,
            device_tokens=device_tokens or _device_tokens(workers.device.type),
            checkpoint_minutes=checkpoint_minutes,
            precision=precision,
            seed=seed,
            show_progress=True,
        )
        if workers.leads:
            _tell(run)


@app.command("soft-prompt")
def soft_prompt(
    base: Annotated[str, typer.Argument(help="Name, folder or hub id of the model.")],
    pairs: PairsOption,
    folder: OutOption,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the soft prompt.")] = 16,
    most: Annotated[int, typer.Option(min=1, help="Pairs taken of each file.")] = 64,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    learning_rate: Annotated[float, typer.Option(help="Its peak.")] = 0.02,
    batch_pairs: Annotated[int, typer.Option(min=1, help="Pairs in a step.")] = 16,
    max_passage_tokens: PassageTokensOption = 192,
    checkpoint_minutes: CheckpointOption = 1.0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Train a soft prompt: a few vectors read before the query, and nothing of the model itself.

    Takes three minutes, unless --steps or --minutes say otherwise, and one to measure.
    `trlm search --model soft/model` and `TRLMRanker(soft_prompt="soft/model")` use it.

    Example: `trlm train soft-prompt smollm2-135m --pairs squad.jsonl.xz -o soft`
    """
    with working("Loading"):
        from trlm_retrieval.training.schedule import Schedule
        from trlm_retrieval.training.soft_prompt import train_soft_prompt
        from trlm_retrieval.training.workers import join_workers

    if steps is None and minutes is None:
        minutes = _SOFT_PROMPT_MINUTES
    with join_workers(device) as workers:
        run = train_soft_prompt(
            base,
            pairs,
            folder,
            Schedule(steps, minutes, learning_rate),
            workers,
            tokens=tokens,
            most=most,
            max_passage_tokens=max_passage_tokens,
            batch_pairs=batch_pairs,
            checkpoint_minutes=checkpoint_minutes,
            precision=precision,
            seed=seed,
            show_progress=True,
        )
        if workers.leads:
            _tell(run)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Name, folder or hub id of the model.")],
    pairs: Annotated[
        list[Path] | None, typer.Option("--pairs", help="Pair files, of which the held-out part.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Or the judged pairs of a BEIR folder or hub id.")
    ] = None,
    direction: DirectionOption = None,
    most: Annotated[int, typer.Option(min=2, help="Check the first so many pairs.")] = 500,
    max_passage_tokens: PassageTokensOption = 384,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or int8.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare queries given their passage with the same queries given a random one.

    Prints perplexities, and the share of pairs in which the true passage is preferred.

    Example: `trlm train check ba/model --data papers`
    """
    if bool(pairs) == bool(data):
        raise typer.BadParameter("give --pairs or --data, one of them")
    with working("Loading"):
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.training.check import check as check_pairs
        from trlm_retrieval.training.check import order_losses
        from trlm_retrieval.training.corpus import read_pairs

        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
        chosen = read_pairs(pairs, held_out=True) if pairs else _judged_pairs(str(data))
    chosen = chosen[:most]
    with progress_bar("scoring", 2 * len(chosen)) as advance:
        found: dict[str, Any] = vars(
            check_pairs(
                lm,
                chosen,
                direction,
                max_passage_tokens=max_passage_tokens,
                seed=seed,
                progress=advance,
            )
        )
    losses = order_losses(lm, [passage for _, passage in chosen[:100]])
    if as_json:
        print_json(found | {"nats_a_token": losses})
        return
    _print_check(found)
    out.print(
        f"passages read backwards: {losses['reverse']:.2f} nats a token; "
        f"read forwards: {losses['forward']:.2f}"
    )


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    folder: OutOption,
    name: Annotated[str, typer.Option(help="The model's name.")],
    licence: Annotated[str, typer.Option(help="Its licence.")] = "Apache-2.0",
    precision: Annotated[
        Literal["int8", "float16"], typer.Option(help="How the weights are stored.")
    ] = "int8",
    figures: Annotated[
        list[Path] | None,
        typer.Option("--figures", help="JSON of `trlm train check` or `trlm eval`; repeatable."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write an adapter and its base as one model.")
    ] = False,
    first_stage_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="What the ranker gives the first stage unless told otherwise; by default 0.45.",
        ),
    ] = None,
    base_share: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="Average the weights with so much of those the run began with."
        ),
    ] = 0.0,
) -> None:
    """Write a run's model, or adapter, small enough to ship, with a card of how it was made.

    Example: `trlm train export ba --name trlm-ba-small -o trlm_retrieval/weights/trlm-ba-small`
    """
    with working("Exporting"):
        from trlm_retrieval.training.export import export_run

        size = export_run(
            run,
            folder,
            name,
            licence,
            precision,
            figures or [],
            merge,
            first_stage_weight,
            base_share,
        )
    out.print(f"{folder} holds {name}, {size / 1e6:.1f} MB", soft_wrap=True)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--layers takes numbers such as 0,1,29, not {text!r}") from error


def _device_tokens(device: str) -> int:
    return 4096 if device == "cpu" else 65536


def _judged_pairs(data: str) -> list[tuple[str, str]]:
    """Each query of a collection with its best judged passage."""
    from trlm_retrieval.eval.dataset import load_dataset

    dataset = load_dataset(data)
    texts = {document.id: document.content or "" for document in dataset.documents}
    best = {query: max(grades, key=grades.__getitem__) for query, grades in dataset.qrels.items()}
    return [
        (dataset.queries[query], texts[passage])
        for query, passage in best.items()
        if query in dataset.queries and passage in texts
    ]


def _tell(run: Any) -> None:
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


def _print_check(found: dict[str, Any]) -> None:
    out.print(
        f"{count(found['pairs'], 'held-out query', 'held-out queries')}: perplexity "
        f"{found['perplexity']:.1f} given the true passage, {found['random_perplexity']:.1f} given "
        f"a random one; the true one is preferred for {found['prefers_true']:.1%} "
        f"({found['low']:.1%} to {found['high']:.1%})",
        soft_wrap=True,
    )
