"""Soft prompts: a few trained vectors in front of the query, and all of the model frozen.

They begin as the embeddings of the template's own instruction, so that training starts from what
the written words are worth. What is read before them does not depend on them: each passage is read
once, its state is kept, and every step costs the soft prompt and the queries alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import PassageStates, TimeReversedLM
from trlm_retrieval.lm.encoding import EncodedPair, PairEncoder
from trlm_retrieval.lm.packing import context_states, tail_outputs
from trlm_retrieval.lm.soft_prompt import SoftEmbedding, SoftPrompt, add_soft_tokens, base_sample
from trlm_retrieval.lm.template import Template
from trlm_retrieval.models.loading import load_pretrained
from trlm_retrieval.training.check import check
from trlm_retrieval.training.corpus import PairFile, read_both_halves
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import END_WEIGHT, Objective, TokenBatch, TokenLogProbs
from trlm_retrieval.training.recipe import Options, Recipe, evenly_spread
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.tokenizer import end_id, start_tokens

_MEASURED_PAIRS = 64


@dataclass(frozen=True)
class TailBatch(TokenBatch):
    """
    :ivar sequences: the context of each pair, up to the end of the passage, and what is read behind
        it: soft prompt and query. ``predict_from`` counts through the latter.
    :ivar ends: shape (predictions,); whether the end token after the query is predicted there.
    """

    sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ends: torch.Tensor


class TailBatches:
    """Endless batches of pairs, all of them once before any comes again.

    :param pairs: encoded without a soft prompt.
    :param soft_tokens: ids of the soft prompt.
    :param end: token that follows a query.
    :param size: pairs in a batch.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        soft_tokens: tuple[int, ...],
        end: int,
        size: int,
        seed: int,
    ) -> None:
        self._pairs, self._soft, self._end = pairs, soft_tokens, end
        self._size, self._seed = min(size, len(pairs)), seed

    def batch(self, index: int) -> TailBatch:
        epoch, place = divmod(index, len(self._pairs) // self._size)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._pairs))
        start = place * self._size
        return self.rows([self._pairs[i] for i in order[start : start + self._size]])

    def rows(self, pairs: Sequence[EncodedPair]) -> TailBatch:
        """The batch that holds just these pairs."""
        sequences = [(pair.context, (*self._soft, *pair.target, self._end)) for pair in pairs]
        tails = [torch.tensor(tail) for _, tail in sequences]
        predicted = [torch.arange(len(tail)) >= len(self._soft) for tail in tails]
        ends = torch.cat([torch.arange(len(tail)) == len(tail) - 1 for tail in tails])
        chosen = torch.cat(predicted).nonzero()[:, 0]
        tokens = torch.cat(tails)
        queries = len(chosen) - len(pairs)
        return TailBatch(
            {"input_ids": tokens[None]},
            chosen,
            tokens[chosen],
            {"loss": queries, "end": len(pairs)},
            sequences,
            ends[chosen],
        )


class SoftPromptLikelihood(Objective[TailBatch]):
    """Negative log-likelihood of queries given passage and soft prompt, in nats per query token.

    The end token after the query joins it with a small weight, in nats a pair.

    :param states: where the states of the passages are kept.
    """

    def __init__(self, model: Any, states: PassageStates, token_budget: int) -> None:
        super().__init__(model, {"loss": 1.0, "end": END_WEIGHT})
        self._log_probs = TokenLogProbs(model)
        self._states, self._token_budget = states, token_budget

    def forward(self, batch: TailBatch) -> dict[str, torch.Tensor]:
        network = self._log_probs.network
        contexts = [context for context, _ in batch.sequences]
        states = context_states(network, contexts, self._token_budget, self._states, "")
        outputs = tail_outputs(network, batch.sequences, states)
        device = outputs.device
        found = self._log_probs.chosen(
            outputs[batch.predict_from.to(device)], batch.targets.to(device)
        )
        ends = batch.ends.to(device)
        return {"loss": -found[~ends].sum(), "end": -found[ends].sum()}


def train_soft_prompt(
    base: str | Path,
    files: Sequence[PairFile],
    out: Path,
    options: Options,
    *,
    template: Template | str = "fo",
    tokens: int = 16,
    max_passage_tokens: int | None = 192,
    batch_pairs: int = 16,
    states_megabytes: int = 2048,
) -> Run:
    """Train a soft prompt on pairs; the folder ``out`` then holds it under ``model``.

    To continue a killed run, call it again with the same arguments.

    :param base: name, folder or hub id of the model that it is for; a forward one.
    :param files: pair files; the hundredth part that :class:`Section` holds out is measured on.
    :param template: whose instruction, behind the passage, it begins as and takes the place of.
    :param tokens: of the soft prompt. It begins as the last ones of the instruction; where these
        are too few, they are repeated.
    :param batch_pairs: pairs in a step over all processes.
    :param states_megabytes: memory for passage states; passages beyond it are read at each step.
    :raises ModelError: if the model does not read forwards, or its states cannot be kept.
    :raises RunError: if ``out`` holds another run.
    """
    workers = options.workers
    pairs, held_out = read_both_halves(files)
    loaded = load_pretrained(base, None, options.dtype)
    starts = loaded.start_tokens or start_tokens(loaded.tokenizer)
    model: Any = loaded.model.to(workers.device).requires_grad_(False)

    def scorer() -> TimeReversedLM:
        return TimeReversedLM(
            model, loaded.tokenizer, order=loaded.order, start_tokens=starts, states_megabytes=0
        )

    lm = scorer()
    written = lm.template(template)
    if not lm.supports_states:
        raise ModelError("this model's attention is not one whose states can be kept")

    def prepare() -> Recipe:
        sample = base_sample(model)
        before, begin = _instruction(written, lm.encoder)
        first = torch.tensor((begin * -(-tokens // len(begin)))[-tokens:], device=model.device)
        soft = Template("soft", "forward", before, written.target)
        vectors = model.get_input_embeddings()(first)
        reading = replace(soft, soft_tokens=add_soft_tokens(model, vectors))
        encoded = lm.encode(pairs, soft, max_passage_tokens)
        size = max(1, batch_pairs // workers.count)
        measured = evenly_spread(held_out, _MEASURED_PAIRS)
        states = PassageStates(states_megabytes * 1024**2)

        def measure() -> dict[str, float]:
            found = check(scorer(), measured, reading, max_passage_tokens=max_passage_tokens)
            return found.figures

        def save(folder: Path) -> None:
            embedding = model.get_input_embeddings()
            assert isinstance(embedding, SoftEmbedding)
            SoftPrompt(str(base), soft, embedding.soft.detach(), sample).save(folder)

        return Recipe(
            SoftPromptLikelihood(model, states, lm.token_budget),
            TailBatches(encoded, reading.soft_tokens, end_id(loaded.tokenizer), size, options.seed),
            workers.count,
            measure,
            save,
            measure_share=1.0,  # measuring takes as long as many steps: once, at the end
            casts=False,
        )

    settings = {
        "base": base,
        "direction": written.name,
        "template": written.context,
        "soft_tokens": tokens,
        "data": list(files),
        "pairs": len(pairs),
        "max_passage_tokens": max_passage_tokens,
        "batch_pairs": batch_pairs,
    }
    return train("soft prompt", out, settings, options, prepare)


def _instruction(template: Template, encoder: PairEncoder) -> tuple[str, list[int]]:
    """What a template writes up to the passage, and the tokens that it writes behind it.

    :raises ModelError: if it writes none there.
    """
    before, _, after = template.context.partition("{passage}")
    begin = encoder.encode_prompt(after)
    if template.order != "forward" or not template.scores_query or not begin:
        raise ModelError(
            f"template {template.name!r} has no instruction between passage and query for a soft "
            "prompt to begin with: use 'fo'"
        )
    return before + "{passage}", begin
