"""A teacher's scores for groups: how well a cross-encoder thinks each passage answers each query.

A cross-encoder reads query and passage together. That is slow where a user waits, and cheap enough
to be done once for the pairs that a student learns from. Its scores also tell which hard negatives
answer the query after all.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.models.pair_classifier import load_pair_classifier, pair_logits
from trlm_retrieval.training.groups import Group


class Teacher:
    """A sequence classification model with one label, as cross-encoders have.

    :param model: a Hugging Face model for sequence classification, with its tokenizer.
    :param max_tokens: query and passage together are cut to this many.
    :raises ModelError: if the model does not give one score.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 160) -> None:
        if model.config.num_labels != 1:
            raise ModelError(
                f"a teacher gives one score, and this model gives {model.config.num_labels}: take "
                "a cross-encoder for ranking"
            )
        self._model, self._tokenizer, self._max_tokens = model.eval(), tokenizer, max_tokens

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, max_tokens: int = 160, device: torch.device | None = None
    ) -> "Teacher":
        """Load a cross-encoder.

        :param name: a name of `trlm models list`, a folder or a hub id.
        :raises ModelError: if it is not there, or no cross-encoder.
        """
        model, tokenizer = load_pair_classifier(name, "cross-encoder", device)
        return cls(model, tokenizer, max_tokens)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """The model's scores (logits), float32, shape (pairs,)."""
        return pair_logits(self._model, self._tokenizer, pairs, self._max_tokens)[:, 0]


def label_groups(
    groups: Sequence[Group],
    teacher: Teacher,
    file: Path,
    *,
    others: int = 3,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Score the groups in order and add a line for each to ``file``. A stopped call is continued.

    The first query of a group, whose hard negatives the others are, is scored with all passages.
    Each other query is scored with its own passage and with those that share most of its words.

    :param others: with how many of the other passages.
    :param progress: called with the number of groups that are done already, then 1 after each.
    :raises DataError: if the file holds labels of other groups.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _drop_half_line(file)
    done = len(_read(file, groups)) if file.is_file() else 0
    progress(done)
    with file.open("a", encoding="utf-8") as lines:
        for group in groups[done:]:
            chosen = _chosen(group, others)
            found = teacher.scores([(group.queries[q], group.passages[p]) for q, p in chosen])
            labels: list[list[float | None]] = [[None] * len(group) for _ in range(len(group))]
            for (q, p), score in zip(chosen, found.tolist(), strict=True):
                labels[q][p] = round(score, 3)
            lines.write(json.dumps({"key": group.key, "scores": labels}) + "\n")
            lines.flush()
            progress(1)


def _drop_half_line(file: Path) -> None:
    """Cut off what a killed run left of a line."""
    if file.is_file():
        with file.open("r+b") as lines:
            lines.truncate(lines.read().rfind(b"\n") + 1)


def read_labels(file: Path, groups: Sequence[Group]) -> list[np.ndarray]:
    """Scores of the first groups, each of shape (queries, passages), NaN where there is none.

    :raises DataError: if they are of other groups.
    """
    found = [np.array(labels, np.float32) for labels in _read(file, groups)]
    for number, (labels, group) in enumerate(zip(found, groups, strict=False), start=1):
        if labels.shape != (len(group), len(group)):
            raise DataError(f"{file}, line {number}: not a score for each query and passage")
    return found


def _read(file: Path, groups: Sequence[Group]) -> list[list[list[float | None]]]:
    found = []
    for number, row in read_json_lines(file):
        if number > len(groups) or row.get("key") != groups[number - 1].key:
            raise DataError(
                f"{file}, line {number}: labels of another file of groups; give the file that was "
                "labelled, or make new labels with `trlm train label`"
            )
        found.append(row["scores"])
    return found


def _chosen(group: Group, others: int) -> list[tuple[int, int]]:
    """Which (query, passage) numbers of a group are scored."""
    size = len(group)
    bags = [set(passage.lower().split()) for passage in group.passages]
    chosen = [(0, p) for p in range(size)]
    for q in range(1, size):
        own = set(group.queries[q].lower().split()) | bags[q]
        near = sorted(
            (p for p in range(size) if p != q), key=lambda p: -len(own & bags[p]) / len(bags[p])
        )
        chosen += [(q, p) for p in [q, *near[:others]]]
    return chosen
