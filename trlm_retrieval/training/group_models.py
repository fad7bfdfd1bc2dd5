"""What groups train: an encoder-decoder of ours, or a decoder, whole or by an adapter.

Each reads in one pass what a loss compares of one group, and every passage once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertModel

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.encoding import EncoderFrame, PairEncoder
from trlm_retrieval.lm.likelihood import padded
from trlm_retrieval.lm.pointer import PointerConfig, PointerModel, new_pointer, padded_targets
from trlm_retrieval.lm.template import BARE, BARE_REVERSED, Order, Template
from trlm_retrieval.models.loading import Orders, load_pretrained, save_settings
from trlm_retrieval.models.store import resolve
from trlm_retrieval.training.group_batches import GroupBatch
from trlm_retrieval.training.objective import TokenBatch, TokenLogProbs
from trlm_retrieval.training.packed_targets import PackedTargets, owner_mask
from trlm_retrieval.training.recipe import READS, Options
from trlm_retrieval.training.tokenizer import end_id
from trlm_retrieval.training.trained_decoder import TrainedDecoder


class GroupModel(Protocol):
    """A model that learns from groups.

    :ivar model: what is trained.
    :ivar order: the orders in which it learns to read.
    :ivar templates: how pairs are written, one for each order.
    :ivar ends: the token that closes a query, for each order.
    :ivar rates: for parameters whose names begin so, their share of the learning rate.
    :ivar settings: what else determines the run.
    :ivar measured_groups: of the held-out groups, as many as are read in little time.
    """

    model: Any
    order: Orders
    templates: Sequence[Template]
    ends: dict[Order, int]
    rates: dict[str, float]
    settings: dict[str, Any]
    measured_groups: int

    def encoder(self) -> PairEncoder:
        """Writes pairs as tokens."""

    def prepare(self) -> None:
        """Make it ready to be trained."""

    def log_likelihoods(self, batch: GroupBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log P of each query given each passage, (queries, passages), and of its end, (queries,).

        What the batch does not need may be -inf. Ends are given each query's own passage.
        """

    def save(self, folder: Path) -> None:
        """Write it so that ``from_pretrained`` loads it."""


class PointerGroups:
    """An encoder-decoder of ours; see :class:`GroupModel`.

    :param frozen_encoder_layers: first layers of the encoder that stay as they are, with its
        embeddings; None leaves the whole encoder as it is.
    :param encoder_rate: the encoder's learning rate, as a share of the decoder's.
    """

    measured_groups = 64

    def __init__(
        self,
        model: PointerModel,
        tokenizer: Any,
        order: Orders,
        frozen_encoder_layers: int | None,
        encoder_rate: float,
    ) -> None:
        freeze_encoder(model, frozen_encoder_layers)
        self.model, self.order, self._tokenizer = model, order, tokenizer
        templates = {"reverse": BARE_REVERSED, "forward": BARE}
        self.templates: Sequence[Template] = [templates[name] for name in READS[order]]
        # Backwards, the tokens that stand before and behind a query change places.
        first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._starts: dict[Order, int] = {"forward": first, "reverse": last}
        self.ends: dict[Order, int] = {"forward": last, "reverse": first}
        self.settings = {
            "encoder_layers": len(model.encoder.encoder.layer),
            "decoder_layers": model.config.decoder_layers,
            "copy": model.config.copy,
            "frozen_encoder_layers": frozen_encoder_layers,
            "encoder_rate": encoder_rate,
        }
        self.rates = {"encoder.": encoder_rate}

    def encoder(self) -> PairEncoder:
        frame = EncoderFrame((self._starts["forward"],), (self._starts["reverse"],), None)
        positions = self.model.config.max_position_embeddings
        return PairEncoder(self._tokenizer, self._starts, positions, frame=frame)

    def prepare(self) -> None:
        """Nothing is to be done."""

    def log_likelihoods(self, batch: GroupBatch) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.model.device
        ids = padded([context[:-1] for context in batch.contexts])
        lengths = torch.tensor([len(context) - 1 for context in batch.contexts])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        passages = self.model.encode(ids.to(device), mask.to(device))
        read, predicted = padded_targets(batch.targets, batch.contexts[0][-1])
        rows, predicted = len(ids), predicted.to(device)
        found = self.model.target_log_probs(
            passages,
            read.to(device).expand(rows, -1, -1),
            predicted.expand(rows, -1, -1),
        )
        last = (predicted >= 0).sum(1) - 1
        is_end = torch.arange(predicted.shape[1], device=device) == last[:, None]
        return (found * ~is_end).sum(-1).T, (found * is_end).sum(-1).diagonal()

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        names: dict[str, str] = {
            name: self._tokenizer.convert_ids_to_tokens(start)
            for name, start in self._starts.items()
        }
        save_settings(self.order, names, folder)


