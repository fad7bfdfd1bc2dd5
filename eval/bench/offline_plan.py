"""What a large offline run would take: the arithmetic, with every assumed number an option.

python -m trlm_retrieval.eval.bench.offline_plan
python -m trlm_retrieval.eval.bench.offline_plan --pairs 1e7 --utilisation 0.3
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Plan:
    """What is to be done, and on what; each field is an option of the command.

    Work: number of ``pairs``, of different ``passages`` among them, tokens and bytes of text of
    each, ``shard_rows``. The defaults are SmolLM2-135M's: ``parameters``, and ``state_bytes`` a
    token in float16.

    A GPU: its peak ``teraflops`` in bfloat16, the share that is reached (``utilisation``), its
    price an hour, its share of the network in ``network_gigabytes`` a second, and how many
    ``gpus`` there are.
    """

    pairs: float = 1e9
    passages: float = 1e8
    passage_tokens: float = 150
    prompt_tokens: float = 14
    query_tokens: float = 12
    text_bytes: float = 700
    result_bytes: float = 25
    shard_rows: float = 100_000
    parameters: float = 135e6
    state_bytes: float = 23_040
    teraflops: float = 990
    utilisation: float = 0.15
    gpu_hour_dollars: float = 3.0
    network_gigabytes: float = 0.375
    gpus: float = 64

    @property
    def context_tokens(self) -> float:
        """Tokens of a passage and the prompt around it, the same for each query."""
        return self.passage_tokens + self.prompt_tokens

    @property
    def tokens_a_second(self) -> float:
        """Of one GPU: two operations for each parameter and token."""
        return self.teraflops * 1e12 * self.utilisation / (2 * self.parameters)

    @property
    def pairs_a_second(self) -> float:
        """Of one GPU that reads each pair's passage anew."""
        return self.tokens_a_second / (self.context_tokens + self.query_tokens)


def arithmetic(plan: Plan) -> Table:
    """What a plan takes in three ways of treating passages."""
    table = Table(
        "passages are", "tokens read", "GPU hours", "hours", "dollars", "bytes of states", "moved"
    )
    tail = plan.query_tokens + 1  # the last token of a context is read for each query
    once = plan.passages * plan.context_tokens
    text = plan.pairs * (plan.text_bytes + plan.result_bytes)
    fetched = plan.pairs * plan.context_tokens * plan.state_bytes
    anew = plan.pairs * (plan.context_tokens + plan.query_tokens)
    for name, tokens, kept, moved in (
        ("read for each pair", anew, 0.0, text),
        ("read once: pairs sorted by passage", once + plan.pairs * tail, 0.0, text),
        ("kept, fetched for each pair", plan.pairs * tail, once * plan.state_bytes, fetched),
    ):
        hours = tokens / plan.tokens_a_second / 3600
        table.add_row(
            name,
            f"{tokens:.3g}",
            f"{hours:,.1f}",
            f"{hours / plan.gpus:,.2f}",
            f"{hours * plan.gpu_hour_dollars:,.0f}",
            _bytes(kept),
            _bytes(moved),
        )
    return table


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}" if number else "none"
        number /= 1000
    return f"{number:.3g} PB"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="What a large offline run would take.")
    for field in fields(Plan):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(
            option, type=float, default=field.default, help=f"{field.default:,g} by default"
        )
    chosen = vars(parser.parse_args(arguments))
    for name, value in chosen.items():
        if not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be positive, not {value:g}")
    plan, console = Plan(**chosen), Console()
    shard_seconds = plan.shard_rows / plan.pairs_a_second
    by_network = plan.network_gigabytes * 1e9 / plan.context_tokens / plan.state_bytes
    console.print(
        f"One GPU: {plan.tokens_a_second:,.0f} tokens, {plan.pairs_a_second:,.0f} pairs a second; "
        f"{ceil(plan.pairs / plan.shard_rows):,} shards of {shard_seconds:,.0f} s each. Its share "
        f"of the network would bring the states of {by_network:,.0f} pairs a second."
    )
    console.print(arithmetic(plan))


if __name__ == "__main__":
    main()
