"""The methods of an evaluation: which of them run, what they find, and the seconds they take."""

from collections.abc import Callable, Mapping, Sequence

from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.lm import Template, TimeReversedLM

from .measures import PerQuery
from .result import timed
from .score_cache import CachedScorer

CROSS_ENCODER = "cross-encoder"  # the method of that name; it runs only where it is named


def choose_methods(
    named: Sequence[str] | None,
    default: Sequence[str],
    there: Mapping[str, object],
    scorer: CachedScorer,
    forward: Template,
) -> tuple[list[str], list[str]]:
    """The methods to run, and a note on those that are left out.

    :param named: what was asked for; None runs those of ``default`` that the model can do.
    :param there: all methods. Those whose names begin with ``forward`` score by ``forward``.
    :raises DataError: if none is named or one is unknown, or the cross-encoder is named and there
        is none.
    """
    if named is None:
        return that_can_run(default, scorer.lm, forward)
    if not named:
        raise DataError(f"no method is asked for; there are {', '.join(there)}")
    if unknown := [name for name in named if name not in there]:
        raise DataError(f"unknown method {unknown[0]!r}; there are {', '.join(there)}")
    if CROSS_ENCODER in named and scorer.cross_encoder is None:
        raise DataError(f"method {CROSS_ENCODER!r} needs a cross-encoder")
    return list(named), []


def that_can_run(
    methods: Sequence[str], lm: TimeReversedLM, forward: str | Template
) -> tuple[list[str], list[str]]:
    """The methods that a model can do, and a note on those that are left out.

    :param forward: what methods whose names begin with ``forward`` score by.
    """
    try:
        lm.template(forward)
    except ModelError:
        left_out = [name for name in methods if name.startswith("forward")]
        note = (
            f"{', '.join(left_out)} are left out: this model does not score forwards, which a "
            "decoder such as smollm2-135m does"
        )
        return [name for name in methods if name not in left_out], [note]
    return list(methods), []


def run_methods(
    methods: Sequence[str], evaluate: Callable[[str], PerQuery]
) -> tuple[dict[str, PerQuery], dict[str, float]]:
    """What each method is worth, and the seconds that it took."""
    found: dict[str, PerQuery] = {}
    seconds: dict[str, float] = {}
    for name in methods:
        with timed(seconds, name):
            found[name] = evaluate(name)
    return found, seconds
