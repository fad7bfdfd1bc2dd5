"""Pre-training: predict each next token of running text, read backwards, forwards, or either."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from trlm_retrieval.lm.template import Order
from trlm_retrieval.models.loading import Orders, load_pretrained, save_pretrained
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import Objective, TokenBatch, TokenLogProbs
from trlm_retrieval.training.presets import PRESETS, new_model
from trlm_retrieval.training.recipe import READS, Options, Recipe
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.shards import Shards
from trlm_retrieval.training.tokenizer import end_id, start_tokens

_MEASURED_BATCHES = 8


class NextToken(Objective[TokenBatch]):
    """Mean negative log-likelihood of all tokens, in nats."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, {"loss": 1.0})
        self._log_probs = TokenLogProbs(model)

    def forward(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        return {"loss": -self._log_probs.of(batch).sum()}


class Windows:
    """Windows of text, each opened by the start token of the order in which it is read.

    An epoch visits all windows in a random order; with two reading orders they alternate, and a
    window is read in the other order the next time.

    :param start_ids: start token of each reading order used.
    :param context: length of a row, in tokens; a window holds as many.
    :param rows: windows in a batch.
    :raises ValueError: if there is not one whole window of text.
    """

    def __init__(
        self, shards: Shards, start_ids: dict[Order, int], context: int, rows: int, seed: int
    ) -> None:
        if len(shards) < context:
            raise ValueError(f"{len(shards)} tokens of text do not fill one window of {context}")
        self._shards, self._context, self._rows, self._seed = shards, context, rows, seed
        self._starts = list(start_ids.items())
        self._windows = len(shards) // context
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def batch(self, index: int) -> TokenBatch:
        first = index * self._rows
        return self._read([self._visit(visit) for visit in range(first, first + self._rows)])

    def _visit(self, visit: int) -> tuple[int, int]:
        """Window and number of the reading order at this place of the endless sequence."""
        epoch, place = divmod(visit, self._windows)
        if epoch != self._epoch:
            shuffle = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, shuffle.permutation(self._windows)
        window = int(self._order[place])
        return window, (window + epoch) % len(self._starts)

    def _read(self, visits: list[tuple[int, int]]) -> TokenBatch:
        rows = np.empty((len(visits), self._context + 1), np.int64)
        for row, (window, order) in zip(rows, visits, strict=True):
            tokens = self._shards.read(window * self._context, (window + 1) * self._context)
            name, row[0] = self._starts[order]
            row[1:] = tokens[::-1] if name == "reverse" else tokens
        ids = torch.from_numpy(rows)
        targets = ids[:, 1:].flatten()
        return TokenBatch(
            {"input_ids": ids[:, :-1].contiguous()},
            torch.arange(len(targets)),
            targets,
            {"loss": len(targets)},
        )


def pretrain(
    shards: Path,
    out: Path,
    options: Options,
    *,
    order: Orders = "reverse",
    preset: str | None = None,
    base: str | Path | None = None,
    context: int = 512,
    max_context: int = 1024,
    batch_tokens: int = 8192,
    device_tokens: int = 4096,
) -> Run:
    """Train a model on running text; the folder ``out`` then holds it under ``model``.

    To continue a killed run, call it again with the same arguments.

    :param shards: what :func:`~trlm_retrieval.training.shards.pack` wrote.
    :param order: ``reverse`` for a Ba model, ``forward``, or ``both`` for a FoBa model.
    :param preset: size of a new model, a name of ``PRESETS``.
    :param base: a model to start from instead, whose tokenizer the shards must have.
    :param context: tokens in a row; ``max_context`` is what a new model can take later.
    :param batch_tokens: tokens in a step over all processes; ``device_tokens`` in one pass.
    :raises ValueError: for settings that do not fit each other.
    :raises RunError: if ``out`` holds another run.
    """
    if (preset is None) == (base is None) or (preset is not None and preset not in PRESETS):
        raise ValueError(f"give a model to start from, or a size: {', '.join(PRESETS)}")
    rows = max(1, device_tokens // context)
    batches = max(1, batch_tokens // (rows * context))
    data, held_out = Shards(shards, "train"), Shards(shards, "held_out")
    starts = start_tokens(data.tokenizer)
    if order == "both" and len(set(starts.values())) < 2:
        raise ValueError("a model of both orders needs a tokenizer with a start token for each")
    start_ids = {name: data.tokenizer.convert_tokens_to_ids(starts[name]) for name in READS[order]}
    seed = options.seed

    def prepare() -> Recipe:
        model = _model(preset, base, data.tokenizer, context, max_context, seed)
        objective = NextToken(model.to(options.workers.device))
        measured = Windows(held_out, start_ids, min(context, len(held_out)), rows, seed)
        return Recipe(
            objective,
            Windows(data, start_ids, context, rows, seed),
            batches,
            lambda: _mean_loss(objective, measured),
            lambda folder: save_pretrained(model, data.tokenizer, order, starts, folder),
        )

    settings = {
        "order": order,
        "preset": preset,
        "base": base,
        "shards": shards,
        "data": data.sources,
        "train_tokens": len(data),
        "context": context,
        "max_context": max_context if base is None else None,
        "batch_tokens": batches * rows * context,
        "device_tokens": rows * context,
    }
    return train("pre-training", out, settings, options, prepare)


def _model(
    preset: str | None,
    base: str | Path | None,
    tokenizer: Any,
    context: int,
    max_context: int,
    seed: int,
) -> Any:
    """A new model, or the one to start from."""
    if preset is not None:
        new: Any = new_model(PRESETS[preset], len(tokenizer), end_id(tokenizer), max_context, seed)
        longest = max_context
    else:
        assert base is not None
        loaded = load_pretrained(base, None, torch.float32)
        if loaded.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"the shards were packed with another tokenizer than that of {base}")
        new, longest = loaded.model, loaded.model.config.max_position_embeddings
    if context > longest:
        raise ValueError(
            f"rows of {context} tokens are longer than the model's context of {longest}"
        )
    return new


def _mean_loss(objective: NextToken, source: Windows) -> dict[str, float]:
    batches = [source.batch(index) for index in range(_MEASURED_BATCHES)]
    sums = sum(float(objective(batch)["loss"]) for batch in batches)
    return {"held_out": sums / sum(batch.counts["loss"] for batch in batches)}
