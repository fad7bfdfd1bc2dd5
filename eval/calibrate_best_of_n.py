"""The weights of a reply's length and of its own likelihood, fitted on half of the prompts.

    python -m trlm_retrieval.eval.calibrate_best_of_n alpacaeval.jsonl.xz

Each pair of weights is worth the mean preference of its picks, over picks out of 2, 4, 8 and 16.
The best pair of each half is shown with what it is worth on that half and on the other one, beside
the reverse likelihood alone and the weights that are shipped.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.best_of_n import FORWARD_WEIGHT, LENGTH_WEIGHT, reply_score
from trlm_retrieval.embedder import SentenceEmbedder
from trlm_retrieval.lm import TimeReversedLM

from .best_of_n import SIZES, Prompt, Scorer, by_score, draw_prompts, load_prompts, measure
from .score_cache import ScoreCache

Weights = tuple[float, float]
"""Of the reply's own likelihood, and of its length."""

FORWARD_WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
LENGTH_WEIGHTS = (-0.1, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


def worths(prompts: Sequence[Prompt], scorer: Scorer) -> dict[Weights, np.ndarray]:
    """What each pair of weights is worth for each prompt, shape (prompts,)."""
    reverse, forward = scorer.reverse(prompts), scorer.forward(prompts)
    lengths = scorer.lengths(prompts)
    sizes = [size for size in SIZES if size <= min(len(prompt.answers) for prompt in prompts)]
    found: dict[Weights, np.ndarray] = {}
    for weights in dict.fromkeys(
        [*product(FORWARD_WEIGHTS, LENGTH_WEIGHTS), (FORWARD_WEIGHT, LENGTH_WEIGHT)]
    ):
        picks = [
            by_score(
                prompt,
                [reply_score(r.mean, n, f.mean, *weights) for r, n, f in zip(*row, strict=True)],
            )
            for prompt, *row in zip(prompts, reverse, lengths, forward, strict=True)
        ]
        by_size = measure(prompts, picks, sizes)
        found[weights] = np.mean([list(values.values()) for values in by_size.values()], axis=0)
    return found


def best(found: dict[Weights, np.ndarray], half: np.ndarray) -> Weights:
    """The weights that are worth most on a half; of equal ones the first."""
    return max(found, key=lambda weights: float(found[weights][half].mean()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--prompts", type=int, default=None, help="draw this many")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    prompts = draw_prompts(load_prompts(arguments.data), arguments.prompts)
    scorer = Scorer(
        TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype),
        ScoreCache(arguments.cache_dir / "scores.sqlite"),
        SentenceEmbedder(),
        512,
        show_progress=True,
    )
    found = worths(prompts, scorer)
    first = np.arange(len(prompts)) % 2 == 0
    table = Table("weights", "of likelihood", "of length", "first half", "second half", box=None)
    for name, weights in (
        ("reverse alone", (0.0, 0.0)),
        ("best on the first half", best(found, first)),
        ("best on the second half", best(found, ~first)),
        ("shipped", (FORWARD_WEIGHT, LENGTH_WEIGHT)),
    ):
        halves = (f"{found[weights][half].mean():.4f}" for half in (first, ~first))
        table.add_row(name, *(f"{weight:g}" for weight in weights), *halves)
    Console(width=100).print(table)
    print(f"Mean preference over picks out of 2, 4, 8 and 16; {len(prompts)} prompts.")


if __name__ == "__main__":
    main()
