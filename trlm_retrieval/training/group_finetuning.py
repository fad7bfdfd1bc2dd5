"""Fine-tuning an encoder-decoder on groups of hard negatives, with a teacher where there is one.

Each query of a group meets all passages of the group, and each passage is encoded once. With all
passages equally likely beforehand, the probability that query q belongs to passage d is
P(q|d) / Σ P(q|d') over the group's passages d'. Three terms are learned together: the likelihood of
each query given its own passage; for queries that the teacher has scored, the divergence of these
probabilities from the teacher's; and for the others the contrast, the cross-entropy of the own
passage among the group's.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.pointer import PointerConfig, PointerModel, new_pointer
from trlm_retrieval.models.loading import Orders, load_pretrained, save_settings
from trlm_retrieval.models.store import resolve
from trlm_retrieval.training.group_batches import GroupBatch, GroupBatches, Reading, scored
from trlm_retrieval.training.groups import Group, read_groups
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import END_WEIGHT, Objective
from trlm_retrieval.training.recipe import Options, Recipe, evenly_spread
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.teacher import read_labels

TEACHER_TEMPERATURE = 2.0

_MEASURED_GROUPS = 64
_FITTED_GROUPS = 40  # on which the sharpness is fitted


class GroupLikelihood(Objective[GroupBatch]):
    """Nats per query token, nats a query for its end, for the contrast and for the teacher.

    :param contrast: weight of the contrast, and ``teacher`` of the divergence from the teacher; 0
        leaves a term out.
    :param encoder_rate: the encoder's learning rate, as a share of the decoder's.
    :param sharpness: what the log-likelihoods of the passages are multiplied by where they are
        compared with the teacher's scores.
    """

    def __init__(
        self,
        model: PointerModel,
        *,
        contrast: float = 1.0,
        teacher: float = 0.0,
        encoder_rate: float = 1.0,
        sharpness: float = 1.0,
    ) -> None:
        weights = {"loss": 1.0, "end": END_WEIGHT, "contrast": contrast, "teacher": teacher}
        super().__init__(
            model,
            {name: weight for name, weight in weights.items() if weight},
            {"encoder.": encoder_rate},
        )
        self.sharpness = sharpness

    def sums(self, batch: GroupBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-likelihoods of queries and of their ends, each of shape (queries, passages)."""
        device = self.model.device
        passages = self.model.encode(batch.ids.to(device), batch.mask.to(device))
        rows = len(passages.ids)
        predicted = batch.predicted.to(device)
        found = self.model.target_log_probs(
            passages,
            batch.read.to(device).expand(rows, -1, -1),
            predicted.expand(rows, -1, -1),
        )
        last = (predicted >= 0).sum(1) - 1
        is_end = torch.arange(predicted.shape[1], device=device) == last[:, None]
        return (found * ~is_end).sum(-1).T, (found * is_end).sum(-1).T

    def forward(self, batch: GroupBatch) -> dict[str, torch.Tensor]:
        sums, ends = self.sums(batch)
        labels = batch.labels.to(sums.device)
        terms = {"loss": -sums.diagonal().sum(), "end": -ends.diagonal().sum()}
        if "contrast" in self.weights:
            # What the teacher has scored, it decides.
            undecided = ~scored(labels)
            found = candidates(sums, batch).log_softmax(1).diagonal()
            terms["contrast"] = -found[undecided].sum()
        if "teacher" in self.weights:
            terms["teacher"] = divergence(sums, labels, self.sharpness)
        return terms


def candidates(sums: torch.Tensor, batch: GroupBatch) -> torch.Tensor:
    """``sums`` with -inf at passages that also answer the query: these are no candidates."""
    alone = torch.eye(len(sums), dtype=torch.bool, device=sums.device)
    return sums.masked_fill(batch.own.to(sums.device) & ~alone, -torch.inf)


