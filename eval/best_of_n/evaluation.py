"""Best of N: how well liked the answer is that a method picks out of N.

A file holds prompts, each with answers of many systems and how far an annotator preferred each to
a reference (0 to 1). For every N, a method picks from subsets of N answers, the same subsets for
all methods, and is worth the mean preference of its picks.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np

from trlm_retrieval.components.reply_score import (
    FORWARD_WEIGHT,
    REPLY_GIVEN_QUERY,
    reply_score,
    reply_template,
)
from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.text.tokens import count_tokens

from ..measures import PerQuery
from ..result import Result, known, run_methods, summarise
from ..sampling import draw
from ..score_cache import Score, ScoreCache

SIZES = (2, 4, 8, 16)
_SUBSETS = 120  # drawn for each N where there are more

Pick = Callable[[np.ndarray], np.ndarray]
"""From subsets, shape (subsets, N), of answer indices to the preference of each pick."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, its answers, and the preference of each, shape (answers,)."""

    id: str
    query: str
    answers: tuple[str, ...]
    preferences: np.ndarray


@dataclass
class Scorer:
    """What the methods need: the model, the cache of its scores, the embedder, the progress."""

    lm: TimeReversedLM
    cache: ScoreCache
    embedder: SentenceEmbedder
    max_reply_tokens: int | None
    show_progress: bool

    def likelihoods(self, prompts: Sequence[Prompt], template: Template) -> list[list[Score]]:
        """Likelihood of every answer's pair, for each prompt."""
        pairs = [(prompt.query, answer) for prompt in prompts for answer in prompt.answers]
        with progress_bar(f"Scoring {template.name}", len(pairs), self.show_progress) as advance:
            found, _ = self.cache.score(self.lm, pairs, template, self.max_reply_tokens, advance)
        scores = iter(found)
        return [[next(scores) for _ in prompt.answers] for prompt in prompts]

    def reverse(self, prompts: Sequence[Prompt]) -> list[list[Score]]:
        """log P(query | answer)."""
        return self.likelihoods(prompts, reply_template(self.lm.default_direction == "ba"))

    def forward(self, prompts: Sequence[Prompt]) -> list[list[Score]]:
        """log P(answer | query)."""
        return self.likelihoods(prompts, REPLY_GIVEN_QUERY)

    def lengths(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Tokens of every answer."""
        return [count_tokens(self.lm.tokenizer, prompt.answers) for prompt in prompts]


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


def by_score(prompt: Prompt, scores: Sequence[float]) -> Pick:
    """Picks the highest score; of equal ones the first."""
    values = np.asarray(scores, dtype=np.float64)

    def pick(subsets: np.ndarray) -> np.ndarray:
        best = values[subsets].argmax(axis=1)
        return prompt.preferences[subsets[np.arange(len(subsets)), best]]

    return pick


def _random(prompts: Sequence[Prompt], scorer: Scorer) -> list[Pick]:
    """What a random pick is worth on average."""

    def pick(prompt: Prompt, subsets: np.ndarray) -> np.ndarray:
        return prompt.preferences[subsets].mean(axis=1)

    return [partial(pick, prompt) for prompt in prompts]


def _oracle(prompts: Sequence[Prompt], scorer: Scorer) -> list[Pick]:
    return [by_score(prompt, prompt.preferences.tolist()) for prompt in prompts]


def _length(prompts: Sequence[Prompt], scorer: Scorer) -> list[Pick]:
    lengths = scorer.lengths(prompts)
    return [by_score(prompt, row) for prompt, row in zip(prompts, lengths, strict=True)]


def _centroid(prompts: Sequence[Prompt], scorer: Scorer) -> list[Pick]:
    """The answer nearest to the mean embedding of its subset: what the others agree with."""
    texts = [answer for prompt in prompts for answer in prompt.answers]
    vectors = iter(scorer.embedder.embed(texts, scorer.show_progress))

    def pick(prompt: Prompt, rows: np.ndarray, subsets: np.ndarray) -> np.ndarray:
        members = rows[subsets]  # (subsets, N, width)
        nearness = np.einsum("snd,sd->sn", members, members.mean(axis=1))
        best = nearness.argmax(axis=1)
        return prompt.preferences[subsets[np.arange(len(subsets)), best]]

    return [
        partial(pick, prompt, np.array([next(vectors) for _ in prompt.answers]))
        for prompt in prompts
    ]


def _forward(prompts: Sequence[Prompt], scorer: Scorer, mean: bool) -> list[Pick]:
    found = scorer.forward(prompts)
    return [
        by_score(prompt, [score.mean if mean else score.sum for score in row])
        for prompt, row in zip(prompts, found, strict=True)
    ]


def _reverse(prompts: Sequence[Prompt], scorer: Scorer) -> list[Pick]:
    found = scorer.reverse(prompts)
    return [
        by_score(prompt, [score.mean for score in row])
        for prompt, row in zip(prompts, found, strict=True)
    ]


def _default(prompts: Sequence[Prompt], scorer: Scorer) -> list[Pick]:
    """What TRLMAnswerRanker ships."""
    reverse = scorer.reverse(prompts)
    forward: list[list[float | None]]
    if FORWARD_WEIGHT:
        forward = [[score.mean for score in row] for row in scorer.forward(prompts)]
    else:  # a pass for each reply, for nothing
        forward = [[None] * len(row) for row in reverse]
    return [
        by_score(prompt, [reply_score(r.mean, f) for r, f in zip(*column, strict=True)])
        for prompt, *column in zip(prompts, reverse, forward, strict=True)
    ]


METHODS: dict[str, Callable[[Sequence[Prompt], Scorer], list[Pick]]] = {
    "random": _random,
    "length": _length,
    "centroid": _centroid,
    "forward_sum": partial(_forward, mean=False),
    "forward": partial(_forward, mean=True),
    "reverse": _reverse,
    "default": _default,
    "oracle": _oracle,
}


def evaluate_best_of_n(
    path: Path,
    lm: TimeReversedLM,
    model: str,
    methods: Sequence[str] | None = None,
    embedder: SentenceEmbedder | None = None,
    max_reply_tokens: int | None = 512,
    cache_folder: Path = Path(".trlm-eval"),
    prompts: int | None = None,
    show_progress: bool = False,
) -> Result:
    """Evaluate methods on a file of prompts.

    :param methods: names out of :data:`METHODS`; all by default.
    :param prompts: draw this many of the prompts (by a fixed seed).
    :raises DataError: if a method is unknown or the file is malformed.
    """
    methods = known(methods or list(METHODS), METHODS)
    loaded = draw(load_prompts(path), prompts)
    scorer = Scorer(
        lm,
        ScoreCache(cache_folder / "scores.sqlite"),
        embedder or SentenceEmbedder(),
        max_reply_tokens,
        show_progress,
    )
    sizes = [size for size in SIZES if size <= min(len(prompt.answers) for prompt in loaded)]
    found, seconds = run_methods(
        methods, lambda name: measure(loaded, METHODS[name](loaded, scorer), sizes)
    )
    rivals = [name for name in METHODS if name not in ("default", "oracle")]
    return summarise(
        path.stem.removesuffix(".jsonl"),
        model,
        found,
        _measure_name(sizes[-1]),
        [
            *(("default", name) for name in rivals),
            *(("reverse", name) for name in rivals if name != "reverse"),
        ],
        seconds,
        {"max_reply_tokens": max_reply_tokens, "subsets": _SUBSETS},
        [],
        "prompts",
    )


def measure(prompts: Sequence[Prompt], picks: Sequence[Pick], sizes: Sequence[int]) -> PerQuery:
    """Mean preference of the picks over the subsets of each size, for each prompt."""
    values: PerQuery = {}
    for size in sizes:
        values[_measure_name(size)] = {
            prompt.id: float(pick(subsets_of(len(prompt.answers), size, prompt.id)).mean())
            for prompt, pick in zip(prompts, picks, strict=True)
        }
    return values


def subsets_of(number: int, size: int, prompt: str) -> np.ndarray:
    """Subsets of ``size`` out of ``number`` answers, shape (subsets, size), indices ascending.

    All of them, or as many as are drawn where there are too many; the id of the prompt is the
    seed, so that no system's answers are drawn more often than another's over the prompts.
    """
    if comb(number, size) <= _SUBSETS:
        return np.array(list(combinations(range(number), size)))
    generator = random.Random(f"{prompt} {size}")
    return np.array([sorted(generator.sample(range(number), size)) for _ in range(_SUBSETS)])


def _measure_name(size: int) -> str:
    return f"preference@{size}"
