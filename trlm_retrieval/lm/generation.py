"""Which question led to this text? Queries sampled from P(query | passage).

After algorithms 5 and 6 of *Time-Reversal Provides Unsupervised Feedback to LLMs* (arXiv
2412.02626): a Ba model reads the passage backwards and goes on backwards, so that it writes the
query's last token first; a forward model (Fo) goes on behind a prompt. The samples of a passage
share its state, which is read in place by all of them and never copied, and so do the scores of the
finished queries. Samples of several passages are decoded side by side.

Every draw comes from a number that only the seed, the passage and the sample's place determine, so
the queries of a passage do not depend on what else is in the batch.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from transformers import DynamicCache

from trlm_retrieval.lm.likelihood import Likelihood, Progress
from trlm_retrieval.lm.model import TimeReversedLM
from trlm_retrieval.lm.network import CausalNetwork
from trlm_retrieval.lm.packing import context_states
from trlm_retrieval.lm.scorer import Direction
from trlm_retrieval.lm.states import PassageState
from trlm_retrieval.lm.template import DIRECTIONS, Template

_LIKELIEST = 512  # tokens sorted at first, which most often hold the nucleus
_ROUNDS = 4  # attempts at filling up with distinct queries
_BUDGET_A_SAMPLE = 16  # of the model's token budget: 64 samples side by side on a CPU


QUESTION_OF_REPLY = Template(
    "question_of_reply",
    "forward",
    "Answer: {passage}\nPlease write the question that this text answers.\nQuestion:",
    " {query}",
)
"""For texts that need not hold facts, as replies."""


@dataclass(frozen=True)
class Sampling:
    """How queries are drawn.

    :ivar temperature: divides the logits; the smaller, the more alike the queries.
    :ivar top_p: only the likeliest tokens that together have this probability are drawn.
    :ivar max_tokens: a query that has not ended by then is ended there.
    :ivar seed: the same seed gives the same queries.
    :raises ValueError: if a number is out of its range.
    """

    temperature: float = 0.8
    top_p: float = 0.9
    max_tokens: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if self.max_tokens <= 0:
            raise ValueError(f"max_tokens must be positive, not {self.max_tokens}")


@dataclass(frozen=True)
class GeneratedQuery:
    """A query that was sampled for a passage.

    :ivar text: in natural order, whatever the order it was written in.
    :ivar likelihood: what :meth:`TimeReversedLM.score` gives for it.
    :ivar ended: whether the model ended it; false where it reached ``max_tokens``.
    """

    text: str
    likelihood: Likelihood
    ended: bool


def question_template(lm: TimeReversedLM) -> Template:
    """How a reply is written in front of the question that is generated from it or scored."""
    return DIRECTIONS["ba"] if lm.default_direction == "ba" else QUESTION_OF_REPLY


def generation_template(lm: TimeReversedLM, direction: "Direction | str | None") -> Template:
    """The template of a direction, checked for generation.

    :raises ModelError: if the model does not read tokens in the order the direction needs.
    :raises ValueError: if the template does not score the query, or has a prompt around it.
    """
    template = lm.template(direction)
    if template.target.strip() != "{query}":
        raise ValueError(
            f"direction {template.name!r} cannot generate: the target of its template must be the "
            "{query} alone; put all of the prompt into its context"
        )
    return template


def generate_queries(
    lm: TimeReversedLM,
    passages: Sequence[str],
    number: int,
    direction: "Direction | str | None" = None,
    sampling: Sampling | None = None,
    *,
    max_passage_tokens: int | None = None,
    progress: Progress | None = None,
) -> list[list[GeneratedQuery]]:
    """Sample distinct queries for each passage.

    A query ends at a special token, at the end of its line, or at ``max_tokens``. Queries that
    differ in case or white space only are the same. Where the model repeats itself, fewer than
    ``number`` may be found in four rounds of sampling.

    :param number: distinct queries wanted for each passage.
    :param direction: as for :meth:`TimeReversedLM.score`; not the forward baseline.
    :param max_passage_tokens: longer passages are cut at their end, and
        ``likelihood.cut_tokens`` counts the cut.
    :param progress: called with the number of passages just finished.
    :returns: for each passage its queries, likeliest first (by the sum, in nats).
    :raises ModelError: if the model does not fit the direction.
    :raises ValueError: if a passage is blank, ``number`` is not positive, or ``max_tokens`` is
        more than a quarter of the model's context.
    """
    sampling = sampling or Sampling()
    template = generation_template(lm, direction)
    if number <= 0:
        raise ValueError(f"number must be positive, not {number}")
    if sampling.max_tokens > lm.max_context // 4:
        raise ValueError(
            f"max_tokens must be at most {lm.max_context // 4}, a quarter of the model's context, "
            f"not {sampling.max_tokens}"
        )
    if blank := [i for i, passage in enumerate(passages) if not passage.strip()]:
        raise ValueError(f"passage {blank[0]} is blank: no query led to it; leave it out")
    found: dict[str, list[GeneratedQuery]] = {}
    repeats = Counter(passages)
    distinct = list(repeats)
    together = max(1, lm.token_budget // _BUDGET_A_SAMPLE // number)
    for start in range(0, len(distinct), together):
        batch = distinct[start : start + together]
        pairs = [("", passage) for passage in batch]
        contexts = [pair.context for pair in lm.encode(pairs, template, max_passage_tokens)]
        drawn = _draw(lm, template, contexts, number, sampling)
        likelihoods = iter(
            lm.score(
                [
                    (text, passage)
                    for passage, texts in zip(batch, drawn, strict=True)
                    for text in texts
                ],
                template,
                max_passage_tokens=max_passage_tokens,
            )
        )
        for passage, texts in zip(batch, drawn, strict=True):
            queries = [
                GeneratedQuery(text, next(likelihoods), ended) for text, ended in texts.items()
            ]
            found[passage] = sorted(queries, key=lambda query: -query.likelihood.sum)
        if progress:
            progress(sum(repeats[passage] for passage in batch))
    return [found[passage] for passage in passages]


def _draw(
    lm: TimeReversedLM,
    template: Template,
    contexts: Sequence[tuple[int, ...]],
    number: int,
    sampling: Sampling,
) -> list[dict[str, bool]]:
    """Distinct query texts of each context, and whether each of them ended."""
    shared = (
        context_states(lm.network, contexts, lm.token_budget, lm.states, lm.fingerprint)
        if lm.supports_states
        else None
    )
    chance = [_generator(sampling.seed, context) for context in contexts]
    found: list[dict[str, bool]] = [{} for _ in contexts]
    known: list[set[str]] = [set() for _ in contexts]
    for _ in range(_ROUNDS):
        owners = [i for i, texts in enumerate(found) for _ in range(number - len(texts))]
        if not owners:
            break
        samples = [_Sample(i, chance[i].random(sampling.max_tokens)) for i in owners]
        if shared is not None:
            _sample(lm, template, samples, sampling, _SharedContexts(lm, contexts, shared, owners))
        else:
            for owner, group in groupby(samples, key=lambda sample: sample.owner):
                own = list(group)
                copies = _CopiedContext(lm, contexts[owner], len(own))
                _sample(lm, template, own, sampling, copies)
        for sample in samples:
            same = " ".join(sample.text.casefold().split())
            if same and same not in known[sample.owner]:
                known[sample.owner].add(same)
                found[sample.owner][sample.text] = sample.ended
    return found


@dataclass
class _Sample:
    """A query in the making; ``chance`` holds the number in 0..1 that draws each token."""

    owner: int
    chance: np.ndarray
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    ended: bool = False


class _Contexts(Protocol):
    """The contexts of some rows, and what was decoded behind them so far."""

    def first(self) -> torch.Tensor:
        """Logits of each row's first token, (rows, vocabulary)."""

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token to each row; logits of the next, (rows, vocabulary)."""

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""


@torch.inference_mode()
def _sample(
    lm: TimeReversedLM,
    template: Template,
    samples: Sequence[_Sample],
    sampling: Sampling,
    contexts: _Contexts,
) -> None:
    """Draw tokens until every sample has ended."""
    ends = sorted(set(lm.tokenizer.all_special_ids))
    open_samples = list(samples)
    logits = contexts.first()
    logits[:, ends] = float("-inf")  # a query has at least one token
    for step in range(sampling.max_tokens):
        chance = torch.tensor([sample.chance[step] for sample in open_samples])
        tokens = _choose(logits, chance.to(logits), sampling)
        for sample, token in zip(open_samples, tokens.tolist(), strict=True):
            _append(sample, token, ends, lm, template)
        going = [row for row, sample in enumerate(open_samples) if not sample.ended]
        if not going or step + 1 == sampling.max_tokens:
            break
        if len(going) < len(open_samples):
            rows = torch.tensor(going, device=tokens.device)
            contexts.keep(rows)
            tokens = tokens[rows]
            open_samples = [open_samples[row] for row in going]
        logits = contexts.advance(tokens)


def _choose(logits: torch.Tensor, chance: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """One token for each row: the one at which the cumulated probability passes ``chance``.

    :param logits: (rows, vocabulary).
    :param chance: numbers in 0..1, (rows,).
    """
    logits = logits / sampling.temperature
    total = logits.logsumexp(-1, keepdim=True)
    for most in (min(_LIKELIEST, logits.shape[1]), logits.shape[1]):
        ordered, ids = logits.topk(most)
        cumulated = (ordered - total).exp().cumsum(-1)
        if (cumulated[:, -1] >= sampling.top_p).all():
            break
    # The nucleus ends with the token that takes it past top_p.
    size = (cumulated < sampling.top_p).sum(-1, keepdim=True).clamp(max=most - 1)
    drawn = chance[:, None] * cumulated.gather(1, size)
    position = torch.minimum((cumulated <= drawn).sum(-1, keepdim=True), size)
    return ids.gather(1, position)[:, 0]


def _append(
    sample: _Sample, token: int, ends: Sequence[int], lm: TimeReversedLM, template: Template
) -> None:
    """Add a token to a sample, which may end it."""
    if token in ends:
        sample.ended = True
        return
    sample.tokens.append(token)
    backwards = template.order == "reverse"
    ids = sample.tokens[::-1] if backwards else sample.tokens
    text = lm.tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()
    lines = text.splitlines() or [""]
    sample.ended = len(lines) > 1
    sample.text = lines[-1 if backwards else 0].strip()


def _generator(seed: int, context: tuple[int, ...]) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {context}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


class _SharedContexts:
    """Rows of several contexts, decoded in one pass; the states are shared by their rows.

    The network sees one long row of tokens, one for each sample, as in
    :mod:`~trlm_retrieval.lm.packing`; attention is to the row's context and to its own tokens.

    :param owners: which context each row goes on from; equal ones stand side by side.
    """

    def __init__(
        self,
        lm: TimeReversedLM,
        contexts: Sequence[tuple[int, ...]],
        states: Sequence[PassageState],
        owners: Sequence[int],
    ) -> None:
        self._network: CausalNetwork = lm.network
        self._contexts = contexts
        self._states = states
        self._owners = list(owners)
        self._own: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # (rows, heads, tokens, width)
        self._step = 0

    def first(self) -> torch.Tensor:
        last = [self._contexts[owner][-1] for owner in self._owners]
        return self.advance(torch.tensor(last, device=self._network.device))

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = [len(self._contexts[owner]) - 1 + self._step for owner in self._owners]
        device = self._network.device
        outputs = self._network.outputs(
            input_ids=tokens[None],
            position_ids=torch.tensor([positions], device=device),
            attention_mask=torch.zeros(1, 1, 1, 1, device=device),  # of four axes: unread
            use_cache=False,
            packed=self,
        )
        self._step += 1
        return self._network.logits(outputs[0])

    def keep(self, rows: torch.Tensor) -> None:
        self._owners = [self._owners[row] for row in rows.tolist()]
        self._own = {layer: (k[rows], v[rows]) for layer, (k, v) in self._own.items()}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
    ) -> torch.Tensor:
        """Attention of one layer, from (1, heads, rows, width) to (1, rows, heads, width)."""
        heads, rows, width = query.shape[1:]
        own_keys, own_values = (part[0].transpose(0, 1)[:, :, None] for part in (key, value))
        if layer in self._own:
            own_keys = torch.cat([self._own[layer][0], own_keys], 2)
            own_values = torch.cat([self._own[layer][1], own_values], 2)
        self._own[layer] = own_keys, own_values
        shared = own_keys.shape[1]  # each key is shared by a group of the query's heads
        asking = query[0].transpose(0, 1).reshape(rows, shared, heads // shared, width)
        asking = asking * (scaling or width**-0.5)
        own_scores = asking @ own_keys.transpose(2, 3)
        output = asking.new_empty(*asking.shape[:3], own_values.shape[3])
        start = 0
        for owner, group in groupby(self._owners):
            part = slice(start, start := start + len(list(group)))
            keys, values = (tensor[0] for tensor in self._states[owner].read(layer, key))
            folded = asking[part].transpose(0, 1).flatten(1, 2)  # (shared, rows × group, width)
            scores = _unfold(folded @ keys.transpose(1, 2), part)
            weights = torch.cat([scores, own_scores[part]], 3).float().softmax(3).to(asking.dtype)
            before, own = weights.split([keys.shape[1], own_keys.shape[2]], 3)
            seen = before.transpose(0, 1).flatten(1, 2) @ values
            output[part] = _unfold(seen, part) + own @ own_values[part]
        return output.reshape(1, rows, heads, -1)


def _unfold(folded: torch.Tensor, rows: slice) -> torch.Tensor:
    """From (shared, rows × group, n) to (rows, shared, group, n)."""
    shape = (folded.shape[0], rows.stop - rows.start, -1, folded.shape[2])
    return folded.view(shape).transpose(0, 1)


class _CopiedContext:
    """Rows of one context, for networks with another attention: each has a copy of its state."""

    def __init__(self, lm: TimeReversedLM, context: tuple[int, ...], rows: int) -> None:
        self._network = lm.network
        self._context = context
        self._rows = rows
        self._cache: Any = DynamicCache(config=lm.model.config)

    def first(self) -> torch.Tensor:
        context = torch.tensor([self._context], device=self._network.device)
        logits = self._read(context).expand(self._rows, -1).clone()
        self._cache.batch_repeat_interleave(self._rows)
        return logits

    def advance(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._read(tokens[:, None])

    def keep(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        outputs = self._network.model(
            input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
        )
        return outputs.logits[:, -1].float()
