"""Fine-tuning on groups of hard negatives, with a teacher where there is one.

Each query of a group meets the passages of the group, and each passage is read once. With all
passages equally likely beforehand, the probability that query q belongs to passage d is
P(q|d) / Σ P(q|d') over the group's passages d'. Three terms are learned together: the likelihood of
each query given its own passage; for queries that the teacher has scored, the divergence of these
probabilities from the teacher's; and for the others the contrast, the cross-entropy of the own
passage among the group's.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from trlm_retrieval.errors import DataError
from trlm_retrieval.models.loading import Orders
from trlm_retrieval.training.group_batches import GroupBatch, GroupBatches, scored
from trlm_retrieval.training.group_models import GroupModel, begin
from trlm_retrieval.training.groups import Group, read_groups
from trlm_retrieval.training.loop import train
from trlm_retrieval.training.objective import END_WEIGHT, Objective
from trlm_retrieval.training.recipe import Options, Recipe, evenly_spread
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.teacher import read_labels

TEACHER_TEMPERATURE = 2.0

_FITTED_GROUPS = 24  # on which the sharpness is fitted


class GroupLikelihood(Objective[GroupBatch]):
    """Nats per query token, nats a query for its end, for the contrast and for the teacher.

    :param reader: reads groups with the model that is trained.
    :param contrast: weight of the contrast, and ``teacher`` of the divergence from the teacher; 0
        leaves a term out.
    :param sharpness: what the log-likelihoods of the passages are multiplied by where they are
        compared with the teacher's scores.
    """

    def __init__(
        self,
        reader: GroupModel,
        *,
        contrast: float = 1.0,
        teacher: float = 0.0,
        sharpness: float = 1.0,
    ) -> None:
        weights = {"loss": 1.0, "end": END_WEIGHT, "contrast": contrast, "teacher": teacher}
        super().__init__(
            reader.model,
            {name: weight for name, weight in weights.items() if weight},
            reader.rates,
        )
        self._reader = reader
        self.sharpness = sharpness

    def sums(self, batch: GroupBatch) -> torch.Tensor:
        """Log-likelihoods of queries, shape (queries, passages)."""
        return self._reader.log_likelihoods(batch)[0]

    def forward(self, batch: GroupBatch) -> dict[str, torch.Tensor]:
        sums, ends = self._reader.log_likelihoods(batch)
        labels = batch.labels.to(sums.device)
        terms = {"loss": -sums.diagonal().sum(), "end": -ends.sum()}
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
        found = [(objective.sums(b), b.labels.to(objective.model.device)) for b in batches]

    def distance(sharpness: float) -> float:
        return sum(float(divergence(sums, labels, sharpness)) for sums, labels in found)

    return float(min(np.geomspace(0.05, 2.0, 30), key=distance))


def finetune_groups(
    base: str | Path,
    file: Path,
    out: Path,
    options: Options,
    *,
    labels: Path | None = None,
    order: Orders | None = None,
    adapter_rank: int | None = None,
    encoder_layers: int | None = None,
    decoder_layers: int | None = None,
    copy: bool = True,
    frozen_encoder_layers: int | None = None,
    encoder_rate: float | None = None,
    contrast: float = 1.0,
    teacher_weight: float = 1.0,
    groups_a_step: int = 2,
) -> Run:
    """Train a model; ``out`` then holds it, or its adapter, under ``model``.

    To continue a killed run, call it again with the same arguments.

    :param base: see :func:`~trlm_retrieval.training.group_models.begin`, as for ``order``,
        ``adapter_rank``, ``encoder_layers``, ``decoder_layers``, ``copy``,
        ``frozen_encoder_layers`` and ``encoder_rate``.
    :param file: groups that ``trlm train groups`` wrote; those held out are measured on.
    :param labels: the teacher's scores of these groups, as far as there are any.
    :param contrast: weight of the contrast; ``teacher_weight`` that of the teacher's scores.
    :param groups_a_step: over all processes.
    :raises DataError: if there are no groups of a kind, or the labels are of others.
    :raises ValueError: for settings that do not fit each other.
    :raises RunError: if ``out`` holds another run.
    """
    learned, held_out = _both_kinds(file)
    scores = read_labels(labels, learned) if labels and teacher_weight else []
    reader = begin(
        base,
        options,
        order=order,
        adapter_rank=adapter_rank,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        copy=copy,
        frozen_encoder_layers=frozen_encoder_layers,
        encoder_rate=encoder_rate,
    )

    def prepare() -> Recipe:
        reader.prepare()
        encoder = reader.encoder()

        def batches(
            groups: Sequence[Group], labels: Sequence[np.ndarray], varied: bool = False
        ) -> GroupBatches:
            """To learn from (``varied``) or to measure on."""
            return GroupBatches(
                groups,
                labels,
                encoder,
                reader.templates,
                reader.ends,
                seed=options.seed,
                varied=varied,
            )

        objective = GroupLikelihood(
            reader,
            contrast=contrast,
            teacher=teacher_weight if scores else 0.0,
        )
        if scores:
            some = range(0, len(scores), max(1, len(scores) // _FITTED_GROUPS))
            plain = batches([learned[n] for n in some], [scores[n] for n in some])
            objective.sharpness = fit_sharpness(objective, map(plain.batch, range(len(some))))
        measured = batches(evenly_spread(held_out, reader.measured_groups), [])
        return Recipe(
            objective,
            batches(learned, scores, varied=True),
            groups_a_step,
            lambda: _measure(objective, measured),
            reader.save,
        )

    settings = {
        "base": base,
        "order": reader.order,
        "data": [file, labels] if labels else [file],
        "groups": len(learned),
        "labelled": len(scores),
        **reader.settings,
        "contrast": contrast,
        "teacher_weight": teacher_weight if scores else 0.0,
        "groups_a_step": groups_a_step,
    }
    return train("fine-tuning", out, settings, options, prepare)


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
        sums = objective.sums(batch).cpu()
        nats -= float(sums.diagonal().sum())
        tokens += batch.counts["loss"]
        right += float((candidates(sums, batch).argmax(1) == torch.arange(len(sums))).sum())
        queries += len(sums)
    found = {"held_out": nats / tokens, "prefers_true": right / queries}
    if "teacher" in objective.weights:
        found["sharpness"] = objective.sharpness
    return found
