"""What every scorer of (query, passage) pairs shares, whoever computes the log-probabilities.

A :class:`PairScorer` encodes pairs, asks :meth:`~PairScorer.log_probs` for what each distinct one
is worth, and puts the answers into :class:`~trlm_retrieval.lm.likelihood.Likelihood` objects. A
:class:`~trlm_retrieval.lm.model.TimeReversedLM` computes them here, a
:class:`~trlm_retrieval.lm.remote.RemoteLM` asks a server.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.encoding import EncodedPair, EncoderFrame, PairEncoder, bos_start
from trlm_retrieval.lm.likelihood import Likelihood, Progress
from trlm_retrieval.lm.template import DIRECTIONS, Template, resolve_direction
from trlm_retrieval.lm.undertrained import MANY
from trlm_retrieval.models.calibration import Calibration
from trlm_retrieval.models.loading import Orders

logger = logging.getLogger(__name__)

Direction = Literal["ba", "fo", "forward"] | Template


class PairScorer(ABC):
    """Scores a query given a passage, with log-probabilities from anywhere.

    :param tokenizer: the model's fast tokenizer.
    :param order: the order in which the model was trained to read tokens: ``forward``, ``reverse``
        (TRLM-Ba) or ``both`` (TRLM-FoBa).
    :param start_tokens: the token that opens a sequence, for each order; by default the
        tokenizer's BOS token, or its EOS token where it has none.
    :param max_context: longest sequence the model takes, in tokens.
    :param undertrained: the under-trained tokens; texts full of them are warned of.
    :param directions: the templates that the model is given by name.
    :param frame: what stands around a text that an encoder reads; None for a decoder.
    :raises ModelError: if the tokenizer is not a fast one, or has no token to start with.
    """

    first_stage_weight: float | None = None
    """What suits the model where its ranking is combined with that of a first stage, if known."""
    calibration: Calibration | None = None
    """How the gains of its :attr:`default_template` are read as probabilities, if known."""
    fingerprint: str
    """Tells the model from others, so that no other's passage states are taken for its own."""

    def __init__(
        self,
        tokenizer: Any,
        order: Orders,
        start_tokens: Mapping[Any, str] | None,
        max_context: int,
        undertrained: frozenset[int] = frozenset(),
        directions: dict[str, Template] = DIRECTIONS,
        frame: EncoderFrame | None = None,
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{type(tokenizer).__name__} is not a fast tokenizer; load the model with a "
                "tokenizer.json"
            )
        if order not in ("forward", "reverse", "both"):
            raise ValueError(f"order must be 'forward', 'reverse' or 'both', not {order!r}")
        self.tokenizer = tokenizer
        self.order = order
        self.start_tokens: dict[Any, str] = dict(start_tokens or bos_start(tokenizer))
        self.directions = directions
        self.max_context = max_context
        self.encoder = PairEncoder(tokenizer, self._start_ids(), max_context, undertrained, frame)

    @property
    def default_direction(self) -> Literal["ba", "fo"]:
        """``ba`` for a model that reads reversed tokens (FoBa included), else ``fo``."""
        return "fo" if self.order == "forward" else "ba"

    @property
    def default_template(self) -> Template:
        """What :meth:`score` uses unless told otherwise."""
        return self.directions[self.default_direction]

    def template(self, direction: "Direction | str | None" = None) -> Template:
        """The template of a direction, checked against the model's reading order.

        :param direction: by default :attr:`default_template`.

        :raises ModelError: if the model does not read tokens in the order the direction needs.
        """
        if not direction:
            template = self.default_template
        elif isinstance(direction, str) and direction in self.directions:
            template = self.directions[direction]
        else:
            template = resolve_direction(direction)
        if self.order not in ("both", template.order):
            remedy = (
                "use direction='ba', or load a forward model"
                if self.order == "reverse"
                else "use direction='fo', or load a model trained on reversed tokens "
                "(order='reverse' if this one was)"
            )
            raise ModelError(
                f"direction {template.name!r} reads tokens in {template.order} order, but the "
                f"model reads them in {self.order} order: {remedy}"
            )
        if self.encoder.frame is not None and not template.scores_query:
            raise ModelError(
                f"direction {template.name!r} scores the passage, and an encoder-decoder reads it: "
                f"use direction={self.default_direction!r}, or a decoder"
            )
        if self.encoder.frame is not None and template.soft_tokens:
            raise ModelError("soft prompts are for decoders: this is an encoder-decoder")
        return template

    def encode(
        self,
        pairs: Sequence[tuple[str, str]],
        direction: "Direction | str | None" = None,
        max_passage_tokens: int | None = None,
    ) -> list[EncodedPair]:
        """Token ids of (query, passage) pairs as the model reads them.

        :raises ModelError: if the model does not fit the direction.
        :raises ValueError: if a query leaves no room for a passage.
        """
        return self.encoder.encode(pairs, self.template(direction), max_passage_tokens)

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        direction: "Direction | str | None" = None,
        *,
        prior: bool = False,
        max_passage_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> list[Likelihood]:
        """Likelihoods of (query, passage) pairs, in input order.

        :param direction: ``ba`` or ``fo`` score the query given the passage, ``forward`` scores
            the passage given the query; a :class:`Template` does as it says. By default
            :attr:`default_template`.
        :param prior: also score each target with nothing in the context, for gains.
        :param max_passage_tokens: cut passages to this many tokens; by default only the model's
            context limits them. The beginning is kept, and what is cut is counted.
        :param progress: called with the number of pairs just finished.
        :raises ModelError: if the model does not fit the direction.
        :raises ValueError: if a query leaves no room for a passage.
        """
        encoded = self.encode(pairs, direction, max_passage_tokens)
        return self.score_encoded(encoded, direction, prior=prior, progress=progress)

    def score_encoded(
        self,
        encoded: Sequence[EncodedPair],
        direction: "Direction | str | None" = None,
        *,
        prior: bool = False,
        progress: Progress | None = None,
    ) -> list[Likelihood]:
        """As :meth:`score`, for pairs that :meth:`encode` encoded with the same direction."""
        template = self.template(direction)
        self._warn(encoded)
        unique = list(dict.fromkeys((pair.context, pair.target) for pair in encoded))
        found = self.log_probs(unique, progress)
        if progress and len(unique) < len(encoded):
            progress(len(encoded) - len(unique))
        by_pair = dict(zip(unique, found, strict=True))
        priors = self._priors([pair.target for pair in encoded], template) if prior else None
        return [
            self._likelihood(
                pair,
                by_pair[pair.context, pair.target],
                priors[pair.target] if priors is not None else None,
                template,
            )
            for pair in encoded
        ]

    @abstractmethod
    def log_probs(
        self,
        sequences: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        progress: Progress | None = None,
    ) -> list[np.ndarray]:
        """Log-probabilities of each target token after its context, in nats.

        What :meth:`score` rests on.

        :param sequences: (context, target) token ids, contexts not empty, in the model's reading
            order.
        :returns: one float32 array of shape (target tokens,) for each, in input order.
        """

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """Display text of each token, in natural order; joined they give the text.

        Bytes of a character that spans several tokens are shown with its last one.
        """
        pieces, shown = [], ""
        for end in range(1, len(token_ids) + 1):
            text = self.tokenizer.decode(list(token_ids[:end]), clean_up_tokenization_spaces=False)
            complete = not text.endswith("\ufffd") or end == len(token_ids)
            pieces.append(text[len(shown) :] if complete else "")
            shown = text if complete else shown
        return pieces

    def _warn(self, encoded: Sequence[EncodedPair]) -> None:
        """Tell how many pairs are full of under-trained tokens, if any are."""
        full = sum(pair.undertrained >= MANY for pair in encoded)
        if full:
            logger.warning(
                "%d of %d (query, passage) pairs hold %.0f %% or more under-trained tokens, in the "
                "query or in the passage: their likelihoods mean little",
                full,
                len(encoded),
                100 * MANY,
            )

    def _likelihood(
        self,
        pair: EncodedPair,
        log_probs: np.ndarray,
        prior: np.ndarray | None,
        template: Template,
    ) -> Likelihood:
        step = -1 if template.order == "reverse" else 1
        return Likelihood(
            pair.target[::step],
            log_probs[::step],
            pair.cut_tokens,
            None if prior is None else prior[::step],
        )

    def _priors(
        self, targets: Sequence[tuple[int, ...]], template: Template
    ) -> dict[tuple[int, ...], np.ndarray]:
        distinct = list(dict.fromkeys(targets))
        context = self.encoder.prior_context(template)
        found = self.log_probs([(context, target) for target in distinct])
        return dict(zip(distinct, found, strict=True))

    def _start_ids(self) -> dict[Any, int]:
        vocabulary = self.tokenizer.get_vocab()
        missing = [token for token in self.start_tokens.values() if token not in vocabulary]
        if missing:
            raise ModelError(
                f"start token {missing[0]!r} is not in the tokenizer's vocabulary; name one that "
                "is in trlm_config.json"
            )
        return {order: vocabulary[token] for order, token in self.start_tokens.items()}
