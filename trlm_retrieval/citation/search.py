"""Which sentences of a source support a claim.

Three searches, after algorithms 7 to 9 of *Time-Reversal Provides Unsupervised Feedback to LLMs*
(arXiv 2412.02626), look for the supporting sentences inside one source of N sentences. They are
generators: each yields the texts that it wants scored for its claim and is sent their scores, so
many searches run side by side and share the model's batches (:func:`search`).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trlm_retrieval.citation.support import SupportScorer

SearchName = Literal["linear", "binary", "exclusion"]

DEFAULT_SEARCH: SearchName = "linear"


@dataclass(frozen=True)
class Found:
    """What a search found: sentences ``start`` to ``stop`` (exclusive) of a source.

    :ivar scores: how every sentence of the source fares: its own score (linear), the rounds it
        stayed in (binary), by how much the source's score falls without it (exclusion).
    :ivar score: what the search went by in the end: the score of these sentences, or for
        exclusion the fall.
    :ivar calls: texts that were scored to find them.
    """

    start: int
    stop: int
    score: float
    scores: tuple[float, ...]
    calls: int = 0


Search = Generator[list[str], list[float], Found]


def linear(sentences: Sequence[str]) -> Search:
    """The sentence with the highest score. N calls."""
    scores = yield list(sentences)
    best = max(range(len(scores)), key=scores.__getitem__)
    return Found(best, best + 1, scores[best], tuple(scores))


def binary(sentences: Sequence[str]) -> Search:
    """Split in two, keep the better half, and so on down to one sentence.

    The halves share no sentence, and one half of two sentences is one: at most 2 ⌈log2 N⌉ calls
    (1 for a source of one sentence).
    """
    start, stop = 0, len(sentences)
    rounds = [0.0] * stop
    if stop == 1:
        [score] = yield list(sentences)
    while stop - start > 1:
        middle = (start + stop + 1) // 2
        first, second = yield [
            "".join(sentences[start:middle]),
            "".join(sentences[middle:stop]),
        ]
        if first >= second:
            stop, score = middle, first
        else:
            start, score = middle, second
        for kept in range(start, stop):
            rounds[kept] += 1
    return Found(start, stop, score, tuple(rounds))


def exclusion(sentences: Sequence[str]) -> Search:
    """The sentence without which the rest of the source scores lowest. N + 1 calls.

    One call is for the whole source; what is left of a source of one sentence costs none.
    """
    whole, *rests = yield [
        "".join(sentences),
        *("".join([*sentences[:i], *sentences[i + 1 :]]) for i in range(len(sentences))),
    ]
    falls = tuple(whole - rest for rest in rests)
    worst = max(range(len(falls)), key=falls.__getitem__)
    return Found(worst, worst + 1, falls[worst], falls)


SEARCHES: dict[SearchName, Callable[[Sequence[str]], Search]] = {
    "linear": linear,
    "binary": binary,
    "exclusion": exclusion,
}


def search(
    name: SearchName, tasks: Sequence[tuple[str, Sequence[str]]], scorer: SupportScorer
) -> list[Found]:
    """Run one search for each (claim, sentences of a source), all side by side.

    :param tasks: the sentences of a source, joined, are the source: white space between them
        stands in one of them.
    :returns: what was found, in input order.
    :raises ValueError: for an unknown search, or a source without sentences.
    """
    if name not in SEARCHES:
        raise ValueError(f"search must be one of {', '.join(SEARCHES)}, not {name!r}")
    if any(not sentences for _, sentences in tasks):
        raise ValueError("a source without sentences cannot be searched")
    runs = [SEARCHES[name](sentences) for _, sentences in tasks]
    wanted = {number: next(run) for number, run in enumerate(runs)}
    calls = [0] * len(tasks)
    found: dict[int, Found] = {}
    while wanted:
        pairs = [(tasks[number][0], text) for number, texts in wanted.items() for text in texts]
        scores = iter(scorer.score(pairs))
        for number, texts in list(wanted.items()):
            calls[number] += sum(bool(text.strip()) for text in texts)
            try:
                wanted[number] = runs[number].send([next(scores).score for _ in texts])
            except StopIteration as end:
                del wanted[number]
                result: Found = end.value
                found[number] = replace(result, calls=calls[number])
    return [found[number] for number in range(len(tasks))]
