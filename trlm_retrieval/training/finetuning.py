"""Fine-tuning on (query, passage) pairs: only the query's tokens carry loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trlm_retrieval.training.check import check
from trlm_retrieval.training.corpus import PairFile, read_both_halves
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import END_WEIGHT, Objective, TokenLogProbs
from trlm_retrieval.training.pairs import EncodedPairs, PairBatch, PairBatches
from trlm_retrieval.training.recipe import Options, Recipe, evenly_spread
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.tokenizer import end_id
from trlm_retrieval.training.trained_decoder import TrainedDecoder

_MEASURED_PAIRS = 128


class QueryLikelihood(Objective[PairBatch]):
    """Negative log-likelihood of queries given their passages, in nats per query token.

    The end token after the query joins it with a small weight, in nats a pair.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, {"loss": 1.0, "end": END_WEIGHT})
        self._log_probs = TokenLogProbs(model)

    def forward(self, batch: PairBatch) -> dict[str, torch.Tensor]:
        found = self._log_probs.of(batch)
        ends = batch.ends.to(found.device)
        return {"loss": -found[~ends].sum(), "end": -found[ends].sum()}


def finetune(
    base: str | Path,
    files: Sequence[PairFile],
    out: Path,
    options: Options,
    *,
    direction: str | None = None,
    adapter_rank: int | None = None,
    max_passage_tokens: int | None = 384,
    batch_tokens: int = 8192,
    device_tokens: int = 4096,
) -> Run:
    """Train a decoder on pairs; the folder ``out`` then holds it, or its adapter, under ``model``.

    To continue a killed run, call it again with the same arguments.

    :param base: name, folder or hub id of the model to start from.
    :param files: pair files; the hundredth part that :class:`Section` holds out is measured on.
    :param direction: ``ba`` or ``fo``; by default the model's own.
    :param adapter_rank: train a LoRA adapter of this rank instead of the whole model.
    :param batch_tokens: tokens in a step over all processes; ``device_tokens`` in one pass.
    :raises ModelError: if the model does not read in the direction's order.
    :raises RunError: if ``out`` holds another run.
    """
    pairs, held_out = read_both_halves(files)
    decoder = TrainedDecoder(base, options, adapter_rank)
    template = decoder.scorer().template(direction)
    batches = max(1, batch_tokens // device_tokens)

    def prepare() -> Recipe:
        decoder.add_adapter()
        source = PairBatches(
            EncodedPairs(pairs, decoder.encoder(), template, max_passage_tokens),
            end_id(decoder.tokenizer),
            device_tokens,
            options.seed,
        )
        sample = evenly_spread(held_out, _MEASURED_PAIRS)

        def measure() -> dict[str, float]:
            scorer = decoder.scorer(device_tokens)
            found = check(scorer, sample, template.name, max_passage_tokens=max_passage_tokens)
            return found.figures

        objective = QueryLikelihood(decoder.model)
        return Recipe(objective, source, batches, measure, decoder.save)

    settings = {
        "base": base,
        "direction": template.name,
        "adapter_rank": adapter_rank,
        "data": list(files),
        "pairs": len(pairs),
        "max_passage_tokens": max_passage_tokens,
        "batch_tokens": batches * device_tokens,
        "device_tokens": device_tokens,
    }
    return train("fine-tuning", out, settings, options, prepare)
