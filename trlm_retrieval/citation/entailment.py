"""What an NLI model says of a sentence and a quote: entailed, contradicted, or neither.

NLI (natural language inference) models read a premise and a claim together. A likelihood tells
which source a sentence is about; such a model tells whether the source says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.hub import Hub
from trlm_retrieval.models.pair_classifier import load_pair_classifier, pair_logits
from trlm_retrieval.text.normalise import normalise
from trlm_retrieval.text.tokens import count_tokens, leading_tokens

Label = Literal["entailment", "neutral", "contradiction"]

_MAX_TOKENS = 512  # what such models were trained on


class Verdict(NamedTuple):
    """What the model says of one pair.

    :ivar probability: of the label, 0 to 1, as the model gives it.
    :ivar cut_characters: characters at the end of premise and claim that were not read.
    """

    label: Label
    probability: float
    cut_characters: int


class EntailmentModel:
    """A Hugging Face sequence classification model whose labels name entailment and contradiction.

    :param model: the model; its ``config.id2label`` may have any case and order.
    :param tokenizer: its fast tokenizer.
    :raises ModelError: if the labels do not name entailment and contradiction, once each.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        names = [str(model.config.id2label[n]) for n in range(model.config.num_labels)]
        self._labels = [_label(name) for name in names]
        if any(self._labels.count(label) != 1 for label in ("entailment", "contradiction")):
            raise ModelError(
                "this is no NLI model: one of its labels must be entailment and one contradiction, "
                f"but they are {', '.join(names)}"
            )
        self._model, self._tokenizer = model, tokenizer
        positions = getattr(model.config, "max_position_embeddings", _MAX_TOKENS)
        self._limit = min(_MAX_TOKENS, positions, tokenizer.model_max_length)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, device: torch.device | None = None, *, token: str | None = None
    ) -> "EntailmentModel":
        """Load a model.

        :param name: a folder or a hub id.
        :param token: key of a model hub, for models that are not open to everybody.
        :raises ModelError: if it is not there, cannot be read, or is no NLI model.
        """
        return cls(*load_pair_classifier(name, "NLI model", device, Hub(token)))

    def verdicts(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """What the model says of (premise, claim) pairs.

        A claim is read to half of what the model reads, a premise to what is left.
        """
        read, cut = [], []
        special = self._tokenizer.num_special_tokens_to_add(pair=True)
        for given in pairs:
            premise, claim = map(normalise, given)
            claim, claim_cut = leading_tokens(self._tokenizer, claim, self._limit // 2)
            [used] = count_tokens(self._tokenizer, [claim])
            left = max(1, self._limit - special - used)
            premise, premise_cut = leading_tokens(self._tokenizer, premise, left)
            read.append((premise, claim))
            cut.append(premise_cut + claim_cut)
        logits = pair_logits(self._model, self._tokenizer, read, self._limit)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [
            Verdict(self._labels[n], float(share[n]), left_out)
            for n, share, left_out in zip(best, shares, cut, strict=True)
        ]


def contradictions(verdicts: Mapping[int, Verdict]) -> list[str]:
    """The contradictions among verdicts on sources by number, in words."""
    return [
        f"the NLI model reads a contradiction of [{number}] ({verdict.probability:.2f})"
        for number, verdict in verdicts.items()
        if verdict.label == "contradiction"
    ]


def _label(name: str) -> Label:
    plain = name.strip().lower()
    if plain.startswith("entail"):
        return "entailment"
    return "contradiction" if plain.startswith("contradict") else "neutral"
