"""How fast scoring is, beside a plain Hugging Face loop over the same texts with the same model.

The base is what one writes without this package: batches of 16 in the order of the texts, padded,
logits of every position, log-softmax over all of them. Everything is measured in rounds, in each
of which the base runs next to what it is compared with, and a ratio is the median over rounds:
machines are noisy, and two things measured in one breath share the noise.
"""

import json
import math
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from trlm_retrieval.files import write_text
from trlm_retrieval.lm import PassageStates, TimeReversedLM
from trlm_retrieval.lm.likelihood import padded
from trlm_retrieval.lm.state_folder import StateFolder
from trlm_retrieval.lm.state_writing import plan_states, write_states

BASE_BATCH = 16
MAX_PASSAGE_TOKENS = 512  # as TRLMRanker cuts them

_BASE_PAIRS = 16  # of each round: the base's cost is linear, so a part of the texts tells it
_TRIED_PAIRS = 4  # tell how long the comparisons will take
_STATE_BYTES = 8 * 1024**3

Pairs = list[tuple[str, str]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One system on one case.

    :ivar pairs_a_second: pairs scored in a second, the median over rounds.
    :ivar ratio: how many times the base's speed per token of text, the median over rounds.
    :ivar megabytes: the most resident memory while it ran, beyond what was there before.
    """

    system: str
    passages: int
    queries: int
    pairs_a_second: float
    ratio: float
    megabytes: float


@dataclass
class Benchmark:
    """What a run found; see :meth:`write_json`.

    :ivar first_stages: seconds a question of each, see
        :func:`~trlm_retrieval.eval.bench.first_stages.first_stage_seconds`; empty if not timed.
    """

    model: str
    dtype: str
    threads: int
    machine: str
    gemm_gflops: float
    rows: list[Row] = field(default_factory=list)
    max_abs_difference_nats: float = 0.0
    int8: dict[str, float] = field(default_factory=dict)
    gemm_share: float = 0.0
    state_bytes_per_token: dict[str, float] = field(default_factory=dict)
    first_stages: dict[str, float] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """Ratio of each system to the base, in the case nearest to 100 passages and one query."""
        cases = {(row.passages, row.queries) for row in self.rows if row.queries == 1}
        case = min(cases, key=lambda found: abs(found[0] - 100))
        return {
            row.system: round(row.ratio, 3)
            for row in self.rows
            if (row.passages, row.queries) == case
        }

    def write_json(self, path: Path) -> None:
        """Write everything; ``ratio_to_base`` is what :meth:`ratios` says."""
        found = {"ratio_to_base": self.ratios(), **asdict(self)}
        write_text(path, json.dumps(found, indent=2) + "\n")


@dataclass
class Models:
    """The same weights twice: in the precision that is measured, and with int8 arithmetic."""

    exact: TimeReversedLM
    int8: TimeReversedLM


def start(models: Models) -> Benchmark:
    """A benchmark with the machine's own speed measured."""
    lm = models.exact
    return Benchmark(
        str(lm.name),
        str(lm.model.dtype).removeprefix("torch."),
        torch.get_num_threads(),
        f"{platform.machine()}, {os.cpu_count()} CPUs",
        round(gemm_gflops(lm.model.dtype, lm.network.device), 1),
    )


def passages_that_fit(models: Models, pairs: Sequence[Pairs], rounds: int, seconds: float) -> int:
    """How many passages all comparisons manage in a time, told from a few; at least 10, or all.

    :param pairs: for each passage its pairs.
    """
    lm = models.exact
    some = _spread([pair for passage in pairs for pair in passage], _TRIED_PAIRS)
    base, exact, int8 = _Timed(), _Timed(), _Timed()
    base.run(lm, some, partial(base_scores, lm))
    exact.run(lm, some, partial(_scores, lm))
    int8.run(lm, some, partial(_scores, models.int8))
    a_pair = [timed.seconds[0] / len(some) for timed in (base, exact, int8)]
    # The base runs in each round, before the states are computed, with them, and beside the peers.
    of_base = _BASE_PAIRS * (rounds + max(1, rounds - 1) + 2) * a_pair[0]
    # Ours reads every passage plain and for its states; all peers together cost about one more.
    a_passage = len(pairs[0]) * (3 * a_pair[1] + 2 * a_pair[2])
    return min(len(pairs), max(10, int((seconds - of_base) / a_passage)))


def compare_plain(
    models: Models, pairs: Sequence[Pairs], found: Benchmark, rounds: int, say: Say
) -> None:
    """Base, plain and plain int8: each round takes its share of the passages, with all queries.

    :param pairs: for each passage its pairs.
    """
    lm, number = models.exact, len(pairs)
    rounds = min(rounds, number)
    base, plain, plain_int8 = _Timed(), _Timed(), _Timed()
    differences, exact, rough = [], [], []
    shares = []
    for at in range(rounds):
        say(f"{number} passages: round {at + 1} of {rounds}")
        mine = [pair for passage in pairs[at::rounds] for pair in passage]
        some = _spread(mine, _BASE_PAIRS)
        scores = plain.run(lm, mine, partial(_scores, lm))
        shares.append(plain.tokens[-1] / plain.seconds[-1])
        rough += plain_int8.run(lm, mine, partial(_scores, models.int8))
        reference = base.run(lm, some, partial(base_scores, lm))
        exact += scores
        by_pair = dict(zip(mine, scores, strict=True))
        differences += [abs(by_pair[p] - value) for p, value in zip(some, reference, strict=True)]
    queries = len(pairs[0])
    for name, timed in (("base", base), ("plain", plain), ("plain_int8", plain_int8)):
        found.rows.append(timed.row(name, number, queries, base))
    found.max_abs_difference_nats = max(found.max_abs_difference_nats, *differences)
    found.int8 = _deviation(exact, rough)
    if queries == 1:
        rate = statistics.median(shares) * _flops_a_token(lm) / 1e9
        found.gemm_share = round(rate / found.gemm_gflops, 3)


def compare_states(
    models: Models,
    pairs: Sequence[Pairs],
    found: Benchmark,
    rounds: int,
    say: Say,
    on_disk: bool,
) -> None:
    """Base beside states: cold (computed in passing), warm in memory, warm on disk, and int8."""
    lm, number = models.exact, len(pairs)
    flat = [pair for passage in pairs for pair in passage]
    in_memory = PassageStates(_STATE_BYTES)
    models.int8.states = PassageStates(_STATE_BYTES)
    say(f"{number} passages: computing states")
    base, first, cold, warm, disk, warm_int8 = (_Timed() for _ in range(6))
    some = _spread(flat, _BASE_PAIRS)
    first.run(lm, some, partial(base_scores, lm))
    cold.run(lm, flat, partial(_scores, lm, states=in_memory))
    _scores(models.int8, flat, models.int8.states)
    plan = plan_states(lm, [p[0][1] for p in pairs], max_passage_tokens=MAX_PASSAGE_TOKENS)
    found.state_bytes_per_token[found.dtype] = round(plan.bytes_per_token, 1)
    with TemporaryDirectory() as folder:
        kept = PassageStates(0)
        if on_disk:
            write_states(Path(folder) / "states", lm, plan)
            on = StateFolder(Path(folder) / "states", lm, max_passage_tokens=MAX_PASSAGE_TOKENS)
            kept.read_from(on)
            _scores(lm, flat, kept)  # so that checksums are compared and pages are there
        for at in range(rounds):
            say(f"{number} passages with states: round {at + 1} of {rounds}")
            some = _spread(flat[at::rounds], _BASE_PAIRS)
            reference = base.run(lm, some, partial(base_scores, lm))
            scores = warm.run(lm, flat, partial(_scores, lm, states=in_memory))
            warm_int8.run(lm, flat, partial(_scores, models.int8, states=models.int8.states))
            if on_disk:
                disk.run(lm, flat, partial(_scores, lm, states=kept))
            by_pair = dict(zip(flat, scores, strict=True))
            difference = max(
                abs(by_pair[p] - value) for p, value in zip(some, reference, strict=True)
            )
            found.max_abs_difference_nats = max(found.max_abs_difference_nats, difference)
    rows = [
        ("states_cold", cold, first),
        ("states_warm", warm, base),
        ("states_warm_int8", warm_int8, base),
    ]
    if on_disk:
        rows.append(("states_disk", disk, base))
    for name, timed, beside in rows:
        found.rows.append(timed.row(name, number, len(pairs[0]), beside))


@torch.inference_mode()
def base_scores(lm: TimeReversedLM, pairs: Pairs) -> list[float]:
    """The plain Hugging Face loop: log P(query | passage) in nats for each pair."""
    sums = []
    encoded = lm.encode(pairs, max_passage_tokens=MAX_PASSAGE_TOKENS)
    device = lm.network.device
    for start in range(0, len(encoded), BASE_BATCH):
        batch = encoded[start : start + BASE_BATCH]
        rows = [[*pair.context, *pair.target] for pair in batch]
        ids = padded(rows).to(device)
        mask = padded([[1] * len(row) for row in rows]).to(device)
        logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        log_probs = logits[:, :-1].float().log_softmax(-1)
        chosen = log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1)
        for row, pair in zip(chosen, batch, strict=True):
            begin = len(pair.context) - 1
            sums.append(float(row[begin : begin + len(pair.target)].sum()))
    return sums


