"""From a pair of texts to what the model reads: context token ids, then target token ids.

Every use of a time-reversed model is one operation, log P(target | context). This file holds the
two decisions in front of it: how the pair is written down (a :class:`Template`, plain data) and
in which order its tokens are read (forward, or reversed).

Three templates are named for decoders, after *Time-Reversal Provides Unsupervised Feedback to LLMs*
(arXiv 2412.02626, algorithms 2 and 3):

========= ============== ===================== =============================
direction tokens read    context               target
========= ============== ===================== =============================
``ba``    last to first  passage               query
``fo``    first to last  passage, then prompt  query
``forward`` first to last query, then prompt   passage (the usual baseline)
========= ============== ===================== =============================

A FoBa model, trained in both orders, takes any of them. Encoder-decoders have templates of their
own: :data:`UPR` for Hugging Face's, :data:`BARE` and :data:`BARE_REVERSED` for ours.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["forward", "reverse"]

FIELD = re.compile(r"(\s*)\{(query|passage)\}")
"""A placeholder of a template, and the white space in front of it."""


@dataclass(frozen=True)
class Template:
    """How a (query, passage) pair is written, which half is scored, and the reading order.

    Both strings are in natural (reading) order. ``context`` is conditioned on, ``target`` is
    scored; one holds ``{query}``, the other ``{passage}``. In natural order a forward template
    reads *context, target*, a reverse one *target, context*; read backwards, the context again
    comes first. The encoder of an encoder-decoder reads its context in natural order always.

    White space directly before a placeholder is tokenised together with the text put there,
    because byte-level tokenizers join a word with the blank before it.

    :ivar soft_tokens: ids of a soft prompt, read between context and target; see
        :mod:`~trlm_retrieval.lm.soft_prompt`. What they stand for is the model's, not the
        template's, so they are not part of its ``repr``.
    :raises ValueError: if the two strings do not hold one placeholder each, of different kinds.
    """

    name: str
    order: Order
    context: str
    target: str
    soft_tokens: tuple[int, ...] = field(default=(), repr=False)
    fields: tuple[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = [
            [match.group(2) for match in FIELD.finditer(text)]
            for text in (self.context, self.target)
        ]
        if sorted(name for names in found for name in names) != ["passage", "query"] or not all(
            len(names) == 1 for names in found
        ):
            raise ValueError(
                f"template {self.name!r}: context and target must hold one placeholder each, "
                "one {query} and the other {passage}"
            )
        object.__setattr__(self, "fields", (found[0][0], found[1][0]))

    @property
    def scores_query(self) -> bool:
        """Whether the query is the scored half (false for the forward baseline)."""
        return self.fields[1] == "query"


DIRECTIONS: dict[str, Template] = {
    "ba": Template("ba", "reverse", context=" {passage}", target=" {query}"),
    "fo": Template(
        "fo",
        "forward",
        context="Passage: {passage}\nPlease write a question based on this passage.\nQuestion:",
        target=" {query}",
    ),
    "forward": Template(
        "forward",
        "forward",
        context="Question: {query}\nPlease write a passage that answers this question.\nPassage:",
        target=" {passage}",
    ),
}


UPR = Template(
    "upr",
    "forward",
    context="Passage: {passage}. Please write a question based on this passage.",
    target="{query}",
)
"""The published prompt of UPR (Sachan et al., arXiv 2204.07496), for T5 and its kin."""

BARE = Template("fo", "forward", context="{passage}", target="{query}")
BARE_REVERSED = Template("ba", "reverse", context="{passage}", target="{query}")
"""Passage and query as they are, for models that were trained to ask and need not be told."""


def resolve_direction(direction: "str | Template") -> Template:
    """Look a direction up by name; a :class:`Template` is returned as it is.

    :raises ValueError: for an unknown name.
    """
    if isinstance(direction, Template):
        return direction
    try:
        return DIRECTIONS[direction]
    except KeyError:
        raise ValueError(
            f"direction must be one of {', '.join(sorted(DIRECTIONS))} or a Template, "
            f"not {direction!r}"
        ) from None
