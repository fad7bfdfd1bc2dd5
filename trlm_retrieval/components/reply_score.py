"""Which of several replies answers a query best: what a reply's score is made of.

The score of a reply is, in nats,

    log P(query | reply) / query tokens
    + forward weight * log P(reply | query) / reply tokens

so it does not depend on the other replies. The first term asks whether the reply answers *this*
query, the second whether it reads like an answer at all.
"""

from typing import Any

from trlm_retrieval.lm.template import DIRECTIONS, Template

QUERY_GIVEN_REPLY = Template(
    "reply",
    "forward",
    "Response: {passage}\nThe instruction that this is a response to:",
    " {query}",
)
REPLY_GIVEN_QUERY = Template(
    "reply_forward", "forward", "Instruction: {query}\nResponse:", " {passage}"
)

FORWARD_WEIGHT = 0.0


def reply_template(reads_reversed: bool) -> Template:
    """How query and reply (``{passage}``) are written to score the query.

    :param reads_reversed: whether the model reads tokens last to first.
    """
    return DIRECTIONS["ba"] if reads_reversed else QUERY_GIVEN_REPLY


def reply_score(
    reverse: float,
    forward: float | None = None,
    forward_weight: float = FORWARD_WEIGHT,
) -> float:
    """The score of one reply; higher is better.

    :param reverse: log P(query | reply) in nats per query token.
    :param forward: log P(reply | query) in nats per reply token; None leaves the term out.
    """
    return reverse if forward is None else reverse + forward_weight * forward


def generator_log_prob(meta: dict[str, Any]) -> float | None:
    """Mean log-probability of a reply's tokens as its generator reported it, in nats per token.

    Reads what Haystack's OpenAI generators put under ``logprobs``: a dict with ``content``, or a
    list of such dicts from a stream. None where there is nothing of the kind.
    """
    reported = meta.get("logprobs")
    parts = reported if isinstance(reported, list) else [reported]
    tokens = [
        token["logprob"]
        for part in parts
        if isinstance(part, dict)
        for token in part.get("content") or []
        if isinstance(token, dict) and isinstance(token.get("logprob"), float | int)
    ]
    return sum(tokens) / len(tokens) if tokens else None
