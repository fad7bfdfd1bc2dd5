"""The training loop: gradient accumulation, mixed precision, checkpoints, log, one or many devices.

A step's gradient is that of the loss over all its batches together: each term's sum is divided by
the number of units (tokens, pairs) in the whole step. So it does not depend on how the step is
divided among batches and devices, but for rounding.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import count
from time import monotonic
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from trlm_retrieval.models.loading import choose_dtype
from trlm_retrieval.training.objective import Batch, BatchSource, Objective
from trlm_retrieval.training.reporting import Reporter, plot_loss
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.schedule import Schedule
from trlm_retrieval.training.workers import Workers

Measure = Callable[[], dict[str, float]]

_BETAS, _WEIGHT_DECAY, _MOST_GRADIENT = (0.9, 0.95), 0.1, 1.0


@dataclass(frozen=True)
class Pace:
    """How steps are made, apart from how many there are.

    :ivar batches: batches in a step, over all processes.
    :ivar checkpoint_minutes: time between checkpoints; 0 writes one after every step.
    :ivar measure_share: share of the run between two measurements on held-out data.
    """

    batches: int = 1
    checkpoint_minutes: float = 5.0
    measure_share: float = 0.1


@dataclass
class Progress:
    """How far a run is.

    :ivar tokens: read so far, padding included.
    :ivar seconds: spent so far, before and after a kill.
    :ivar measured: share of the run at the latest measurement.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    measured: float = 0.0


def train(
    objective: Objective,
    source: BatchSource,
    schedule: Schedule,
    pace: Pace,
    run: Run,
    workers: Workers,
    precision: torch.dtype,
    measure: Measure,
    save: Callable[[Any], None],
    reporter: Reporter,
) -> None:
    """Train until the schedule is over, from the run's checkpoint if there is one.

    :param objective: its model is trained in place; parameters that require no gradient are not.
    :param precision: what matrix products are computed in; weights stay in float32.
    :param measure: figures on held-out data, for the log; called in the first process.
    :param save: writes the trained model into the folder it is given.
    :raises ValueError: if the processes cannot share a step's batches evenly.
    """
    if pace.batches % workers.count:
        raise ValueError(
            f"{pace.batches} batches a step do not divide among {workers.count} processes; choose "
            "batch sizes that do"
        )
    if run.finished:
        return
    if workers.leads:
        run.begin()
    workers.wait()
    model = objective.model
    optimizer = make_optimizer(model, schedule.learning_rate, objective.rates)
    progress = Progress(**(run.load_checkpoint(model, optimizer) or {}))
    shared: Any = objective if workers.count == 1 else DistributedDataParallel(objective)
    own = range(workers.rank, pace.batches, workers.count)
    begun, saved = monotonic() - progress.seconds, monotonic()
    model.train()
    with closing(_read_ahead(source, progress.step, pace.batches, own)) as steps:
        while schedule.done(progress.step, progress.seconds) < 1:
            step_begun = monotonic()
            rate = schedule.rate(progress.step, progress.seconds)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            batches = next(steps)
            means = _add_gradients(shared, objective.weights, batches, workers, precision)
            gradient = torch.nn.utils.clip_grad_norm_(_trained(optimizer), _MOST_GRADIENT)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            [tokens] = workers.total(sum(batch.tokens for batch in batches))
            progress.step += 1
            progress.tokens += int(tokens)
            progress.seconds = workers.agreed(monotonic() - begun)
            entry = {
                "step": progress.step,
                "tokens": progress.tokens,
                "seconds": round(progress.seconds, 2),
                "tokens_per_second": round(tokens / (monotonic() - step_begun)),
                "learning_rate": rate,
                "gradient": float(gradient),
                **means,
            }
            done = schedule.done(progress.step, progress.seconds)
            if done >= 1 or done - progress.measured >= pace.measure_share:
                progress.measured = done
                if workers.leads:
                    entry |= _measure(model, measure, workers.device, precision)
                workers.wait()
            if workers.leads:
                run.log(entry)
                reporter.show(entry, done)
                if (monotonic() - saved) / 60 >= pace.checkpoint_minutes:
                    run.save_checkpoint(model, optimizer, asdict(progress))
                    saved = monotonic()
    model.eval()
    if workers.leads:
        run.finish(save, workers.hardware)
        plot_loss(run.entries(), run.folder / "loss.png")
    workers.wait()


def _read_ahead(
    source: BatchSource, step: int, batches: int, own: range
) -> Generator[list[Batch], None, None]:
    """This process's batches of each step; those of the next are put together meanwhile."""

    def read(number: int) -> list[Batch]:
        return [source.batch(number * batches + place) for place in own]

    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(read, step)
        for number in count(step + 1):
            found = upcoming.result()
            upcoming = reader.submit(read, number)
            yield found


def _add_gradients(
    objective: Any,
    weights: dict[str, float],
    batches: Sequence[Batch],
    workers: Workers,
    precision: torch.dtype,
) -> dict[str, float]:
    """Compute a step's gradients; returns the mean of each term over the step, in nats."""
    counts = workers.total(*(sum(batch.counts[name] for batch in batches) for name in weights))
    units = {name: max(total, 1.0) for name, total in zip(weights, counts, strict=True)}
    sums = dict.fromkeys(weights, 0.0)
    for batch in batches:
        last = batch is batches[-1]
        with nullcontext() if last or workers.count == 1 else objective.no_sync():
            with autocast(workers.device, precision):
                terms = objective(batch)
            loss = sum(weights[name] / units[name] * terms[name] for name in weights)
            # Gradients are averaged over processes, but each has its part of one sum.
            (loss * workers.count).backward()
        for name in weights:
            sums[name] += float(terms[name].detach())
    totals = workers.total(*sums.values())
    return {name: total / units[name] for name, total in zip(weights, totals, strict=True)}


def _trained(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def make_optimizer(
    model: torch.nn.Module, learning_rate: float, rates: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """AdamW over what requires a gradient; weight decay on matrices alone.

    :param rates: for parameters whose names begin so, their share of the learning rate.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            shares = (share for start, share in (rates or {}).items() if name.startswith(start))
            decay = _WEIGHT_DECAY if parameter.ndim >= 2 else 0.0
            groups.setdefault((next(shares, 1.0), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "share": share,
                "lr": share * learning_rate,
                "weight_decay": decay,
            }
            for (share, decay), parameters in groups.items()
        ],
        betas=_BETAS,
    )


def choose_precision(asked: str | None, device: torch.device) -> torch.dtype:
    """The precision asked for, or bfloat16 where the device computes in it, else float32.

    :raises ValueError: if it is neither of these two.
    """
    found = choose_dtype(asked, device)
    if asked is not None and found not in (torch.float32, torch.bfloat16):
        raise ValueError(f"training computes in bfloat16 or float32, not {asked!r}")
    return found if found == torch.bfloat16 else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> Any:
    """A context in which matrix products are computed in this precision."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _measure(
    model: Any, measure: Measure, device: torch.device, precision: torch.dtype
) -> dict[str, float]:
    """What ``measure`` finds with the model in evaluation mode."""
    model.eval()
    with torch.no_grad(), autocast(device, precision):
        found = measure()
    model.train()
    return found
