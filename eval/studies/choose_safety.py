"""Choose the threshold of generated questions, on the behaviours that the filter learned from.

    python -m trlm_retrieval.eval.studies.choose_safety --data FOLDER --answers FILE

For each number of unsafe questions that block a reply: the lowest threshold that, beside the prompt
filter at its own, adds at most two points of false positives. The other half of the behaviours,
which `trlm eval safety` measures on, takes no part.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.components.question_filter import QuestionFilter
from trlm_retrieval.components.safety_filter import DEFAULT_THRESHOLD, Judge, judged
from trlm_retrieval.lm import TimeReversedLM

from ..query_cache import QueryCache
from ..safety.evaluation import QUESTIONS, drawn, score, thresholds_with_prompt


def remembered(inner: Any) -> Judge:
    """A filter that judges each text once."""
    known: dict[str, float] = {}

    def judge(texts: list[str]) -> list[float]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, judged(inner, new), strict=True))
        return [known[text] for text in texts]

    return judge


def passing(replies: list[str]) -> list[float]:
    """A reply filter that holds nothing back."""
    return [0.0 for _ in replies]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with safety data")
    parser.add_argument("--answers", type=Path, required=True, help="AlpacaEval's file")
    parser.add_argument("--responses", type=int, default=120, help="drawn of each kind")
    parser.add_argument("--number", type=int, default=QUESTIONS, help="questions of each part")
    parser.add_argument("--head", help="of the filter; by default the shipped one")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model)
    jailbroken, safe = drawn(arguments.data, arguments.answers, arguments.responses, held_out=False)
    cache = QueryCache(arguments.cache_dir / "queries.jsonl")
    table = Table("unsafe questions", "threshold", "false negatives", "false positives added")
    inner = remembered(QuestionFilter(arguments.head))
    for least in range(1, arguments.number + 1):
        scores = score(
            [*jailbroken, *safe], lm, inner, passing, arguments.number, least, cache, True
        )
        threshold = thresholds_with_prompt(len(jailbroken), scores)["questions"]
        prompt = scores["prompt"] >= DEFAULT_THRESHOLD
        both = prompt | (scores["questions"] >= threshold)
        added = np.mean(both[len(jailbroken) :]) - np.mean(prompt[len(jailbroken) :])
        missed = 1 - np.mean(both[: len(jailbroken)])
        table.add_row(str(least), f"{threshold:.3f}", f"{missed:.3f}", f"{added:+.3f}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