class DecoderGroups:
    """A decoder; see :class:`GroupModel`."""

    measured_groups = 8

    def __init__(self, decoder: TrainedDecoder, order: Orders | None, rank: int | None) -> None:
        self._decoder = decoder
        self.model, self.order = decoder.model, order or decoder.order
        templates = {"reverse": "ba", "forward": "fo"}
        scorer = decoder.scorer()
        self.templates: Sequence[Template] = [
            scorer.template(templates[name]) for name in READS[self.order]
        ]
        end = end_id(decoder.tokenizer)
        self.ends: dict[Order, int] = {"forward": end, "reverse": end}
        self.settings = {"adapter_rank": rank}
        self.rates: dict[str, float] = {}

    def encoder(self) -> PairEncoder:
        return self._decoder.encoder()

    def prepare(self) -> None:
        self._decoder.add_adapter()
        self._log_probs = TokenLogProbs(self.model)

    def log_likelihoods(self, batch: GroupBatch) -> tuple[torch.Tensor, torch.Tensor]:
        rows = _PackedGroup.of(batch)
        found = self._log_probs.of(rows)
        shape, cells = batch.labels.shape, rows.cells.to(found.device)
        is_end = cells < 0
        sums = found.new_zeros(shape.numel()).index_add(0, cells[~is_end], found[~is_end])
        unread = ~batch.needed.to(found.device)
        return sums.view(shape).masked_fill(unread, -torch.inf), found[is_end]

    def save(self, folder: Path) -> None:
        self._decoder.save(folder)


@dataclass(frozen=True)
class _PackedGroup(TokenBatch):
    """A row for each passage of a group, with the queries that are compared on it.

    :ivar cells: of each prediction, query × passages + passage, or -1 for the query's end; the
        ends come in the order of the queries.
    """

    owners: torch.Tensor
    cells: torch.Tensor

    @classmethod
    def of(cls, batch: GroupBatch) -> "_PackedGroup":
        size, needed = len(batch.contexts), batch.needed
        rows, cells = [], []
        for passage, context in enumerate(batch.contexts):
            others = [q for q in range(size) if q != passage and needed[q, passage]]
            queries = [passage, *others]
            targets = [np.array(batch.targets[query][:-1]) for query in queries]
            row = PackedTargets(np.array(context), targets, batch.targets[passage][-1])
            rows.append(row)
            places = np.array(queries)[row.cells] * size + passage
            cells.append(np.where(row.cells < 0, -1, places))
        ids = padded([row.ids.tolist() for row in rows])
        columns = ids.shape[1]
        return cls(
            {
                "input_ids": ids,
                "position_ids": padded([row.positions.tolist() for row in rows]),
            },
            torch.from_numpy(
                np.concatenate([row.predict_from + n * columns for n, row in enumerate(rows)])
            ),
            torch.from_numpy(np.concatenate([row.predicted for row in rows])),
            batch.counts,
            padded([row.owners.tolist() for row in rows]),
            torch.from_numpy(np.concatenate(cells)),
        )

    def inputs_on(self, device: torch.device) -> dict[str, torch.Tensor]:
        return super().inputs_on(device) | {"attention_mask": owner_mask(self.owners.to(device))}


