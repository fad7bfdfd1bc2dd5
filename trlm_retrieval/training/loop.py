"""The training loop: gradient accumulation, mixed precision, checkpoints, log, one or many devices.

A step's gradient is that of the loss over all its batches together: each term's sum is divided by
the number of units (tokens, pairs) in the whole step. So it does not depend on how the step is
divided among batches and devices, but for rounding.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from trlm_retrieval.lm.pretrained import choose_dtype
from trlm_retrieval.training.objective import BatchSource, Objective
from trlm_retrieval.training.reporting import Reporter
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
    model = objective.model
    optimizer = make_optimizer(model, schedule.learning_rate)
    progress = {"step": 0.0, "seconds": 0.0, "tokens": 0.0, "measured": 0.0}
    progress |= run.load_checkpoint(model, optimizer) or {}
    shared: Any = objective if workers.count == 1 else DistributedDataParallel(objective)
    own = range(workers.rank, pace.batches, workers.count)
    begun = saved = monotonic()
    earlier = progress["seconds"]
    model.train()
    while (done := schedule.done(int(progress["step"]), progress["seconds"])) < 1:
        step_begun = monotonic()
        rate = schedule.rate(int(progress["step"]), progress["seconds"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        first = int(progress["step"]) * pace.batches
        batches = [source.batch(first + place) for place in own]
        names = list(objective.weights)
        counts = workers.total(*(sum(b.counts[name] for b in batches) for name in names))
        units = dict(zip(names, counts, strict=True))
        sums = dict.fromkeys(names, 0.0)
        for batch in batches:
            last = batch is batches[-1]
            with nullcontext() if last or workers.count == 1 else shared.no_sync():
                with autocast(workers.device, precision):
                    terms = shared(batch)
                loss = sum(
                    objective.weights[name] / max(units[name], 1.0) * terms[name] for name in names
                )
                # Gradients are averaged over processes, but each has its part of one sum.
                (loss * workers.count).backward()
            for name in names:
                sums[name] += float(terms[name].detach())
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        gradient = float(torch.nn.utils.clip_grad_norm_(trained, _MOST_GRADIENT))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        *found, tokens = workers.total(*sums.values(), sum(batch.tokens for batch in batches))
        progress["step"] += 1
        progress["tokens"] += tokens
        progress["seconds"] = workers.agreed(earlier + monotonic() - begun)
        entry = {
            "step": int(progress["step"]),
            "tokens": int(progress["tokens"]),
            "seconds": round(progress["seconds"], 2),
            "learning_rate": rate,
            "gradient": gradient,
            "tokens_per_second": round(tokens / (monotonic() - step_begun)),
        } | {name: total / max(units[name], 1.0) for name, total in zip(names, found, strict=True)}
        done = schedule.done(int(progress["step"]), progress["seconds"])
        if done >= 1 or done - progress["measured"] >= pace.measure_share:
            progress["measured"] = done
            if workers.leads:
                entry |= evaluating(model, measure, workers.device, precision)
            workers.wait()
        if workers.leads:
            run.log(entry)
            reporter.show(entry, done)
            if (monotonic() - saved) / 60 >= pace.checkpoint_minutes:
                run.save_checkpoint(model, optimizer, progress)
                saved = monotonic()
    model.eval()
    if workers.leads:
        run.finish(save, workers.hardware)
    workers.wait()


def make_optimizer(model: torch.nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW over what requires a gradient; weight decay on matrices alone."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=_BETAS)


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


def evaluating(
    model: Any, measure: Measure, device: torch.device, precision: torch.dtype
) -> dict[str, float]:
    """What ``measure`` finds with the model in evaluation mode."""
    model.eval()
    with torch.no_grad(), autocast(device, precision):
        found = measure()
    model.train()
    return found
