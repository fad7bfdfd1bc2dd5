"""Passage states in commands: their options, and those of a whole index, kept beside it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trlm_retrieval.cli._terminal import count, err
from trlm_retrieval.models.source import DEFAULT_MODEL

if TYPE_CHECKING:
    from trlm_retrieval.lm.states import StateFormat


StatesPrecisionOption = Annotated[
    Literal["float32", "bfloat16", "float16", "int8"] | None,
    typer.Option(help="Of the states; by default the model's own.", show_default=False),
]


StatesPoolOption = Annotated[
    Literal["1", "2", "4"] | None,
    typer.Option(
        help="With an encoder-decoder: so many neighbouring tokens share one state, which makes "
        "states smaller by as much. [default: 1]",
        show_default=False,
    ),
]


def check_states_options(states: bool, precision: str | None, pool: str | None) -> None:
    """See that the options go together.

    :param states: whether states are asked for.
    :raises typer.BadParameter: if they do not.
    """
    for option, value in (("--states-precision", precision), ("--states-pool", pool)):
        if value and not states:
            raise typer.BadParameter("only --states needs it", param_hint=option)


def states_format(precision: str | None, pool: str | None) -> "StateFormat":
    """How states are kept."""
    from trlm_retrieval.lm.states import StateFormat

    return StateFormat(precision, int(pool or 1))


def drop_states(index: Path) -> None:
    """Remove the states of passages that have been replaced, and say so."""
    from trlm_retrieval.passage_index import states

    if states.drop_states(index):
        err.print("the states of the earlier passages are removed; --states makes new ones")


def keep_states(index: Path, model: str | None, form: "StateFormat") -> dict[str, Any]:
    """Compute the states of all passages for a model; the size is shown first.

    :param model: None takes the model of `trlm search`.
    :param form: how they are kept.
    :returns: what was written: ``states``, ``tokens``, ``bytes``, ``bytes_per_token``, ``seconds``.
    :raises PassageIndexError: if there is no index.
    :raises StatesError: if the disk has no room.
    :raises ValueError: if the model's states cannot be kept in this format.
    """
    from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.lm.state_writing import write_states
    from trlm_retrieval.passage_index import PassageIndex
    from trlm_retrieval.passage_index.states import plan_index_states, states_folder
    from trlm_retrieval.progress import progress_bar

    opened = PassageIndex.open(index)
    lm = TimeReversedLM.from_pretrained(model or DEFAULT_MODEL)
    plan = plan_index_states(opened, lm, max_passage_tokens=DEFAULT_MAX_PASSAGE_TOKENS, form=form)
    err.print(
        f"states of {count(len(plan.contexts), 'passage')}, {count(plan.tokens, 'token')}: "
        f"{plan.bytes / 1e9:.2f} GB on disk, {count(round(plan.bytes_per_token), 'byte')} a token"
    )
    started = time.perf_counter()
    with progress_bar("Computing states", len(plan.contexts)) as advance:
        write_states(states_folder(index), lm, plan, advance)
    return {
        "states": len(plan.contexts),
        "tokens": plan.tokens,
        "bytes": plan.bytes,
        "bytes_per_token": round(plan.bytes_per_token, 1),
        "seconds": round(time.perf_counter() - started, 3),
    }
