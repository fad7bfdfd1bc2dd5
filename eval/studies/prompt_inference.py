"""How often the instruction that led to some answers is found among 100.

    python -m trlm_retrieval.eval.studies.prompt_inference --data alpacaeval.jsonl.xz

Instructions are drawn by a fixed seed, each with answers of eight different models. The candidates
are the same for all: the instructions that were drawn, of at most 200 characters. The rows are

- likelihood: log P(instruction | answer);
- gain: the same less log P(instruction), as `trlm prompt infer` orders prompts;
- both for each token of the instruction;
- BM25 of the instruction in the answer, and of the answer in the instruction;
- the cosine of sentence embeddings,

each averaged over 1, 2, 4 and 8 answers: of the eight, every one, four pairs, two fours and all.
An instruction is first where it is above all others.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import question_template
from trlm_retrieval.models.embedder import Embedder, SentenceEmbedder
from trlm_retrieval.passage_index.bm25 import build_bm25
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.text.words import query_words, words

from ..best_of_n.evaluation import Prompt, load_prompts
from ..measures import PerQuery
from ..result import Result, summarise, timed
from ..score_cache import ScoreCache, cut_note, priors

SIZES = (1, 2, 4, 8)
TESTED = "RR@1"

_LONGEST = 200  # characters of an instruction


class Drawn(NamedTuple):
    """An instruction and answers to it, each of another model."""

    query: str
    answers: tuple[str, ...]


def draw(prompts: Sequence[Prompt], candidates: int) -> list[Drawn]:
    """Instructions with answers, blank answers left out; the same every time."""
    generator = random.Random(0)
    usable = [
        Drawn(prompt.query, tuple(generator.sample(answers, SIZES[-1])))
        for prompt in prompts
        if len(prompt.query) <= _LONGEST
        and len(answers := [one for one in prompt.answers if one.strip()]) >= SIZES[-1]
    ]
    return generator.sample(usable, min(candidates, len(usable)))


def evaluate_inference(
    drawn: Sequence[Drawn],
    targets: int,
    lm: TimeReversedLM,
    model: str,
    embedder: Embedder,
    max_output_tokens: int | None = 256,
    cache_folder: Path = Path(".trlm-eval"),
    show_progress: bool = False,
) -> Result:
    """How often each score puts the right instruction first, and its reciprocal rank.

    :param drawn: all candidates with their answers; the first so many are looked for.
    :param max_output_tokens: answers are cut to this many.
    """
    queries = [one.query for one in drawn]
    wanted = drawn[:targets]
    answers = [answer for one in wanted for answer in one.answers]
    seconds: dict[str, float] = {}
    with timed(seconds, "likelihood"):
        likelihood, tokens, notes = _likelihoods(
            queries, answers, lm, max_output_tokens, cache_folder, show_progress
        )
        prior = priors(lm, queries, question_template(lm))
    with timed(seconds, "words"):
        in_answers = build_bm25([words(answer) for answer in answers])
        in_queries = build_bm25([words(query) for query in queries])
        found = {
            "BM25 of the instruction": np.stack(
                [in_answers.scores(query_words(query)) for query in queries], axis=1
            ),
            "BM25 of the answer": np.stack(
                [in_queries.scores(query_words(answer)) for answer in answers]
            ),
        }
    with timed(seconds, "cosine"):
        found["cosine"] = embedder.embed(answers) @ embedder.embed(queries).T
    found |= {
        "likelihood": likelihood,
        "likelihood, a token": likelihood / tokens,
        "gain": likelihood - prior,
        "gain, a token": (likelihood - prior) / tokens,
    }
    return summarise(
        "prompt inference",
        model,
        {name: _values(scores, len(wanted)) for name, scores in found.items()},
        TESTED,
        [("gain", name) for name in found if name != "gain"],
        seconds,
        {"candidates": len(queries), "max_output_tokens": max_output_tokens},
        notes,
        unit="instructions",
    )


def _likelihoods(
    queries: Sequence[str],
    answers: Sequence[str],
    lm: TimeReversedLM,
    max_output_tokens: int | None,
    cache_folder: Path,
    show_progress: bool,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """log P(query | answer), shape (answers, queries), tokens of the queries, what was cut."""
    pairs = [(query, answer) for answer in answers for query in queries]
    cache = ScoreCache(cache_folder / "scores.sqlite")
    with progress_bar("Scoring", len(pairs), show_progress) as advance:
        scores, _ = cache.score(lm, pairs, question_template(lm), max_output_tokens, advance)
    sums = np.array([score.sum for score in scores]).reshape(len(answers), len(queries))
    tokens = np.array([score.tokens for score in scores[: len(queries)]])
    cut = [score.cut_tokens > 0 for score in scores[:: len(queries)]]
    return sums, tokens, cut_note("answers", cut)


def _values(scores: np.ndarray, wanted: int) -> PerQuery:
    """For each number of answers, how often an instruction is first, and its reciprocal rank.

    :param scores: shape (answers, candidates); the answers of an instruction follow each other,
        and the instructions stand in the order of the first candidates.
    """
    of_answer = scores.reshape(wanted, -1, scores.shape[1])
    places = np.arange(wanted)
    values: PerQuery = {}
    for size in SIZES:
        groups = of_answer.reshape(wanted, -1, size, scores.shape[1]).mean(2)
        right = groups[places, :, places][..., None]
        ranks = (groups >= right).sum(-1)  # an equal score counts as a better one
        for name, found in (("first", ranks == 1), ("RR", 1 / ranks)):
            values[f"{name}@{size}"] = dict(
                zip(map(str, range(wanted)), found.mean(1).tolist(), strict=True)
            )
    return values


def main() -> None:
    """Print two tables and the tests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="AlpacaEval's file")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--targets", type=int, default=100, help="instructions looked for")
    parser.add_argument("--model", default="trlm-small")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    parser.add_argument("--json", type=Path, help="write the result to this file")
    given = parser.parse_args()
    result = evaluate_inference(
        draw(load_prompts(given.data), given.candidates),
        given.targets,
        TimeReversedLM.from_pretrained(given.model, dtype=given.dtype),
        given.model,
        SentenceEmbedder(),
        cache_folder=given.cache_dir,
        show_progress=True,
    )
    console = Console(width=140, highlight=False)
    for measure, title in (("first", "right one first"), ("RR", "reciprocal rank")):
        table = Table(
            f"{given.model}: {title}",
            *(f"{size} answer{'s'[: size - 1]}" for size in SIZES),
            title_justify="left",
        )
        for name, found in result.systems.items():
            values = [found[f"{measure}@{size}"] for size in SIZES]
            table.add_row(name, *(f"{v.mean:.3f} ({v.low:.3f}–{v.high:.3f})" for v in values))
        console.print(table)
    for name, test in result.tests.items():
        console.print(f"{name}: {test.measure} {test.difference:+.3f}, p = {test.p:.4f}")
    console.print(f"{result.queries} instructions, {result.settings}, seconds {result.seconds}")
    for warning in result.warnings:
        console.print(f"note: {warning}")
    if given.json:
        result.write_json(given.json)


if __name__ == "__main__":
    main()
