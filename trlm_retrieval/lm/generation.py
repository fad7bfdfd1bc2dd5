"""Which question led to this text? Queries sampled from P(query | passage).

After algorithms 5 and 6 of *Time-Reversal Provides Unsupervised Feedback to LLMs* (arXiv
2412.02626): a Ba model reads the passage backwards and continues backwards, so it writes the
query's last token first; a forward model (Fo) continues after a prompt. The samples of a passage
share its state, which is read in place by all of them and never copied, and so do the scores of the
finished queries. Samples of several passages are decoded side by side.

Every draw comes from a number that only the seed, the passage and the sample's place determine, so
the queries of a passage do not depend on what else is in the batch.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from trlm_retrieval.lm.likelihood import Likelihood
from trlm_retrieval.lm.model import TimeReversedLM
from trlm_retrieval.lm.network import Continuation, Progress
from trlm_retrieval.lm.scorer import Direction
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
    *,
    direction: "Direction | str | None" = None,
    sampling: Sampling | None = None,
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
        more than a quarter of a decoder's context, or more than an encoder-decoder writes.
    """
    sampling = sampling or Sampling()
    template = generation_template(lm, direction)
    if number <= 0:
        raise ValueError(f"number must be positive, not {number}")
    if sampling.max_tokens > lm.encoder.max_query_tokens:
        raise ValueError(
            f"max_tokens must be at most {lm.encoder.max_query_tokens}, the longest query that "
            f"leaves room for a passage, not {sampling.max_tokens}"
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
    shared = lm.context_states(contexts)
    chance = [_generator(sampling.seed, context) for context in contexts]
    found: list[dict[str, bool]] = [{} for _ in contexts]
    known: list[set[str]] = [set() for _ in contexts]
    for _ in range(_ROUNDS):
        owners = [i for i, texts in enumerate(found) for _ in range(number - len(texts))]
        if not owners:
            break
        samples = [_Sample(i, chance[i].random(sampling.max_tokens)) for i in owners]
        for rows, continuation in lm.network.continuations(contexts, shared, owners):
            _sample(lm, template, [samples[row] for row in rows], sampling, continuation)
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


@torch.inference_mode()
def _sample(
    lm: TimeReversedLM,
    template: Template,
    samples: Sequence[_Sample],
    sampling: Sampling,
    contexts: Continuation,
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
