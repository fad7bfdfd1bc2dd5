"""Fine-tuning an encoder-decoder on groups of near neighbours, with a teacher where there is one.

Each query of a group meets all passages of the group, and each passage is encoded once. With all
passages equally likely beforehand, the probability that query q belongs to passage d is
P(q|d) / Σ P(q|d') over the group's passages d'. Three terms are learned together: the likelihood of
each query given its own passage, the cross-entropy of its own passage among the group's, and the
divergence of these probabilities from the teacher's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.pointer import PointerModel, padded_targets
from trlm_retrieval.models.loading import save_settings
from trlm_retrieval.training.groups import Group
from trlm_retrieval.training.loop import Pace, choose_precision, train
from trlm_retrieval.training.objective import END_WEIGHT, Batch, Objective
from trlm_retrieval.training.reporting import Reporter
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.schedule import Schedule
from trlm_retrieval.training.workers import Workers

_CUTS = (64, 96, 96, 128, 160)  # passage lengths that a batch is cut to, in tokens
_KEYWORDS_SHARE = 0.1  # of queries that lose their function words
_MOST_QUERY_TOKENS = 24
TEACHER_TEMPERATURE = 2.0

# Words that a keyword query leaves out.
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "about",
        "an",
        "and",
        "are",
        "be",
        "by",
        "can",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "there",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "you",
        "your",
        "?",
    ]
)


@dataclass(frozen=True)
class GroupBatch(Batch):
    """One group. Passages are rows; queries are read and predicted as targets.

    :ivar read, predicted: what the decoder reads and predicts, shape (queries, tokens); the last
        token predicted of each query is its end, and -1 is padding.
    :ivar own: which passages answer which query, shape (queries, passages), bool.
    :ivar labels: the teacher's scores, shape (queries, passages), NaN where there is none.
    """

    read: torch.Tensor
    predicted: torch.Tensor
    own: torch.Tensor
    labels: torch.Tensor


class GroupBatches:
    """Endless batches of a group each; every group once before any comes again.

    :param labels: the teacher's scores of each group; None where a group has none.
    :param start: token that opens a target, and ``end`` that closes one.
    :param reverse: whether queries are read last to first.
    :param varied: cut passages at various lengths and drop function words of some queries.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        labels: Sequence[np.ndarray | None],
        encoder: PairEncoder,
        start: int,
        end: int,
        reverse: bool,
        seed: int,
        varied: bool = True,
    ) -> None:
        self._groups, self._labels, self._seed, self._varied = groups, labels, seed, varied
        self._start, self._end, self._step = start, end, -1 if reverse else 1
        # Those that the encoder reads a passage between.
        self._open, self._close = encoder.start_ids["forward"], encoder.start_ids["reverse"]
        self._passages = [_arrays(encoder, group.passages) for group in groups]
        self._queries = [_arrays(encoder, group.queries) for group in groups]
        self._keywords = [
            _arrays(encoder, [_keywords(query) for query in group.queries]) for group in groups
        ]

    def __len__(self) -> int:
        return len(self._groups)

    def batch(self, index: int) -> GroupBatch:
        epoch, place = divmod(index, len(self._groups))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._groups))
        number = int(order[place])
        group, draw = self._groups[number], np.random.default_rng([self._seed, 1, index])
        cut = int(draw.choice(_CUTS)) if self._varied else 128
        rows = [
            [self._open, *passage[: cut - 2].tolist(), self._close]
            for passage in self._passages[number]
        ]
        queries = [
            self._keywords[number][n]
            if self._varied and draw.random() < _KEYWORDS_SHARE
            else self._queries[number][n]
            for n in range(len(group))
        ]
        targets = [
            [*query[:_MOST_QUERY_TOKENS][:: self._step].tolist(), self._end] for query in queries
        ]
        read, predicted = padded_targets(targets, self._start)
        own = torch.eye(len(group), dtype=torch.bool)
        for q, p in group.also:
            own[q, p] = True
        labels = self._labels[number]
        if labels is None:
            labels = np.full((len(group), len(group)), np.nan, np.float32)
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for row, (line, seen) in enumerate(zip(ids, mask, strict=True)):
            line[: len(rows[row])] = torch.tensor(rows[row])
            seen[: len(rows[row])] = 1
        labelled = torch.from_numpy(labels)
        counts = {
            "loss": sum(len(target) - 1 for target in targets),
            "end": len(group),
            "contrast": len(group),
            "teacher": int(((~labelled.isnan()).sum(1) > 1).sum()),
        }
        return GroupBatch(
            {"input_ids": ids, "attention_mask": mask},
            torch.zeros(0),
            torch.zeros(0),
            counts,
            read,
            predicted,
            own,
            labelled,
        )


def _arrays(encoder: PairEncoder, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.array(ids, np.int32) for ids in encoder.encode_texts(list(texts))]


def _keywords(query: str) -> str:
    kept = [word for word in query.split() if word.lower().strip("?,.") not in _FUNCTION_WORDS]
    return " ".join(kept).rstrip("?") or query