def divergence(sums: torch.Tensor, labels: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher, over the passages that it scored, in nats."""
    rows = scored(labels)
    sums, labels = sums[rows], labels[rows]
    unknown = labels.isnan()
    right = (labels / TEACHER_TEMPERATURE).masked_fill(unknown, -torch.inf).log_softmax(1)
    found = (sums * sharpness).masked_fill(unknown, -torch.inf).log_softmax(1)
    difference = (right - found).masked_fill(unknown, 0.0)
    return (right.exp() * difference).sum()


def fit_sharpness(objective: GroupLikelihood, batches: Iterable[GroupBatch]) -> float:
    """The sharpness at which the model's probabilities are nearest to the teacher's."""
    objective.model.eval()
    with torch.no_grad():
        found = [
            (sums, b.labels.to(sums.device)) for b in batches for sums in objective.sums(b)[:1]
        ]

    def distance(sharpness: float) -> float:
        return sum(float(divergence(sums, labels, sharpness)) for sums, labels in found)

    return float(min(np.geomspace(0.05, 2.0, 30), key=distance))


def begin(
    base: str | Path, *, decoder_layers: int | None = None, copy: bool = True, seed: int = 0
) -> tuple[PointerModel, Any]:
    """A model to train, and its tokenizer.

    :param base: an encoder like BERT, to which a new decoder is added, or an encoder-decoder that
        was trained here, to continue with; a name, a folder or a hub id.
    :param decoder_layers: of a new decoder, by default 2.
    :param copy: whether a new decoder gets a copy head.
    :raises ModelError: if ``base`` is another kind of model.
    :raises ValueError: if an old decoder is given a new shape.
    """
    source = str(resolve(base))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        torch.manual_seed(seed)
        if isinstance(config, PointerConfig):
            if decoder_layers is not None or not copy:
                raise ValueError(f"{base} has a decoder already: leave out decoder_layers and copy")
            return load_pretrained(base, None, torch.float32).model, tokenizer
        if config.model_type == "bert":
            encoder = AutoModel.from_pretrained(source, dtype=torch.float32)
            width = encoder.config.hidden_size
            shape = {"decoder_heads": max(1, width // 64), "decoder_mlp": 4 * width, "copy": copy}
            return new_pointer(encoder, decoder_layers=decoder_layers or 2, **shape), tokenizer
    except OSError as error:
        raise ModelError(f"{base} cannot be loaded: {error}") from error
    raise ModelError(
        f"{base} is a {config.model_type} model. Groups train an encoder-decoder: give an encoder "
        "like BERT, such as minilm, or a model that groups have trained. Other models learn from "
        "pairs"
    )


def finetune_groups(
    base: str | Path,
    file: Path,
    out: Path,
    options: Options,
    *,
    labels: Path | None = None,
    order: Orders = "reverse",
    decoder_layers: int | None = None,
    copy: bool = True,
    frozen_encoder_layers: int | None = None,
    encoder_rate: float = 0.1,
    contrast: float = 1.0,
    teacher_weight: float = 1.0,
    groups_a_step: int = 2,
) -> Run:
    """Train an encoder-decoder; ``out`` then holds it under ``model``.

    To continue a killed run, call it again with the same arguments.

    :param base: see :func:`begin`, as for ``decoder_layers`` and ``copy``.
    :param file: groups that ``trlm train groups`` wrote; those held out are measured on.
    :param labels: the teacher's scores of these groups, as far as there are any.
    :param order: how queries are read: ``reverse`` (Ba), ``forward`` (Fo) or ``both`` (FoBa).
    :param frozen_encoder_layers: first layers of the encoder that stay as they are, with its
        embeddings; None leaves the whole encoder as it is.
    :param encoder_rate: the encoder's learning rate, as a share of the decoder's.
    :param contrast: weight of the contrast; ``teacher_weight`` that of the teacher's scores.
    :param groups_a_step: over all processes.
    :raises DataError: if there are no groups of a kind, or the labels are of others.
    :raises ValueError: for settings that do not fit each other.
    :raises RunError: if ``out`` holds another run.
    """
    learned, held_out = _both_kinds(file)
    scores = read_labels(labels, learned) if labels and teacher_weight else []
    model, tokenizer = begin(base, decoder_layers=decoder_layers, copy=copy, seed=options.seed)
    freeze_encoder(model, frozen_encoder_layers)
    torch.nn.Module.to(model, options.workers.device)

    starts = {"forward": tokenizer.cls_token, "reverse": tokenizer.sep_token}

    def prepare() -> Recipe:
        batches = _batch_maker(tokenizer, model.config.max_position_embeddings, order, options.seed)
        objective = GroupLikelihood(
            model,
            contrast=contrast,
            teacher=teacher_weight if scores else 0.0,
            encoder_rate=encoder_rate,
        )
        if scores:
            some = range(0, len(scores), max(1, len(scores) // _FITTED_GROUPS))
            plain = batches([learned[n] for n in some], [scores[n] for n in some])
            objective.sharpness = fit_sharpness(objective, map(plain.batch, range(len(some))))
        measured = batches(evenly_spread(held_out, _MEASURED_GROUPS), [])

        def save(folder: Path) -> None:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            save_settings(order, starts, folder)

        return Recipe(
            objective,
            batches(learned, scores, varied=True),
            groups_a_step,
            lambda: _measure(objective, measured),
            save,
        )

    settings = {
        "base": base,
        "order": order,
        "data": [file, labels] if labels else [file],
        "groups": len(learned),
        "labelled": len(scores),
        "decoder_layers": model.config.decoder_layers,
        "copy": model.config.copy,
        "frozen_encoder_layers": frozen_encoder_layers,
        "encoder_rate": encoder_rate,
        "contrast": contrast,
        "teacher_weight": teacher_weight if scores else 0.0,
        "groups_a_step": groups_a_step,
    }
    return train("fine-tuning", out, settings, options, prepare)


def _batch_maker(
    tokenizer: Any, positions: int, order: Orders, seed: int
) -> Callable[..., GroupBatches]:
    """Makes batches of groups and their labels, to learn from (``varied``) or to measure on."""
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    encoder = PairEncoder(tokenizer, {"forward": first, "reverse": last}, positions)
    # Backwards, the tokens that stand before and behind a query change places.
    reverse, forward = Reading(last, first, -1), Reading(first, last, 1)
    readings = {"reverse": [reverse], "forward": [forward], "both": [reverse, forward]}[order]

    def make(
        groups: Sequence[Group], labels: Sequence[np.ndarray], varied: bool = False
    ) -> GroupBatches:
        return GroupBatches(
            groups, labels, encoder, (first, last), readings, seed=seed, varied=varied
        )

    return make


def _both_kinds(file: Path) -> tuple[list[Group], list[Group]]:
    """The groups to learn and those held out."""
    groups = read_groups(file)
    learned = [group for group in groups if not group.held_out]
    held_out = [group for group in groups if group.held_out]
    if not learned or not held_out:
        kind = "held-out group" if learned else "group to learn from"
        raise DataError(f"{file}: no {kind} there; `trlm train groups` writes both kinds")
    return learned, held_out


def _measure(objective: GroupLikelihood, source: GroupBatches) -> dict[str, float]:
    """Nats per query token, and the share of queries whose own passage is the likeliest."""
    nats = tokens = right = queries = 0.0
    for number in range(len(source)):
        batch = source.batch(number)
        sums = objective.sums(batch)[0].cpu()
        nats -= float(sums.diagonal().sum())
        tokens += batch.counts["loss"]
        right += float((candidates(sums, batch).argmax(1) == torch.arange(len(sums))).sum())
        queries += len(sums)
    found = {"held_out": nats / tokens, "prefers_true": right / queries}
    if "teacher" in objective.weights:
        found["sharpness"] = objective.sharpness
    return found


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
