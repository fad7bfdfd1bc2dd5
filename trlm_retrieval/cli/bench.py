"""``trlm bench``: how fast scoring is here, beside a plain Hugging Face loop and other packages."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from trlm_retrieval.cli._checks import check_data, check_extras, check_model
from trlm_retrieval.cli._terminal import err, out, working

if TYPE_CHECKING:
    from trlm_retrieval.eval.bench.benchmark import Benchmark

_QUICK_ROUNDS = 2
_QUICK_SECONDS = 220.0  # of all comparisons; loading comes before


def bench(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="One query and as many passages, up to 100, as five minutes allow."
        ),
    ] = False,
    model: Annotated[str, typer.Option(help="A forward model: name, folder or hub id.")] = (
        "smollm2-135m"
    ),
    data: Annotated[str, typer.Option(help="Where texts are from: a BEIR folder or `demo`.")] = (
        "demo"
    ),
    dtype: Annotated[
        str, typer.Option(help="Precision of base, plain and states; int8 is beside it anyway.")
    ] = "float32",
    passages: Annotated[
        str, typer.Option(help="Numbers of passages, each with one query.")
    ] = "10,100,1000",
    queries: Annotated[str, typer.Option(help="Numbers of queries, with 100 passages.")] = "4,16",
    rounds: Annotated[int, typer.Option(min=1, help="A ratio is the median over them.")] = 4,
    with_peers: Annotated[
        bool,
        typer.Option(
            "--peers/--no-peers",
            help="Also first stages, other models, and packages of the extra `bench`.",
        ),
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
) -> None:
    """Time scoring: the base, ours without and with passage states, in int8, and other packages.

    Scores are compared on the way. Nothing else should run on the machine.

    Examples:

    * `trlm bench --quick --json bench.json`

    * `trlm bench --dtype bfloat16 --passages 100 --queries 16`
    """
    cases = [(n, 1) for n in _numbers(passages, "--passages")]
    cases += [(100, n) for n in _numbers(queries, "--queries")]
    check_extras("psutil")
    check_data(data)
    check_model(model)
    with working("Loading"):
        import random

        from trlm_retrieval.eval.bench import benchmark as b
        from trlm_retrieval.eval.dataset import load_dataset
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.passage_index.documents import passage_text

        dataset = load_dataset(data)
        texts = sorted({passage_text(document) for document in dataset.documents})
        random.Random(0).shuffle(texts)
        asked = list(dataset.queries.values())
        models = b.Models(
            TimeReversedLM.from_pretrained(model, dtype=dtype),
            TimeReversedLM.from_pretrained(model, dtype="int8"),
        )
    found = b.start(models)

    ends = time.monotonic() + _QUICK_SECONDS

    def say(what: str) -> None:
        left = f" (about {max(0, ends - time.monotonic()):.0f} s left)" if quick else ""
        err.print(what + left, style="dim")

    if quick:
        rounds = _QUICK_ROUNDS
        sample = b.sample_pairs(texts, asked, min(100, len(texts)), 1)
        cases = [(b.passages_that_fit(models, sample, rounds, _QUICK_SECONDS), 1)]
    for number, of_queries in dict.fromkeys((min(n, len(texts)), q) for n, q in cases):
        pairs = b.sample_pairs(texts, asked, number, of_queries)
        b.compare_plain(models, pairs, found, rounds, say)
        b.compare_states(models, pairs, found, max(1, rounds - 1), say, on_disk=not quick)
    if with_peers:
        from trlm_retrieval.errors import ModelError
        from trlm_retrieval.eval.bench.first_stages import first_stage_seconds
        from trlm_retrieval.eval.bench.peers import ready_peers
        from trlm_retrieval.models.source import DEFAULT_EMBEDDER

        number = cases[0][0] if quick else 100
        compared = [queries[0] for queries in b.sample_pairs(texts, asked, number, 1)]
        peers, missing = ready_peers(models.exact, compared, quick=quick)
        b.compare_peers(models.exact, compared, peers, found, 1, say)
        say("first stages")
        try:
            found.first_stages = first_stage_seconds(dataset, DEFAULT_EMBEDDER)
        except ModelError as error:
            missing["the timing of first stages"] = str(error)
        for name, reason in missing.items():
            err.print(f"{name} was not run: {reason}", style="yellow")
    _show(found)
    if json_file is not None:
        found.write_json(json_file)
        err.print(f"wrote {json_file}", soft_wrap=True)


def _show(found: "Benchmark") -> None:
    from trlm_retrieval.eval.bench.benchmark import summary, table_rows

    table = Table(
        "passages × queries",
        "system",
        "pairs/s",
        "ratio to base",
        "MB more",
        title=f"{found.model}, {found.dtype}, {found.threads} threads",
        title_justify="left",
    )
    for row in table_rows(found):
        table.add_row(*row)
    out.print(table)
    for name, value in summary(found).items():
        out.print(f"{name}: {value}", soft_wrap=True)


def _numbers(text: str, option: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise typer.BadParameter("give positive numbers with commas between", param_hint=option)
    return found
