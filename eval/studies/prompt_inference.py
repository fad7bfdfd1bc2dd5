"""How often the instruction that led to some answers is found among 100.

    python -m trlm_retrieval.eval.studies.prompt_inference --data alpacaeval.jsonl.xz

For some instructions, drawn by a fixed seed, answers of several models are given; the candidates
are that instruction and 99 others, all of at most 200 characters. Compared are the likelihood of
the instruction, its gain over the prior, both averaged over the answers, the whole posterior
(naive Bayes: the prior and all gains), and the cosine of MiniLM embeddings.
"""

import argparse
import random
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.generation import question_template
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.progress import progress_bar

from ..best_of_n.evaluation import Prompt, load_prompts
from ..measures import PerQuery
from ..result import Result, summarise
from ..score_cache import ScoreCache

_LONGEST = 200  # characters of an instruction


def draw(prompts: list[Prompt], candidates: int, outputs: int) -> list[tuple[str, tuple[str, ...]]]:
    """Instructions, each with answers of some models, blank ones left out."""
    generator = random.Random(0)
    short = [prompt for prompt in prompts if len(prompt.query) <= _LONGEST]
    drawn = []
    for prompt in generator.sample(short, min(candidates, len(short))):
        answers = [answer for answer in prompt.answers if answer.strip()]
        if len(answers) >= outputs:
            drawn.append((prompt.query, tuple(generator.sample(answers, outputs))))
    return drawn


def evaluate_inference(
    drawn: list[tuple[str, tuple[str, ...]]],
    targets: int,
    lm: TimeReversedLM,
    model: str,
    embedder: SentenceEmbedder,
    max_output_tokens: int = 160,
    cache_folder: Path = Path(".trlm-eval"),
    show_progress: bool = False,
) -> Result:
    """How often each score puts the right instruction first, and its reciprocal rank.

    :param drawn: all candidates with their answers; the first so many are looked for.
    """
    queries = [query for query, _ in drawn]
    wanted = drawn[:targets]
    outputs = [answer for _, answers in wanted for answer in answers]
    template = question_template(lm)
    pairs = [(query, output) for output in outputs for query in queries]
    cache = ScoreCache(cache_folder / "scores.sqlite")
    with progress_bar("Scoring", len(pairs), show_progress) as advance:
        found, _ = cache.score(lm, pairs, template, max_output_tokens, advance)
    given = np.array([score.sum for score in found]).reshape(len(wanted), -1, len(queries))
    priors = lm.score([(query, outputs[0]) for query in queries], template, prior=True,
                      max_passage_tokens=max_output_tokens)  # fmt: skip
    prior = np.array([likelihood.sum - likelihood.gain for likelihood in priors])
    vectors = embedder.embed(outputs).reshape(len(wanted), given.shape[1], -1)
    scores = {
        "cosine": (vectors @ embedder.embed(queries).T).mean(1),
        "likelihood": given.mean(1),
        "gain": (given - prior).mean(1),
        "posterior": prior + (given - prior).sum(1),
    }
    per_query: dict[str, PerQuery] = {}
    for name, values in scores.items():
        ranks = [1 + int((row > row[i]).sum()) for i, row in enumerate(values)]
        per_query[name] = {
            "first": {str(i): float(rank == 1) for i, rank in enumerate(ranks)},
            "RR": {str(i): 1 / rank for i, rank in enumerate(ranks)},
        }
    return summarise(
        "prompt inference",
        model,
        per_query,
        "first",
        [("gain", name) for name in ("likelihood", "posterior", "cosine")],
        {},
        {"candidates": len(queries), "outputs": given.shape[1], "tokens": max_output_tokens},
        [],
        unit="instructions",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="AlpacaEval's file")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--targets", type=int, default=25, help="instructions looked for")
    parser.add_argument("--outputs", type=int, default=3, help="answers of each")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    result = evaluate_inference(
        draw(load_prompts(arguments.data), arguments.candidates, arguments.outputs),
        arguments.targets,
        TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype),
        arguments.model,
        SentenceEmbedder(),
        cache_folder=arguments.cache_dir,
        show_progress=True,
    )
    console = Console()
    table = Table("score", "first", "RR", title=f"{result.queries} instructions, {result.settings}")
    for name, found in result.systems.items():
        table.add_row(name, *(f"{v.mean:.3f} ({v.low:.3f}–{v.high:.3f})" for v in found.values()))
    console.print(table)
    for name, test in result.tests.items():
        console.print(f"{name}: {test.difference:+.3f}, p = {test.p:.4f}")
    if arguments.json:
        result.write_json(arguments.json)


if __name__ == "__main__":
    main()
