"""Whether torch.compile pays: its start-up in seconds, and the speed of scoring afterwards.

    python -m trlm_retrieval.eval.benchmark_compile

Both score the same passages of the demo in turns; the ratio is the median over rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.passage_index.text import passage_text

from .benchmark import MAX_PASSAGE_TOKENS, sample_pairs
from .dataset import load_dataset


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--passages", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    dataset = load_dataset("demo")
    texts = [passage_text(document) for document in dataset.documents]
    queries = list(dataset.queries.values())
    pairs = [pair for row in sample_pairs(texts, queries, arguments.passages, 1) for pair in row]
    plain, compiled = (
        TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype) for _ in range(2)
    )
    body = compiled.model.base_model
    body.forward = torch.compile(body.forward, dynamic=True)

    def score(lm: TimeReversedLM) -> Callable[[], object]:
        return lambda: lm.score(pairs, max_passage_tokens=MAX_PASSAGE_TOKENS)

    warm = seconds(score(plain))
    start = seconds(score(compiled)) - warm
    rounds = [(seconds(score(plain)), seconds(score(compiled))) for _ in range(arguments.rounds)]
    ratio = statistics.median(one / other for one, other in rounds)
    print(f"start-up {start:.0f} s; afterwards {ratio:.2f} times the speed without compiling")


if __name__ == "__main__":
    main()