class GroupLikelihood(Objective):
    """Nats per query token, nats a query for its end, for the contrast and for the teacher.

    :param sharpness: what the log-likelihoods of the passages are multiplied by where they are
        compared with the teacher's scores.
    """

    def __init__(
        self, model: PointerModel, contrast: float, teacher: float, sharpness: float = 1.0
    ) -> None:
        weights = {"loss": 1.0, "end": END_WEIGHT, "contrast": contrast, "teacher": teacher}
        super().__init__(model, {name: weight for name, weight in weights.items() if weight})
        self.sharpness = sharpness

    def sums(self, batch: GroupBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-likelihoods of queries and of their ends, each of shape (queries, passages)."""
        device = self.model.device
        passages = self.model.encode(**batch.inputs_on(device))
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

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        assert isinstance(batch, GroupBatch)
        sums, ends = self.sums(batch)
        own, labels = batch.own.to(sums.device), batch.labels.to(sums.device)
        alone = torch.eye(len(own), dtype=torch.bool, device=sums.device)
        terms = {"loss": -sums.diagonal().sum(), "end": -ends.diagonal().sum()}
        if "contrast" in self.weights:
            # Other right passages are no candidates.
            rivals = sums.masked_fill(own & ~alone, -torch.inf)
            terms["contrast"] = -rivals.log_softmax(1).diagonal().sum()
        if "teacher" in self.weights:
            terms["teacher"] = divergence(sums, labels, self.sharpness)
        return terms


def divergence(sums: torch.Tensor, labels: torch.Tensor, sharpness: float) -> torch.Tensor:
    """Kullback-Leibler divergence from the teacher, over the passages that it scored, in nats."""
    scored = ~labels.isnan()
    rows = scored.sum(1) > 1
    sums, labels, scored = sums[rows], labels[rows], scored[rows]
    right = (labels / TEACHER_TEMPERATURE).masked_fill(~scored, -torch.inf).log_softmax(1)
    found = (sums * sharpness).masked_fill(~scored, -torch.inf).log_softmax(1)
    difference = (right - found).masked_fill(~scored, 0.0)
    return (right.exp() * difference).sum()


def fit_sharpness(objective: GroupLikelihood, batches: Sequence[GroupBatch]) -> float:
    """The sharpness at which the model's probabilities are nearest to the teacher's."""
    objective.model.eval()
    with torch.no_grad():
        found = [(objective.sums(batch)[0], batch.labels) for batch in batches]
    choices = np.geomspace(0.05, 2.0, 30)
    return float(
        min(
            choices, key=lambda s: sum(float(divergence(sums, labels, s)) for sums, labels in found)
        )
    )


def finetune_groups(
    model: PointerModel,
    tokenizer: Any,
    groups: Sequence[Group],
    labels: Sequence[np.ndarray],
    held_out: Sequence[Group],
    out: Path,
    schedule: Schedule,
    workers: Workers,
    settings: dict[str, Any],
    *,
    order: Literal["forward", "reverse"] = "reverse",
    frozen_layers: int | None = None,
    encoder_rate: float = 0.1,
    contrast: float = 1.0,
    teacher: float = 0.0,
    groups_a_step: int = 2,
    checkpoint_minutes: float = 5.0,
    seed: int = 0,
    show_progress: bool = True,
) -> Run:
    """Train an encoder-decoder; ``out`` then holds it under ``model``.

    :param labels: the teacher's scores of the first groups.
    :param frozen_layers: first layers of the encoder that stay as they are, with its embeddings;
        None leaves the whole encoder as it is.
    :param encoder_rate: the encoder's learning rate, as a share of the decoder's.
    """
    kind = choose_precision("float32", workers.device)
    run = Run(out, settings | {"schedule": vars(schedule), "seed": seed, "precision": "float32"})
    if run.finished:
        return run
    starts = {"forward": "[CLS]", "reverse": "[SEP]"}
    ids: dict[Any, int] = {o: tokenizer.convert_tokens_to_ids(t) for o, t in starts.items()}
    start, end = ids[order], ids["forward" if order == "reverse" else "reverse"]
    encoder = PairEncoder(tokenizer, ids, model.config.max_position_embeddings)
    freeze_encoder(model, frozen_layers)
    model = model.to(workers.device)
    known: list[np.ndarray | None] = [*labels, *([None] * (len(groups) - len(labels)))]
    source = GroupBatches(groups, known, encoder, start, end, order == "reverse", seed)
    objective = GroupLikelihood(model, contrast, teacher)
    objective.rates = {"encoder.": encoder_rate}
    if teacher:
        some = [n for n in range(0, len(labels), max(1, len(labels) // 40))]
        plain = GroupBatches(
            [groups[n] for n in some],
            [labels[n] for n in some],
            encoder,
            start,
            end,
            order == "reverse",
            seed,
            varied=False,
        )
        objective.sharpness = fit_sharpness(objective, [plain.batch(n) for n in range(len(some))])
        print("sharpness", objective.sharpness)
    nothing: list[np.ndarray | None] = [None] * len(held_out)
    measured = GroupBatches(
        held_out,
        nothing,
        encoder,
        start,
        end,
        order == "reverse",
        seed,
        varied=False,
    )

    def measure() -> dict[str, float]:
        nats = tokens = right = queries = 0.0
        for number in range(len(held_out)):
            batch = measured.batch(number)
            sums, _ = objective.sums(batch)
            nats -= float(sums.diagonal().sum())
            tokens += batch.counts["loss"]
            rivals = sums.masked_fill(
                batch.own & ~torch.eye(len(sums), dtype=torch.bool), -torch.inf
            )
            right += float((rivals.argmax(1) == torch.arange(len(sums))).sum())
            queries += len(sums)
        return {"held_out": nats / tokens, "prefers_true": right / queries}

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_settings(order, starts, folder)

    pace = Pace(groups_a_step, checkpoint_minutes)
    with Reporter(f"fine-tuning {out.name}", show_progress and workers.leads) as reporter:
        train(objective, source, schedule, pace, run, workers, kind, measure, save, reporter)
    return run


def freeze_encoder(model: PointerModel, layers: int | None) -> None:
    """Leave the encoder's embeddings and first layers as they are; None leaves all of it."""
    model.encoder.requires_grad_(layers is None)
    if layers is None:
        model.encoder.requires_grad_(False)
        return
    for layer in model.encoder.encoder.layer[layers:]:
        layer.requires_grad_(True)
