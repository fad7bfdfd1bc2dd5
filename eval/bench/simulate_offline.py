"""What a large offline run would take: arithmetic, and a simulation of shards, actors and failures.

    python -m trlm_retrieval.eval.bench.simulate_offline
    python -m trlm_retrieval.eval.bench.simulate_offline --actors 16 --hours-between-failures 2

Every number that is assumed is an option. The simulation follows
:mod:`trlm_retrieval.offline.ray_actors` event by event: actors take one shard after the other, a
killed one comes back, loads the model again and does its shard again, and when none is left to
begin, idle actors begin those under way a second time.
:mod:`~trlm_retrieval.eval.bench.offline` compares it with real runs.
"""

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil, inf
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Plan:
    """What is to be done, and on what; each field is an option of the command.

    Work: number of ``pairs``, of different ``passages`` among them, tokens and bytes of text of
    each, ``shard_rows``. The defaults are SmolLM2-135M's: ``parameters``, ``state_bytes`` a token
    in float16, ``model_gigabytes``.

    A GPU: its peak ``teraflops`` in bfloat16, the share that is reached (``utilisation``), its
    price an hour, ``gpus_a_node`` and a node's ``network_gigabytes`` a second;
    ``storage_gigabytes`` a second of the shared file system. ``actors``, one a GPU.

    What goes wrong: ``hours_between_failures`` of one actor, ``restart_seconds`` until it is back,
    ``load_seconds`` until its model is ready, ``speed_spread``, the standard deviation of the
    logarithm of an actor's speed.
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
    model_gigabytes: float = 0.27
    teraflops: float = 990
    utilisation: float = 0.15
    gpu_hour_dollars: float = 3.0
    gpus_a_node: float = 8
    network_gigabytes: float = 3
    storage_gigabytes: float = 5
    actors: float = 64
    hours_between_failures: float = 24
    restart_seconds: float = 60
    load_seconds: float = 60
    speed_spread: float = 0.1

    @property
    def tokens_a_pair(self) -> float:
        """Tokens read for a pair whose passage is read for it alone."""
        return self.context_tokens + self.query_tokens

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
        """Of one GPU."""
        return self.tokens_a_second / self.tokens_a_pair

    @property
    def shards(self) -> int:
        """How many there are."""
        return ceil(self.pairs / self.shard_rows)


@dataclass(frozen=True)
class Simulated:
    """How a run went.

    :ivar seconds: from the start of the actors to the last shard's end.
    :ivar loading: actor-seconds of starting and loading, ``lost`` those of work that was killed,
        ``twice`` those of shards begun a second time and not needed, ``idle`` the rest at the end.
    """

    seconds: float
    failures: int
    loading: float
    lost: float
    twice: float
    idle: float


def simulate(
    shard_seconds: Sequence[float],
    speeds: Sequence[float],
    load_seconds: float,
    restart_seconds: float,
    seconds_between_failures: float = inf,
    killed: Sequence[tuple[float, int]] = (),
    seed: int = 0,
) -> Simulated:
    """Follow actors through a run.

    :param shard_seconds: of each shard, on an actor of speed 1.
    :param speeds: of each actor.
    :param killed: times at which actors are killed besides, and which.
    """
    random = np.random.default_rng(seed)
    actors = len(speeds)
    planned: list[list[float]] = [
        sorted((at for at, victim in killed if victim == actor), reverse=True)
        for actor in range(actors)
    ]
    unfinished, waiting = set(range(len(shard_seconds))), list(range(len(shard_seconds)))[::-1]
    under_way: dict[int, int] = {}  # actor: shard
    idle: set[int] = set()
    spent = {"loading": actors * load_seconds, "lost": 0.0, "twice": 0.0}
    failures, now = 0, 0.0
    events = [(load_seconds, actor, "ready", 0.0) for actor in range(actors)]
    heapq.heapify(events)

    def begin(actor: int, at: float) -> None:
        nonlocal failures
        shard = under_way.get(actor)
        if shard is None:
            begun = list(under_way.values())
            once = [one for one in begun if one in unfinished and begun.count(one) == 1]
            if not (waiting or once):
                idle.add(actor)
                return
            shard = under_way[actor] = waiting.pop() if waiting else once[0]
        work = shard_seconds[shard] / speeds[actor]
        dies = at + random.exponential(seconds_between_failures)
        while planned[actor] and planned[actor][-1] < at:
            planned[actor].pop()
        if planned[actor]:
            dies = min(dies, planned[actor][-1])
        if dies < at + work:
            failures += 1
            heapq.heappush(events, (dies, actor, "dead", dies - at))
        else:
            heapq.heappush(events, (at + work, actor, "done", work))

    while unfinished:
        now, actor, what, seconds = heapq.heappop(events)
        if what == "dead":
            back = restart_seconds + load_seconds
            spent["lost"] += seconds
            spent["loading"] += back
            heapq.heappush(events, (now + back, actor, "ready", 0.0))
            continue
        if what == "done":
            shard = under_way.pop(actor)
            if shard not in unfinished:
                spent["twice"] += seconds
            unfinished.discard(shard)
        begin(actor, now)
        if what == "done":  # one that had nothing to do may find something now
            for other in [*idle]:
                idle.remove(other)
                begin(other, now)
    useful = sum(shard_seconds) / float(np.mean(speeds))
    rest = actors * now - useful - sum(spent.values())
    return Simulated(now, failures, spent["loading"], spent["lost"], spent["twice"], max(0.0, rest))


def simulate_plan(plan: Plan, seed: int = 0) -> Simulated:
    """A run of a plan."""
    random = np.random.default_rng(seed)
    speeds = np.exp(random.normal(0, plan.speed_spread, int(plan.actors)))
    each = plan.shard_rows / plan.pairs_a_second
    last = (plan.pairs - (plan.shards - 1) * plan.shard_rows) / plan.pairs_a_second
    return simulate(
        [each] * (plan.shards - 1) + [last],
        speeds.tolist(),
        plan.load_seconds,
        plan.restart_seconds,
        plan.hours_between_failures * 3600,
        seed=seed,
    )


def arithmetic(plan: Plan) -> Table:
    """What a plan takes without failures, in three ways of treating passages."""
    table = Table("passages are", "tokens read", "GPU hours", "dollars", "bytes of states", "moved")
    tail = plan.query_tokens + 1  # the last token of a context is read for each query
    once = plan.passages * plan.context_tokens
    states = once * plan.state_bytes
    text = plan.pairs * (plan.text_bytes + plan.result_bytes)
    a_pair = plan.context_tokens * plan.state_bytes
    ways = [
        ("read for each pair", plan.pairs * plan.tokens_a_pair, 0.0, text),
        (
            "read once: pairs sorted by passage",
            once + plan.pairs * tail,
            0.0,
            text,
        ),
        ("kept as states, fetched for each pair", plan.pairs * tail, states, plan.pairs * a_pair),
    ]
    for name, tokens, kept, moved in ways:
        hours = tokens / plan.tokens_a_second / 3600
        table.add_row(
            name,
            f"{tokens:.3g}",
            f"{hours:,.1f}",
            f"{hours * plan.gpu_hour_dollars:,.0f}",
            _bytes(kept),
            _bytes(moved),
        )
    return table


def report(plan: Plan, runs: int, console: Console) -> None:
    """Print the arithmetic, and what simulated runs took."""
    console.print(
        f"One GPU: {plan.tokens_a_second:,.0f} tokens, {plan.pairs_a_second:,.0f} pairs a second; "
        f"{plan.shards:,} shards of {plan.shard_rows / plan.pairs_a_second:,.0f} s each"
    )
    console.print(arithmetic(plan))
    nodes = ceil(plan.actors / plan.gpus_a_node)
    rate = plan.actors * plan.pairs_a_second * (plan.text_bytes + plan.result_bytes) / 1e9
    fetched = plan.context_tokens * plan.state_bytes
    by_network = plan.network_gigabytes * 1e9 / plan.gpus_a_node / fetched
    console.print(
        f"Network: all actors read and write {rate:.2f} GB a second, {rate / nodes:.3f} a node "
        f"(it has {plan.network_gigabytes:g}), of a storage that gives {plan.storage_gigabytes:g}; "
        f"the model once for each actor: {_bytes(plan.actors * plan.model_gigabytes * 1e9)}. "
        f"A pair's states are {_bytes(fetched)}: a GPU's share of the network would bring "
        f"{by_network:,.0f} pairs a second."
    )
    ideal = plan.pairs / plan.pairs_a_second / plan.actors
    found = [simulate_plan(plan, seed) for seed in range(runs)]

    def middle(name: str) -> float:
        return float(np.median([getattr(one, name) for one in found]))

    hours = middle("seconds") / 3600
    table = Table("simulated, median of " + str(runs), "")
    table.add_row("without loading, failures and waiting", f"{ideal / 3600:.2f} h")
    table.add_row(f"with {plan.actors:.0f} actors", f"{hours:.2f} h")
    slowest = max(one.seconds for one in found) / 3600
    table.add_row("the slowest run", f"{slowest:.2f} h")
    table.add_row("failures", f"{middle('failures'):.0f}")
    for name, told in [
        ("loading", "starting and loading"),
        ("lost", "work that was killed"),
        ("twice", "work that was done twice"),
        ("idle", "waiting for the end"),
    ]:
        share = middle(name) / (middle("seconds") * plan.actors)
        table.add_row(told, f"{share:.2%} of the actors' time")
    cost = hours * plan.actors * plan.gpu_hour_dollars
    table.add_row("price of all GPUs until the end", f"{cost:,.0f} dollars")
    console.print(table)


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}" if number else "none"
        number /= 1000
    return f"{number:.3g} PB"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="What a large offline run would take.")
    parser.add_argument("--runs", type=int, default=20, help="simulated runs")
    for field in fields(Plan):
        option = f"--{field.name.replace('_', '-')}"
        default: Any = field.default
        parser.add_argument(option, type=float, default=default, help=f"{default:,g} by default")
    chosen = vars(parser.parse_args(arguments))
    runs = chosen.pop("runs")
    for name, value in chosen.items():
        if not value > 0 and name not in ("speed_spread", "restart_seconds", "load_seconds"):
            parser.error(f"--{name.replace('_', '-')} must be positive, not {value:g}")
    report(Plan(**chosen), runs, Console())


if __name__ == "__main__":
    main()