def compare_peers(
    lm: TimeReversedLM,
    pairs: Pairs,
    peers: dict[str, Callable[[Pairs], list[float]]],
    found: Benchmark,
    rounds: int,
    say: Say,
) -> None:
    """Each peer beside the base, all pairs in each round."""
    base, timed = _Timed(), {name: _Timed() for name in peers}
    for at in range(rounds):
        some = _spread(pairs, _BASE_PAIRS)
        base.run(lm, some, partial(base_scores, lm))
        for name, score in peers.items():
            say(f"{name}: round {at + 1} of {rounds}")
            timed[name].run(lm, pairs, score)
    for name, of in timed.items():
        found.rows.append(of.row(name, len(pairs), 1, base))


def gemm_gflops(dtype: torch.dtype, device: torch.device, size: int = 1536) -> float:
    """Speed of a square matrix product, in GFLOP/s: the best of several."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best = math.inf
    for _ in range(8):
        started = time.perf_counter()
        (left @ right).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e9


def _flops_a_token(lm: TimeReversedLM) -> float:
    """Of the linear layers below the head, which runs for few tokens."""
    body = lm.model.base_model
    linear = (m for m in body.modules() if isinstance(m, torch.nn.Linear))
    return 2.0 * sum(layer.weight.numel() for layer in linear)


def _scores(lm: TimeReversedLM, pairs: Pairs, states: PassageStates | None = None) -> list[float]:
    lm.states = PassageStates(0) if states is None else states
    found = lm.score(pairs, max_passage_tokens=MAX_PASSAGE_TOKENS)
    return [likelihood.sum for likelihood in found]


def _spread(pairs: Pairs, number: int) -> Pairs:
    """At most ``number`` of the pairs, taken evenly."""
    return pairs[:: max(1, len(pairs) // number)][:number]


def _deviation(exact: Sequence[float], rough: Sequence[float]) -> dict[str, float]:
    difference = np.subtract(rough, exact)
    return {
        "max_abs_difference_nats": round(float(abs(difference).max()), 3),
        "root_mean_square_difference_nats": round(float(np.sqrt((difference**2).mean())), 3),
        "spearman": round(float(spearmanr(exact, rough).statistic), 4) if len(exact) > 2 else 1.0,
    }


class _Timed:
    """Rounds of one system: seconds, tokens of text, pairs, and the most memory."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.pairs: list[int] = []
        self.bytes = 0

    def run(
        self, lm: TimeReversedLM, pairs: Pairs, score: Callable[[Pairs], list[float]]
    ) -> list[float]:
        """Time one round."""
        encoded = lm.encode(pairs, max_passage_tokens=MAX_PASSAGE_TOKENS)
        with _peak_memory() as peak:
            started = time.perf_counter()
            scores = score(pairs)
            self.seconds.append(time.perf_counter() - started)
        self.tokens.append(sum(len(pair.context) + len(pair.target) for pair in encoded))
        self.pairs.append(len(pairs))
        self.bytes = max(self.bytes, peak())
        return scores

    def row(self, system: str, passages: int, queries: int, base: "_Timed") -> Row:
        """The row of the table, with the ratio to a base that ran in the same rounds."""
        rates = [n / s for n, s in zip(self.tokens, self.seconds, strict=True)]
        of_base = [n / s for n, s in zip(base.tokens, base.seconds, strict=True)]
        ratios = [rate / other for rate, other in zip(rates, of_base, strict=True)]
        pairs = [n / s for n, s in zip(self.pairs, self.seconds, strict=True)]
        return Row(
            system,
            passages,
            queries,
            statistics.median(pairs),
            statistics.median(ratios),
            round(self.bytes / 1e6, 1),
        )


