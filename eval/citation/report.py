"""The report of a citation evaluation: among sources, or within one."""

from pathlib import Path

from ..report import write_report
from ..result import Result

_MEANINGS = {
    "random": "any passage",
    "everything": "all sentences of the source",
    "first": "as many sentences from its beginning as the answer has",
    "overlap": "share of the claim's words that stand in the source",
    "bm25": "shared words, rare ones counting more",
    "dense": "nearness of embeddings",
    "forward_sum": "log P(source | claim)",
    "forward": "the same for each token of the source",
    "forward_gain": "what that gains over log P(source), a token",
    "reverse": "what log P(claim | source) gains over log P(claim), a token",
    "default": "the reverse gain with the share of words, as the attributor ships it",
    "cross-encoder": "a model that reads claim and source together",
}
_SEARCHES = {
    "linear": "each sentence scored",
    "binary": "the better half, again and again",
    "exclusion": "the sentence without which the rest scores lowest",
}


def write_citation_report(path: Path, result: Result) -> None:
    """Write the page.

    :raises OSError: if the page cannot be written.
    """
    searches = {
        f"{order}_{name}": f"{order} gain; {meaning}"
        for order in ("forward", "reverse", "default")
        for name, meaning in _SEARCHES.items()
    }
    among = result.unit == "claims"
    write_report(
        path,
        result,
        f"{'Citations on' if among else 'Citations within a source, on'} {result.data}",
        f"{result.queries} {result.unit}"
        + (f" of {result.settings['answers']} answers" if among else "")
        + f", scored with {result.model}.",
        _MEANINGS | searches,
        [
            ("default", "overlap"),
            ("default", "cross-encoder"),
            ("reverse", "overlap"),
            ("reverse", "forward"),
            ("reverse_linear", "forward_linear"),
        ],
    )
