"""A text that makes others likely: gradient-guided search over the tokens of a free part.

After *Universal and Transferable Adversarial Attacks on Aligned Language Models* (arXiv
2307.15043, greedy coordinate gradient). The gradient of log P(target | context) by the embeddings
of the free tokens tells which other tokens promise most; some of these exchanges are tried
exactly, and the best one stays if it is better. Only printable tokens are tried, and only
sequences that the tokenizer gives back for their own text, so that what is found is a text and not
just ids.

Two uses: words in a scoring prompt that make known queries likelier (:func:`prompt_slots`), and
words that a hostile passage adds to itself to rise for a query (:func:`passage_slot`), to know how
far that goes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from trlm_retrieval.lm import Likelihood, Template, TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.text.tokens import leading_tokens

_PASSAGE_TOKENS = 384
_WINDOW = 8  # tokens over which fluency is averaged


@dataclass(frozen=True)
class Slot:
    """Where the free tokens stand; ids in the model's reading order.

    :ivar before: read before them, the start token included.
    :ivar after: read between them and the target.
    :ivar target: what is to become likely.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What a search found.

    :ivar text: the free part, as text.
    :ivar log_likelihoods: log P(target), mean over the slots, in nats: at the start and after each
        step.
    """

    text: str
    log_likelihoods: tuple[float, ...]


def passage_slot(
    lm: TimeReversedLM,
    query: str,
    passage: str,
    template: Template,
    max_passage_tokens: int = _PASSAGE_TOKENS,
) -> Slot:
    """The place where a passage may add to itself: next to the query.

    That is the end of the passage for a forward model, its beginning for a reverse one.

    :raises ValueError: if the query is empty.
    """
    [pair] = lm.encode([(query, passage)], template, max_passage_tokens)
    if not pair.target:
        raise ValueError("query is empty: there is nothing to make likely")
    before, after = template.context.split("{passage}")
    encode = lm.encoder.encode_prompt
    reverse = template.order == "reverse"
    behind = (*(encode(before.rstrip())[::-1] if reverse else encode(after)), *template.soft_tokens)
    return Slot(pair.context[: len(pair.context) - len(behind)], behind, pair.target)


def prompt_slots(
    lm: TimeReversedLM,
    pairs: Sequence[tuple[str, str]],
    template: Template,
    max_passage_tokens: int = _PASSAGE_TOKENS,
) -> list[Slot]:
    """The place behind the passage in a prompt, for (query, passage) pairs."""
    return [passage_slot(lm, query, text, template, max_passage_tokens) for query, text in pairs]


def with_addition(passage: str, text: str, template: Template) -> str:
    """The passage with a text that was found for its :func:`passage_slot`."""
    return f"{text.strip()} {passage}" if template.order == "reverse" else passage + text


def with_words(template: Template, text: str) -> Template:
    """The template with a text that was found for its :func:`prompt_slots`."""
    reverse = template.order == "reverse"
    new = f"{text} {{passage}}" if reverse else f"{{passage}}{text}"
    context = template.context.replace(" {passage}" if reverse else "{passage}", new)
    return replace(template, name=f"{template.name} + words", context=context)


def search(
    lm: TimeReversedLM,
    slots: Sequence[Slot],
    length: int = 8,
    steps: int = 10,
    tries: int = 32,
    promising: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> Found:
    """Search a text of so many tokens that makes the targets of all slots likely.

    :param length: free tokens.
    :param steps: gradient steps; each tries some exchanges of one token.
    :param tries: exchanges that are tried in a step.
    :param promising: tokens for each place, the best by the gradient, that exchanges are drawn of.
    :param seed: of the draws.
    :param progress: called with 1 after each step.
    :raises ValueError: if there is no slot, or a number is not positive.
    """
    if not slots:
        raise ValueError("slots is empty: there is nothing to make likely")
    for name, number in (("length", length), ("steps", steps), ("tries", tries)):
        if number <= 0:
            raise ValueError(f"{name} must be positive, not {number}")
    tokens = _Tokens(lm)
    generator = random.Random(seed)
    free = tokens.ids(" the" * length)[:length]
    [best] = _evaluate(lm, slots, [free])
    history = [best]
    for _ in range(steps):
        slopes = _slopes(lm, slots, free)
        slopes[:, ~tokens.allowed] = -torch.inf
        choices = slopes.topk(min(promising, int(tokens.allowed.sum()))).indices.tolist()
        tried = {free: best}
        for _ in range(tries):
            place = generator.randrange(len(free))
            other = (*free[:place], generator.choice(choices[place]), *free[place + 1 :])
            if other not in tried and tokens.legal(other):
                tried[other] = -np.inf
        new = [other for other in tried if other != free]
        for other, value in zip(new, _evaluate(lm, slots, new), strict=True):
            tried[other] = value
        free = max(tried, key=lambda ids: tried[ids])
        best = tried[free]
        history.append(best)
        if progress:
            progress(1)
    return Found(tokens.text(free), tuple(history))


@dataclass(frozen=True)
class Hostile:
    """How far a passage rose for a query by what it added to itself.

    :ivar passage: with the addition.
    :ivar before: likelihood of the query given the passage as it was, with its prior.
    :ivar after: the same given ``passage``.
    :ivar fluency_before: of the passage as it was, see :func:`least_fluent`.
    :ivar fluency_after: of ``passage``.
    :ivar cut_characters: of the passage, which was too long to be read whole.
    """

    addition: str
    passage: str
    before: Likelihood
    after: Likelihood
    fluency_before: float
    fluency_after: float
    cut_characters: int


def strengthen(
    lm: TimeReversedLM,
    query: str,
    passage: str,
    *,
    length: int = 8,
    steps: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Hostile:
    """Let a passage rise for a query, as a hostile author would, and measure the rise.

    The passage is cut to 384 tokens first, or to half of the model's context. Likelihoods are
    those of the text, scored anew.

    :param length: tokens that are added.
    :param steps: see :func:`search`, as for ``seed`` and ``progress``.
    """
    template = lm.template()
    most = min(_PASSAGE_TOKENS, lm.max_context // 2)
    passage, cut = leading_tokens(lm.tokenizer, passage, most)
    slot = passage_slot(lm, query, passage, template)
    found = search(lm, [slot], length, steps, seed=seed, progress=progress)
    changed = with_addition(passage, found.text, template)
    before, after = lm.score([(query, passage), (query, changed)], template, prior=True)
    return Hostile(
        found.text,
        changed,
        before,
        after,
        least_fluent(lm, passage),
        least_fluent(lm, changed),
        cut,
    )


def least_fluent(lm: TimeReversedLM, text: str) -> float:
    """Mean log-probability, in nats a token, of the eight tokens in a row that are least likely."""
    ids = tuple(_Tokens.of(lm, text))
    if not ids:
        return 0.0
    order = "forward" if lm.order == "both" else lm.order
    start = lm.tokenizer.convert_tokens_to_ids(lm.start_tokens[order])
    [found] = lm.log_probs([((start,), ids if order == "forward" else ids[::-1])])
    width = min(_WINDOW, len(found))
    return float(np.convolve(found, np.full(width, 1 / width), "valid").min())


class _Tokens:
    """Which tokens, and which sequences of them, are tried."""

    def __init__(self, lm: TimeReversedLM) -> None:
        self._lm = lm
        self._backwards = lm.default_direction == "ba"
        size = lm.model.get_input_embeddings().weight.shape[0]
        special = set(lm.tokenizer.all_special_ids)
        texts = lm.tokenizer.batch_decode([[i] for i in range(len(lm.tokenizer))])
        self.allowed = torch.zeros(size, dtype=torch.bool, device=lm.decoder.device)
        good = [
            i
            for i, text in enumerate(texts)
            if i not in special and text.strip() and text.isascii() and text.isprintable()
        ]
        self.allowed[good] = True

    @staticmethod
    def of(lm: TimeReversedLM, text: str) -> list[int]:
        return lm.encoder.encode_texts([text])[0]

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids in reading order."""
        ids = self.of(self._lm, text)
        return tuple(ids[::-1] if self._backwards else ids)

    def text(self, ids: tuple[int, ...]) -> str:
        natural = list(ids[::-1] if self._backwards else ids)
        return self._lm.tokenizer.decode(natural, clean_up_tokenization_spaces=False)

    def legal(self, ids: tuple[int, ...]) -> bool:
        """Whether they are a text of their own, which begins with a blank."""
        text = self.text(ids)
        return text[:1] == " " and self.ids(text) == ids