@contextmanager
def _peak_memory() -> Iterator[Callable[[], int]]:
    """The most resident bytes during the block beyond those at its begin, looked at often."""
    import psutil

    process = psutil.Process()
    begin = most = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(0, most - begin)
    finally:
        done.set()
        watcher.join()


def sample_pairs(
    passages: Sequence[str], queries: Sequence[str], number: int, of_queries: int
) -> list[Pairs]:
    """The first ``number`` passages, each with the first ``of_queries`` queries."""
    return [[(query, text) for query in queries[:of_queries]] for text in passages[:number]]


def table_rows(found: Benchmark) -> list[list[str]]:
    """Cells for a table: case, system, pairs a second, ratio, memory."""
    return [
        [
            f"{row.passages:,} × {row.queries}",
            row.system,
            f"{row.pairs_a_second:,.1f}",
            f"{row.ratio:.2f}",
            f"{row.megabytes:,.0f}",
        ]
        for row in found.rows
    ]


def summary(found: Benchmark) -> dict[str, Any]:
    """The figures below the table."""
    first = ", ".join(f"{k} {1000 * v:,.1f} ms" for k, v in found.first_stages.items())
    return {
        "largest difference to the base": f"{found.max_abs_difference_nats:.2g} nats",
        "int8 against the exact scores": ", ".join(f"{k} {v}" for k, v in found.int8.items()),
        "matrix products": f"{found.gemm_gflops:,.0f} GFLOP/s on this machine; plain scoring "
        f"reaches {found.gemm_share:.0%} of it",
        "state bytes a token": ", ".join(
            f"{k} {v:,.0f}" for k, v in found.state_bytes_per_token.items()
        ),
        "first stages, a question": first or "not timed",
    }
