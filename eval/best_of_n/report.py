"""The report of a best-of-N evaluation."""

from pathlib import Path

from ..report import write_report
from ..result import Result

_MEANINGS = {
    "random": "any answer",
    "length": "the longest answer",
    "centroid": "the answer whose embedding is nearest to the mean of all",
    "forward_sum": "log P(answer | query)",
    "forward": "the same for each token of the answer",
    "reverse": "log P(query | answer) for each token of the query, as the answer ranker ships it",
    "cross-encoder": "the answer that a model which reads query and answer together scores highest",
    "oracle": "the answer that annotators preferred",
}


def write_best_of_n_report(path: Path, result: Result) -> None:
    """Write the page.

    :raises OSError: if the page cannot be written.
    """
    write_report(
        path,
        result,
        f"Best of N on {result.data}",
        f"{result.queries} prompts, scored with {result.model}: preference of the answer that each "
        "way of choosing picks out of 2, 4, 8 and 16.",
        _MEANINGS,
        [("reverse", name) for name in ("forward", "length", "random", "cross-encoder")],
    )
