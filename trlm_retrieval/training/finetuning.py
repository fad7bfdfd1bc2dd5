"""Fine-tuning on (query, passage) pairs: only the query's tokens carry loss.

The contrastive term trains what ranking uses. With all passages equally likely beforehand, the
probability that query q belongs to passage d+ is P(q|d+) / Σ P(q|d) over the candidates d; the
term is its negative logarithm. The candidates are the passages of the batch, which holds pairs
that BM25 finds together.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.models.loading import load_pretrained, save_pretrained
from trlm_retrieval.training.adapter import add_adapter, save_adapter
from trlm_retrieval.training.check import check
from trlm_retrieval.training.corpus import PairFile, read_both_halves
from trlm_retrieval.training.groups import HardNegatives
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import END_WEIGHT, TokenObjective
from trlm_retrieval.training.pairs import EncodedPairs, PairBatch, PairBatches
from trlm_retrieval.training.recipe import Options, Recipe, evenly_spread
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.tokenizer import end_id, start_tokens

_MEASURED_PAIRS = 128


class QueryLikelihood(TokenObjective[PairBatch]):
    """Negative log-likelihood of queries given their passages, in nats per query token.

    Two terms may join it: the end token after the query, in nats a pair, and the contrast with the
    batch's other passages, in nats a pair.

    :param contrast: weight of the contrast; 0 leaves it out.
    """

    def __init__(self, model: Any, contrast: float = 0.0) -> None:
        weights = {"loss": 1.0, "end": END_WEIGHT}
        super().__init__(model, weights | ({"contrast": contrast} if contrast else {}))

    def forward(self, batch: PairBatch) -> dict[str, torch.Tensor]:
        found = self.log_probs(batch)
        rows, width = batch.repeats.shape
        cells = torch.zeros(rows * width + 1, device=found.device)
        cells = cells.index_add(0, batch.cells.to(found.device), found)
        sums = cells[:-1].view(rows, width)  # [d, k]: query d + k given passage d
        terms = {"loss": -sums[:, 0].sum(), "end": -cells[-1]}
        if "contrast" in self.weights:
            number = torch.arange(width, device=found.device)
            query = torch.arange(rows, device=found.device)[:, None]
            candidates = sums[(query - number) % rows, number]  # [q, k]: query q given d = q - k
            candidates = candidates.masked_fill(batch.repeats.to(found.device), -torch.inf)
            terms["contrast"] = -candidates.log_softmax(1)[:, 0].sum()
        return terms


def finetune(
    base: str | Path,
    files: Sequence[PairFile],
    out: Path,
    options: Options,
    *,
    direction: str | None = None,
    adapter_rank: int | None = None,
    contrast: float = 0.0,
    others: int = 7,
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
    :param contrast: weight of the contrastive term; 0 leaves it out.
    :param others: with the contrast, how many passages of other pairs a query meets.
    :param batch_tokens: tokens in a step over all processes; ``device_tokens`` in one pass.
    :raises ModelError: if the model does not read in the direction's order.
    :raises RunError: if ``out`` holds another run.
    """
    pairs, held_out = read_both_halves(files)
    # Below an adapter the model is frozen: it needs no more precision than it is computed in.
    loaded = load_pretrained(base, None, torch.float32 if adapter_rank is None else options.dtype)
    tokenizer, order = loaded.tokenizer, loaded.order
    starts = loaded.start_tokens or start_tokens(tokenizer)
    model: Any = loaded.model.to(options.workers.device)
    batches = max(1, batch_tokens // device_tokens)

    def scorer() -> TimeReversedLM:
        return TimeReversedLM(
            model, tokenizer, order=order, start_tokens=starts, token_budget=device_tokens
        )

    template = scorer().template(direction)

    def prepare() -> Recipe:
        adapted = add_adapter(model, adapter_rank, options.seed) if adapter_rank else None
        start_ids: dict[Any, int] = {
            name: tokenizer.convert_tokens_to_ids(token) for name, token in starts.items()
        }
        encoder = PairEncoder(tokenizer, start_ids, scorer().max_context)
        source = PairBatches(
            EncodedPairs(pairs, encoder, template, max_passage_tokens),
            end_id(tokenizer),
            device_tokens,
            options.seed,
            others if contrast else 0,
            HardNegatives(pairs) if contrast else None,
        )
        sample = evenly_spread(held_out, _MEASURED_PAIRS)

        def measure() -> dict[str, float]:
            found = check(scorer(), sample, template.name, max_passage_tokens=max_passage_tokens)
            return found.figures

        def save(folder: Path) -> None:
            if adapted is None:
                save_pretrained(model, tokenizer, order, starts, folder)
            else:
                save_adapter(adapted, base, order, starts, folder)

        return Recipe(QueryLikelihood(model, contrast), source, batches, measure, save)

    settings = {
        "base": base,
        "direction": template.name,
        "adapter_rank": adapter_rank,
        "contrast": contrast,
        "others": others if contrast else 0,
        "data": list(files),
        "pairs": len(pairs),
        "max_passage_tokens": max_passage_tokens,
        "batch_tokens": batches * device_tokens,
        "device_tokens": device_tokens,
    }
    return train("fine-tuning", out, settings, options, prepare)
