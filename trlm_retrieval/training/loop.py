"""The training loop: gradient accumulation, mixed precision, checkpoints, log, one or many devices.

A step's gradient is that of the loss over all its batches together: each term's sum is divided by
the number of units (tokens, pairs) in the whole step. So it does not depend on how the step is
divided among batches and devices, apart from rounding.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from trlm_retrieval.training.objective import Batch, BatchSource
from trlm_retrieval.training.recipe import Options, Recipe
from trlm_retrieval.training.reporting import Reporter, plot_loss
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.workers import Workers

_BETAS, _WEIGHT_DECAY, _MOST_GRADIENT = (0.9, 0.95), 0.1, 1.0


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
    task: str,
    out: Path,
    settings: dict[str, Any],
    options: Options,
    prepare: Callable[[], Recipe],
) -> Run:
    """Train, from the run's checkpoint if there is one; ``out`` then holds ``model``.

    A run that is finished is left as it is.

    :param task: what kind of run it is, in a word or two.
    :param settings: all that determines the run beside the options.
    :param prepare: loads and encodes what is needed; called only where there is something to do.
    :raises ValueError: if the processes cannot share a step's batches evenly.
    :raises RunError: if ``out`` holds another run.
    """
    common = {
        "schedule": vars(options.schedule),
        "precision": str(options.dtype).removeprefix("torch."),
        "seed": options.seed,
    }
    run = Run(out, {"task": task, **settings, **common})
    if run.finished:
        return run
    recipe, workers = prepare(), options.workers
    if recipe.batches % workers.count:
        raise ValueError(
            f"{recipe.batches} batches a step do not divide among {workers.count} processes; "
            "choose batch sizes that do"
        )
    if workers.leads:
        run.begin()
    workers.wait()
    with Reporter(f"{task} {out.name}", options.show_progress and workers.leads) as reporter:
        _take_steps(recipe, options, run, reporter)
    if workers.leads:
        run.finish(recipe.save, workers.hardware)
        plot_loss(run.entries(), run.folder / "loss.png")
    workers.wait()
    return run


def _take_steps(recipe: Recipe, options: Options, run: Run, reporter: Reporter) -> None:
    """All steps that are left of a run."""
    schedule, workers = options.schedule, options.workers
    precision = options.dtype if recipe.casts else torch.float32
    objective, model = recipe.objective, recipe.objective.model
    optimizer = make_optimizer(model, schedule.learning_rate, objective.rates)
    progress = Progress(**(run.load_checkpoint(model, optimizer) or {}))
    shared: Any = objective if workers.count == 1 else DistributedDataParallel(objective)
    own = range(workers.rank, recipe.batches, workers.count)
    begun, saved = monotonic() - progress.seconds, monotonic()
    model.train()
    with closing(_read_ahead(recipe.source, progress.step, recipe.batches, own)) as steps:
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
            if done >= 1 or done - progress.measured >= recipe.measure_share:
                progress.measured = done
                if workers.leads:
                    entry |= _measured(recipe, workers.device, precision)
                workers.wait()
            if workers.leads:
                run.log(entry)
                reporter.show(entry, done)
                if (monotonic() - saved) / 60 >= options.checkpoint_minutes:
                    run.save_checkpoint(model, optimizer, asdict(progress))
                    saved = monotonic()
    model.eval()


def _read_ahead(
    source: BatchSource[Any], step: int, batches: int, own: range
) -> Generator[list[Any], None, None]:
    """This process's batches of each step; those of the next are put together meanwhile."""

    def read(number: int) -> list[Any]:
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


def autocast(device: torch.device, precision: torch.dtype) -> Any:
    """A context in which matrix products are computed in this precision."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _measured(recipe: Recipe, device: torch.device, precision: torch.dtype) -> dict[str, float]:
    """The recipe's figures, with the model in evaluation mode."""
    recipe.objective.model.eval()
    with torch.no_grad(), autocast(device, precision):
        found = recipe.measure()
    recipe.objective.model.train()
    return found
