"""Best of N: how well liked the answer is that a method picks out of N.

A file holds prompts, each with answers of many systems and how far an annotator preferred each to
a reference (0 to 1). For every N, a method picks from subsets of N answers, the same subsets for
all methods, and is worth the mean preference of its picks. Annotators like long answers, so this is
told with the effect of length taken out, too.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np

from trlm_retrieval.components.reply_score import REPLY_GIVEN_QUERY, reply_template
from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.text.tokens import count_tokens

from ..measures import PerQuery
from ..methods import CROSS_ENCODER, choose_methods, run_methods
from ..result import Result, summarise
from ..sampling import draw
from ..score_cache import CachedScorer, ScoreCache

SIZES = (2, 4, 8, 16)
_SUBSETS = 120  # drawn for each N where there are more

Pick = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From subsets, shape (subsets, N), of answer indices, and from what each answer is worth, shape
(answers,), to what is picked out of each subset."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, its answers, and the preference of each, shape (answers,)."""

    id: str
    query: str
    answers: tuple[str, ...]
    preferences: np.ndarray


def load_prompts(path: Path) -> list[Prompt]:
    """Prompts of a file of ``{query, answers: [{answer, preference}]}`` lines (``.xz`` too).

    :raises DataError: if the file is missing, a line is malformed, or nothing is left.
    """
    prompts = []
    for number, entry in read_json_lines(path):
        try:
            answers = tuple(str(answer["answer"]) for answer in entry["answers"])
            preferences = np.array([float(answer["preference"]) for answer in entry["answers"]])
            query = str(entry["query"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: needs query and answers, each with answer and preference"
            ) from error
        if len(answers) < min(SIZES) or not query.strip() or not np.isfinite(preferences).all():
            raise DataError(
                f"{path}, line {number}: needs a query, two answers at least, and preferences that "
                "are finite numbers"
            )
        prompts.append(Prompt(str(number), query, answers, preferences))
    if not prompts:
        raise DataError(f"{path} holds no prompt")
    return prompts


def by_score(scores: Sequence[float]) -> Pick:
    """Picks the highest score; of equal ones the first."""
    values = np.asarray(scores, dtype=np.float64)

    def pick(subsets: np.ndarray, worth: np.ndarray) -> np.ndarray:
        return _worth(subsets, values[subsets], worth)

    return pick


def _worth(subsets: np.ndarray, scores: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """What the answer of the highest score in each subset is worth, shape (subsets,)."""
    return worth[subsets[np.arange(len(subsets)), scores.argmax(axis=1)]]


def _random(prompts: Sequence[Prompt], scorer: CachedScorer) -> list[Pick]:
    """What a random pick is worth on average."""

    return [lambda subsets, worth: worth[subsets].mean(axis=1)] * len(prompts)


def _oracle(prompts: Sequence[Prompt], scorer: CachedScorer) -> list[Pick]:
    return [by_score(prompt.preferences.tolist()) for prompt in prompts]


def _length(prompts: Sequence[Prompt], scorer: CachedScorer) -> list[Pick]:
    return [by_score(count_tokens(scorer.lm.tokenizer, prompt.answers)) for prompt in prompts]


def _centroid(prompts: Sequence[Prompt], scorer: CachedScorer) -> list[Pick]:
    """The answer nearest to the mean embedding of its subset: what the others agree with."""
    texts = [answer for prompt in prompts for answer in prompt.answers]
    vectors = iter(scorer.embedder.embed(texts, scorer.show_progress))

    def pick(rows: np.ndarray, subsets: np.ndarray, worth: np.ndarray) -> np.ndarray:
        members = rows[subsets]  # (subsets, N, width)
        return _worth(subsets, np.einsum("snd,sd->sn", members, members.mean(axis=1)), worth)

    return [partial(pick, np.array([next(vectors) for _ in prompt.answers])) for prompt in prompts]


def _likelihood(
    prompts: Sequence[Prompt], scorer: CachedScorer, *, forward: bool, mean: bool = True
) -> list[Pick]:
    """log P(query | answer), or of the answer given the query; the mean is that of a token."""
    reverse = reply_template(scorer.lm.default_direction == "ba")
    pairs = [(prompt.query, answer) for prompt in prompts for answer in prompt.answers]
    found = iter(scorer.likelihoods(pairs, REPLY_GIVEN_QUERY if forward else reverse))
    picks = []
    for prompt in prompts:
        scores = [next(found) for _ in prompt.answers]
        picks.append(by_score([one.mean if mean else one.sum for one in scores]))
    return picks


def _cross_encoder(prompts: Sequence[Prompt], scorer: CachedScorer) -> list[Pick]:
    pairs = [(prompt.query, answer) for prompt in prompts for answer in prompt.answers]
    found = iter(scorer.cross_encoder_scores(pairs))
    return [by_score([next(found) for _ in prompt.answers]) for prompt in prompts]


METHODS: dict[str, Callable[[Sequence[Prompt], CachedScorer], list[Pick]]] = {
    "random": _random,
    "length": _length,
    "centroid": _centroid,
    "forward_sum": partial(_likelihood, forward=True, mean=False),
    "forward": partial(_likelihood, forward=True),
    "reverse": partial(_likelihood, forward=False),  # as TRLMAnswerRanker ships it
    CROSS_ENCODER: _cross_encoder,
    "oracle": _oracle,
}
DEFAULT_METHODS = tuple(name for name in METHODS if name != CROSS_ENCODER)


def evaluate_best_of_n(
    path: Path,
    lm: TimeReversedLM,
    model: str,
    *,
    methods: Sequence[str] | None = None,
    cross_encoder: CrossEncoder | None = None,
    embedder: SentenceEmbedder | None = None,
    max_reply_tokens: int | None = 512,
    cache_folder: Path = Path(".trlm-eval"),
    prompts: int | None = None,
    show_progress: bool = False,
) -> Result:
    """Evaluate methods on a file of prompts.

    :param methods: names out of :data:`METHODS`; by default all that the model can do, without
        the cross-encoder.
    :param cross_encoder: for the method of that name.
    :param prompts: draw this many of the prompts (by a fixed seed).
    :raises DataError: if a method is unknown or lacks its model, or the file is malformed.
    """
    loaded = draw(load_prompts(path), prompts)
    scorer = CachedScorer(
        lm,
        ScoreCache(cache_folder / "scores.sqlite"),
        embedder or SentenceEmbedder(),
        max_reply_tokens,
        show_progress,
        cross_encoder,
    )
    chosen, notes = choose_methods(methods, DEFAULT_METHODS, METHODS, scorer, REPLY_GIVEN_QUERY)
    sizes = [size for size in SIZES if size <= min(len(prompt.answers) for prompt in loaded)]
    lengths = [count_tokens(lm.tokenizer, prompt.answers) for prompt in loaded]
    preferences = [prompt.preferences for prompt in loaded]
    controlled = length_controlled(loaded, lengths)

    def evaluate(name: str) -> PerQuery:
        picks = METHODS[name](loaded, scorer)
        found = measure(loaded, picks, sizes, preferences)
        without_length = measure(loaded, picks, sizes[-1:], controlled)
        return {
            **{f"preference@{size}": values for size, values in found.items()},
            **{f"controlled@{size}": values for size, values in without_length.items()},
        }

    found, seconds = run_methods(chosen, evaluate)
    rivals = [name for name in METHODS if name not in ("reverse", "oracle")]
    return summarise(
        path.stem.removesuffix(".jsonl"),
        model,
        found,
        f"preference@{sizes[-1]}",
        [("reverse", name) for name in rivals],
        seconds,
        {"max_reply_tokens": max_reply_tokens, "subsets": _SUBSETS},
        [*notes, *scorer.warnings],
        "prompts",
    )


def measure(
    prompts: Sequence[Prompt],
    picks: Sequence[Pick],
    sizes: Sequence[int],
    worth: Sequence[np.ndarray],
) -> dict[int, dict[str, float]]:
    """What the picks are worth on average over the subsets of each size, for each prompt.

    :param worth: for each prompt, what its answers are worth.
    """
    return {
        size: {
            prompt.id: float(pick(subsets_of(len(prompt.answers), size, prompt.id), of).mean())
            for prompt, pick, of in zip(prompts, picks, worth, strict=True)
        }
        for size in sizes
    }


def length_controlled(
    prompts: Sequence[Prompt], lengths: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """Preferences less what the logarithm of the length explains of them, shape (answers,) each.

    One slope is fitted by least squares over the answers of all prompts, each compared with the
    mean of its own prompt's, which stays as it is. AlpacaEval controls win rates for length in the
    same spirit (arXiv 2404.04475), there with a logistic regression on the annotations.

    :param lengths: tokens of each answer.
    """
    logs = [np.log1p(np.asarray(row, dtype=np.float64)) for row in lengths]
    apart = [row - row.mean() for row in logs]
    over = sum(float(row @ row) for row in apart)
    # Less their means or not, preferences give the same here: the rows sum to 0.
    shared = sum(float(row @ one.preferences) for row, one in zip(apart, prompts, strict=True))
    slope = shared / over if over else 0.0
    return [one.preferences - slope * row for row, one in zip(apart, prompts, strict=True)]


def subsets_of(number: int, size: int, prompt: str) -> np.ndarray:
    """Subsets of ``size`` out of ``number`` answers, shape (subsets, size), indices ascending.

    All of them, or as many as are drawn where there are too many; the id of the prompt is the
    seed, so that no system's answers are drawn more often than another's over the prompts.
    """
    if comb(number, size) <= _SUBSETS:
        return np.array(list(combinations(range(number), size)))
    generator = random.Random(f"{prompt} {size}")
    return np.array([sorted(generator.sample(range(number), size)) for _ in range(_SUBSETS)])
