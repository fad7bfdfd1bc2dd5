"""A linear head on sentence embeddings: how likely it is that a text is unsafe.

Two ship, both on MiniLM: one for questions, trained by `python -m
trlm_retrieval.eval.studies.question_head`, and one for replies, trained by `python -m
trlm_retrieval.eval.studies.reply_head`.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trlm_retrieval.errors import ModelError
from trlm_retrieval.files import write_json
from trlm_retrieval.models.embedder import Vectors

FOR_QUESTIONS = Path(__file__).parent / "question_head.json"
FOR_REPLIES = Path(__file__).parent / "reply_head.json"


@dataclass(frozen=True)
class LinearHead:
    """Logistic regression on embeddings of length 1.

    :ivar embedder: the name of the embedder that it was trained on.
    :ivar weights: one number for each of the embedding's.
    :ivar trained_on: what with, in words.
    """

    embedder: str
    weights: tuple[float, ...]
    bias: float
    trained_on: str

    def logits(self, vectors: Vectors) -> np.ndarray:
        """Log odds that each text is unsafe, float64 of shape (texts,).

        :param vectors: embeddings, shape (texts, dimension).
        :raises ModelError: if the dimension is another one.
        """
        if vectors.shape[1] != len(self.weights):
            raise ModelError(
                f"the head takes embeddings of {len(self.weights)} numbers, not "
                f"{vectors.shape[1]}: use it with the embedder {self.embedder!r}"
            )
        found: np.ndarray = vectors.astype(np.float64) @ np.array(self.weights) + self.bias
        return found

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "LinearHead":
        """
        Read what :meth:`save` wrote.

        :raises ModelError: if the file is missing or something else.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            weights = tuple(float(weight) for weight in data["weights"])
            head = cls(str(data["embedder"]), weights, float(data["bias"]), data["trained_on"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"cannot read the head {path} ({error}): train one with `python -m "
                "trlm_retrieval.eval.studies.question_head` or `…reply_head`"
            ) from error
        if not np.isfinite([*head.weights, head.bias]).all():
            raise ModelError(f"the head {path} holds NaN or infinity: train it again")
        return head


def probability(logits: np.ndarray) -> np.ndarray:
    """What log odds say as a number from 0 to 1."""
    found: np.ndarray = 1 / (1 + np.exp(-logits))
    return found
