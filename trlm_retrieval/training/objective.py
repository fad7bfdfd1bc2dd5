"""What training minimises, and the batches it is computed on."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trlm_retrieval.lm.network import CausalNetwork

END_WEIGHT = 0.1  # of the end token after a query, learned so that generated queries end

_HEAD_ROWS = 8192  # with more positions, logits are computed again in the backward pass


class Batch(Protocol):
    """What a loss is computed on in one pass."""

    @property
    def tokens(self) -> int:
        """Tokens read, padding included."""

    @property
    def counts(self) -> dict[str, int]:
        """For each term of the loss, how many units (tokens, pairs) its sum runs over."""


BatchT = TypeVar("BatchT", bound=Batch)
BatchT_co = TypeVar("BatchT_co", bound=Batch, covariant=True)


@dataclass(frozen=True)
class TokenBatch:
    """Rows of tokens, and the places in them where the next token is to be predicted.

    :ivar inputs: what the network takes: ``input_ids`` of shape (rows, columns) and, where rows are
        no plain sequences, ``position_ids``.
    :ivar predict_from: shape (predictions,), places in the flattened rows that predict.
    :ivar targets: shape (predictions,), the tokens to be predicted there.
    :ivar counts: for each term of the loss, how many units its sum runs over.
    """

    inputs: dict[str, torch.Tensor]
    predict_from: torch.Tensor
    targets: torch.Tensor
    counts: dict[str, int]

    @property
    def tokens(self) -> int:
        """Tokens read, padding included."""
        return self.inputs["input_ids"].numel()

    def inputs_on(self, device: torch.device) -> dict[str, torch.Tensor]:
        """What the network takes, on this device."""
        return {name: values.to(device) for name, values in self.inputs.items()}


class BatchSource(Protocol[BatchT_co]):
    """An endless sequence of batches, each known from its number alone."""

    def batch(self, index: int) -> BatchT_co: ...


class Objective(torch.nn.Module, Generic[BatchT]):
    """A loss made of terms.

    :param model: what is trained.
    :param weights: the weight of each term; the loss is the weighted sum of the terms' means.
    :param rates: for parameters whose names begin so, their share of the learning rate.
    """

    def __init__(
        self, model: Any, weights: dict[str, float], rates: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        self.rates = rates or {}
        self.model = model
        self.weights = weights

    def forward(self, batch: BatchT) -> dict[str, torch.Tensor]:
        """The sum of each term over the batch, in nats."""
        raise NotImplementedError


class TokenLogProbs:
    """What a Hugging Face causal LM makes of tokens, with gradients.

    :param model: in training mode or not.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.network = CausalNetwork(model)

    def of(self, batch: TokenBatch) -> torch.Tensor:
        """Log-probability of each target, in nats, shape (predictions,)."""
        device = self.model.device
        outputs = self.network.outputs(**batch.inputs_on(device), use_cache=False).flatten(0, 1)
        outputs = outputs[batch.predict_from.to(device)]
        targets = batch.targets.to(device)
        if len(targets) <= _HEAD_ROWS or not torch.is_grad_enabled():
            parts = map(self.chosen, outputs.split(_HEAD_ROWS), targets.split(_HEAD_ROWS))
            return torch.cat(list(parts))
        return torch.cat(
            [
                checkpoint(self.chosen, rows, ids, use_reentrant=False)
                for rows, ids in zip(
                    outputs.split(_HEAD_ROWS), targets.split(_HEAD_ROWS), strict=True
                )
            ]
        )

    def chosen(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of targets, (predictions,), from the outputs that predict them."""
        return -functional.cross_entropy(self.network.logits(outputs), targets, reduction="none")