def begin(
    base: str | Path,
    options: Options,
    *,
    order: Orders | None = None,
    adapter_rank: int | None = None,
    encoder_layers: int | None = None,
    decoder_layers: int | None = None,
    copy: bool = True,
    frozen_encoder_layers: int | None = None,
    encoder_rate: float | None = None,
) -> GroupModel:
    """A model to train.

    :param base: an encoder like BERT, to which a new decoder is added, an encoder-decoder that was
        trained here, to continue with, or a decoder; a name, a folder or a hub id.
    :param order: by default ``reverse``, or as a decoder reads.
    :param adapter_rank: train a LoRA adapter of this rank; for decoders.
    :param encoder_layers: take this many of an encoder's first layers, by default all.
    :param decoder_layers: of an encoder's new decoder, by default 2.
    :param copy: whether an encoder's new decoder gets a copy head.
    :param frozen_encoder_layers: see :class:`PointerGroups`, as for ``encoder_rate``, which is 0.1
        by default.
    :raises ModelError: if ``base`` is another kind of model.
    :raises ValueError: if a setting is of another kind of model.
    """
    source = str(resolve(base))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        torch.manual_seed(options.seed)
        shaped = encoder_layers is not None or decoder_layers is not None or not copy
        if isinstance(config, PointerConfig):
            if shaped:
                raise ValueError(
                    f"{base} has a decoder already: leave out encoder_layers, decoder_layers and "
                    "copy"
                )
            model = load_pretrained(base, None, torch.float32).model
        elif config.model_type == "bert":
            encoder = AutoModel.from_pretrained(source, dtype=torch.float32)
            keep_layers(encoder, encoder_layers)
            width = encoder.config.hidden_size
            shape = {"decoder_heads": max(1, width // 64), "decoder_mlp": 4 * width, "copy": copy}
            model = new_pointer(encoder, decoder_layers=decoder_layers or 2, **shape)
        elif config.is_encoder_decoder:
            raise ModelError(
                f"{base} is a {config.model_type} model. Groups train a decoder, an encoder like "
                "BERT, such as minilm, or a model that groups have trained"
            )
        else:
            if shaped or frozen_encoder_layers is not None or encoder_rate is not None:
                raise ValueError(
                    f"{base} is a decoder: leave out encoder_layers, decoder_layers, copy, "
                    "frozen_encoder_layers and encoder_rate"
                )
            return DecoderGroups(TrainedDecoder(base, options, adapter_rank), order, adapter_rank)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except OSError as error:
        raise ModelError(f"{base} cannot be loaded: {error}") from error
    if adapter_rank:
        raise ValueError(f"{base} is no decoder, and adapters are for decoders: train it whole")
    model.to(options.workers.device)
    return PointerGroups(
        model,
        tokenizer,
        order or "reverse",
        frozen_encoder_layers,
        0.1 if encoder_rate is None else encoder_rate,
    )


def keep_layers(encoder: BertModel, layers: int | None) -> None:
    """Drop an encoder's last layers, so that it reads faster; None keeps all.

    :raises ValueError: if it has not as many.
    """
    stack = encoder.encoder.layer
    if layers is None:
        return
    if not 1 <= layers <= len(stack):
        raise ValueError(
            f"1 to {len(stack)} of the encoder's layers can be taken, not {layers}; by default "
            "all are"
        )
    encoder.encoder.layer = stack[:layers]
    encoder.config.num_hidden_layers = layers


def freeze_encoder(model: PointerModel, layers: int | None) -> None:
    """Leave the encoder's embeddings and first layers as they are; None leaves all of it.

    :raises ValueError: if the encoder has no layer beyond these.
    """
    stack = model.encoder.encoder.layer
    if layers is not None and not 0 <= layers < len(stack):
        raise ValueError(
            f"0 to {len(stack) - 1} of the encoder's {len(stack)} layers can be frozen beside a "
            f"trained one, not {layers}; by default the whole encoder is"
        )
    model.encoder.requires_grad_(False)
    for layer in stack[layers:] if layers is not None else ():
        layer.requires_grad_(True)
