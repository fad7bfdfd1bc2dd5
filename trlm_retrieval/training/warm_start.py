"""A model's first guess at a query's tokens: a bag-of-tokens model, written into a Llama.

Trained from nothing, a language model learns the grammar of queries long before it looks at the
passage, and ranking lives on the passage alone. The oldest model of P(query | passage) has no
grammar to learn (Berger and Lafferty, *Information Retrieval as Statistical Translation*, SIGIR
1999): every token of a passage makes some tokens of a query likelier. Such a model reads thousands
of pairs in the time in which a Transformer reads one hundred. One attention layer can compute it,
so what it learned is where a Llama starts, whatever the order in which that will read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.likelihood import padded
from trlm_retrieval.lm.template import Order, resolve_direction
from trlm_retrieval.models.loading import Orders, save_pretrained
from trlm_retrieval.training.corpus import PairFile, read_both_halves
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import Objective, TokenBatch
from trlm_retrieval.training.pairs import EncodedPairs
from trlm_retrieval.training.presets import WARM, Preset, new_model
from trlm_retrieval.training.recipe import Options, Recipe, evenly_spread
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.tokenizer import end_id, load_tokenizer, start_tokens

_STEADY = 0.5  # part of an embedding's length that is the same for all tokens
_MEASURED_PAIRS = 512
_EPSILON = 1e-6  # of the Llama's norms


class BagOfTokens(torch.nn.Module):
    """P(query token | passage), the same for all places of the query.

    Each head pools the passage's token vectors with weights that depend on the tokens alone. The
    sum over the heads, normalised, predicts. The vectors that are read and those that predict
    stand in two separate parts of the width, so that the last token read does not predict itself.

    It begins with every token of the passage predicting itself, and so rare words do also later:
    the vector that predicts a token is the one that is read, turned into the other part of the
    width, and what is learned for the token is added to it.

    :param inputs: numbers in a token's vector; the rest of the shape's width predicts.
    """

    def __init__(self, vocabulary: int, shape: Preset, inputs: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        heads, size, outputs = shape.heads, shape.head_size, shape.width - inputs
        self.width, self.inputs = shape.width, inputs
        self.embeddings = _normal(vocabulary, inputs - 1)
        self.keys = _normal(inputs, heads, scale=0.02)
        self.turn = torch.nn.Parameter(torch.linalg.qr(torch.randn(outputs, inputs))[0].T)
        self.values = _normal(heads, inputs, size, scale=0.1 * inputs**-0.5)
        self.outputs = _normal(heads, size, outputs, scale=0.1 * (heads * size) ** -0.5)
        self.learned = torch.nn.Parameter(torch.zeros(vocabulary, outputs))
        with torch.no_grad():
            # Each head carries its part of the vectors over; the steady number is not needed there.
            for number in range(1, inputs):
                head, place = number % heads, number // heads
                self.values[head, :, place] = 0.0
                self.values[head, number, place] = 1.0
                self.outputs[head, place] = 0.5 * self.turn[number]

    def vectors(self) -> torch.Tensor:
        """Vectors of length 1 of all tokens, shape (vocabulary, inputs)."""
        learned = functional.normalize(self.embeddings, dim=-1) * (1 - _STEADY**2) ** 0.5
        return torch.cat([torch.full_like(learned[:, :1], _STEADY), learned], -1)

    def head(self) -> torch.Tensor:
        """Vectors that predict the tokens, shape (vocabulary, outputs)."""
        return self.vectors() @ self.turn + self.learned

    def forward(self, input_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats of each token after each passage, shape (rows, vocabulary).

        :param input_ids: shape (rows, columns), passages padded on the right.
        :param lengths: shape (rows,), tokens of each.
        """
        read = functional.embedding(input_ids, self.vectors())
        read = read * (1 / self.width + _EPSILON) ** -0.5
        padding = torch.arange(input_ids.shape[1], device=input_ids.device) >= lengths[:, None]
        scores = (read @ self.keys).float().masked_fill(padding[..., None], -torch.inf)
        pooled = torch.einsum("rch,rci->rhi", scores.softmax(1), read)
        found = torch.einsum("rhi,his,hso->ro", pooled, self.values, self.outputs).float()
        square = (1 + found.square().sum(-1, keepdim=True)) / self.width
        return (found * (square + _EPSILON) ** -0.5 @ self.head().T).float().log_softmax(-1)


def _normal(*shape: int, scale: float = 1.0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(*shape) * scale)


def as_llama(bag: BagOfTokens, shape: Preset, end: int, max_context: int, seed: int) -> Any:
    """A Llama whose first prediction after a passage is the bag's, for every last token.

    All layers but the first add nothing yet, and neither do the feed-forward parts.
    """
    vocabulary, inputs = bag.learned.shape[0], bag.inputs
    model: Any = new_model(shape, vocabulary, end, max_context, seed)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings, head = model.get_input_embeddings().weight, model.lm_head.weight
        embeddings.zero_()
        embeddings[:, :inputs] = bag.vectors()
        head.zero_()
        head[:, inputs:] = bag.head()
        attention = model.model.layers[0].self_attn
        size = shape.head_size
        # A query that is the same everywhere, in the numbers that rotate least with the position.
        slowest = torch.arange(shape.heads) * size + size // 2 - 1
        attention.q_proj.weight.zero_()
        steady = _STEADY * (1 / bag.width + _EPSILON) ** -0.5
        attention.q_proj.weight[slowest, 0] = size**0.5 / steady
        attention.k_proj.weight[slowest] = 0.0
        attention.k_proj.weight[slowest, :inputs] = bag.keys.T
        attention.v_proj.weight.zero_()
        attention.v_proj.weight[:, :inputs] = bag.values.transpose(1, 2).flatten(0, 1)
        attention.o_proj.weight[inputs:] = bag.outputs.flatten(0, 1).T
    return model