def _slopes(lm: TimeReversedLM, slots: Sequence[Slot], free: tuple[int, ...]) -> torch.Tensor:
    """How much each token would add at each place to first order, (places, vocabulary)."""
    embeddings = lm.model.get_input_embeddings()
    device = lm.decoder.device

    def embedded(ids: Sequence[int]) -> torch.Tensor:
        return embeddings(torch.tensor(ids, device=device)).detach()

    own = embedded(free).requires_grad_()
    total = torch.zeros_like(own)
    for slot in slots:
        rows = [embedded(slot.before), own, embedded([*slot.after, *slot.target][:-1])]
        logits = lm.model(inputs_embeds=torch.cat(rows)[None], use_cache=False).logits[0]
        target = torch.tensor(slot.target, device=device)
        log_probs = logits[-len(target) :].float().log_softmax(-1)
        value = log_probs.gather(1, target[:, None]).sum()
        total += torch.autograd.grad(value, own)[0]
    return (total @ embeddings.weight.detach().T).float()


def _evaluate(
    lm: TimeReversedLM, slots: Sequence[Slot], tried: Sequence[tuple[int, ...]]
) -> list[float]:
    """Mean log-likelihood of the targets for each free part; what is read before is shared."""
    found = lm.log_probs(
        [(slot.before, (*free, *slot.after, *slot.target)) for slot in slots for free in tried]
    )
    sums = [
        float(log_probs[-len(slot.target) :].sum(dtype=np.float64))
        for log_probs, slot in zip(found, [slot for slot in slots for _ in tried], strict=True)
    ]
    return np.array(sums).reshape(len(slots), -1).mean(0).tolist()