class _BagLikelihood(Objective[TokenBatch]):
    """Nats per query token; contrast with all other passages of the batch, in nats a pair."""

    def __init__(self, bag: BagOfTokens, contrast: float) -> None:
        super().__init__(bag, {"loss": 1.0, "contrast": contrast})

    def sums(self, batch: TokenBatch) -> torch.Tensor:
        """Log-likelihood of each query given each passage, shape (passages, queries)."""
        device = self.model.learned.device
        found = self.model(**batch.inputs_on(device))[:, batch.targets.to(device)]
        rows = len(found)
        return found.new_zeros(rows, rows).index_add(1, batch.predict_from.to(device), found)

    def forward(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        sums = self.sums(batch)
        ids = batch.inputs["input_ids"].to(sums.device)
        again = (ids[:, None] == ids).all(-1).fill_diagonal_(False)
        return {
            "loss": -sums.diagonal().sum(),
            "contrast": -sums.masked_fill(again, -torch.inf).log_softmax(0).diagonal().sum(),
        }


class _RandomBatches:
    """Endless batches of so many random pairs; every pair once before any comes again."""

    def __init__(self, pairs: EncodedPairs, rows: int, seed: int) -> None:
        self._pairs, self._rows, self._seed = pairs, min(rows, len(pairs)), seed
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def batch(self, index: int) -> TokenBatch:
        epoch, place = divmod(index, len(self._pairs) // self._rows)
        if epoch != self._epoch:
            shuffle = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, shuffle.permutation(len(self._pairs))
        chosen = self._order[place * self._rows : (place + 1) * self._rows]
        contexts = [self._pairs.contexts[pair] for pair in chosen]
        targets = [self._pairs.targets[pair] for pair in chosen]
        lengths = np.array([len(context) for context in contexts])
        return TokenBatch(
            {"input_ids": padded(contexts), "lengths": torch.from_numpy(lengths)},
            torch.from_numpy(np.repeat(np.arange(len(chosen)), [len(ids) for ids in targets])),
            torch.from_numpy(np.concatenate(targets)).long(),
            {"loss": sum(map(len, targets)), "contrast": len(chosen)},
        )


def warm_start(
    files: Sequence[PairFile],
    tokenizer_folder: Path,
    out: Path,
    options: Options,
    *,
    order: Orders = "reverse",
    shape: Preset = WARM,
    inputs: int = 272,
    contrast: float = 1.0,
    rows: int = 256,
    max_passage_tokens: int = 128,
    max_context: int = 1024,
) -> Run:
    """Train a bag-of-tokens model on pairs; ``out`` then holds the Llama that starts from it.

    :param files: pair files.
    :param tokenizer_folder: what ``trlm train tokenizer`` wrote.
    :param order: how the Llama will be trained to read; the bag has no order.
    :param inputs: numbers of the shape's width that hold what is read.
    :param contrast: weight of the contrast of each query's passage with all others of its batch.
    :param rows: pairs in a batch; a step has a batch for each process.
    :raises RunError: if ``out`` holds another run.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    starts = start_tokens(tokenizer)
    seed = options.seed

    def prepare() -> Recipe:
        pairs, held_out = read_both_halves(files)
        start_ids: dict[Order, int] = {
            "forward": tokenizer.convert_tokens_to_ids(starts["forward"]),
            "reverse": tokenizer.convert_tokens_to_ids(starts["reverse"]),
        }
        encoder, template = PairEncoder(tokenizer, start_ids, max_context), resolve_direction("ba")
        encoded, measured = (
            EncodedPairs(chosen, encoder, template, max_passage_tokens)
            for chosen in (pairs, evenly_spread(held_out, _MEASURED_PAIRS))
        )
        bag = BagOfTokens(len(tokenizer), shape, inputs, seed).to(options.workers.device)
        objective = _BagLikelihood(bag, contrast)

        def measure() -> dict[str, float]:
            batch = _RandomBatches(measured, len(measured), seed).batch(0)
            sums = objective.sums(batch)
            own = sums.diagonal()
            others = len(measured) - 1
            return {
                "held_out": -float(own.sum()) / batch.counts["loss"],
                "prefers_true": float((own > sums).sum(0).float().mean()) / others,
            }

        def save(folder: Path) -> None:
            model = as_llama(bag.cpu(), shape, end_id(tokenizer), max_context, seed)
            save_pretrained(model, tokenizer, order, starts, folder)

        source = _RandomBatches(encoded, rows, seed)
        return Recipe(objective, source, options.workers.count, measure, save)

    settings = {
        "order": order,
        "tokenizer": tokenizer_folder,
        "data": list(files),
        "shape": vars(shape),
        "inputs": inputs,
        "contrast": contrast,
        "rows": rows,
        "max_passage_tokens": max_passage_tokens,
        "max_context": max_context,
    }
    return train("warm start", out, settings, options, prepare)
