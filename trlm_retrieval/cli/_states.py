"""Passage states in commands: their options, and those of a whole index, kept beside it."""

import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from trlm_retrieval.cli._terminal import count, err
from trlm_retrieval.models.source import DEFAULT_MODEL


class StatesPrecision(str, Enum):
    """How states are kept."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


StatesPrecisionOption = Annotated[
    StatesPrecision | None,
    typer.Option(help="Of the states; by default the model's own.", show_default=False),
]


def check_states_options(states: bool, precision: StatesPrecision | None) -> None:
    """See that the options go together.

    :param states: whether states are asked for.
    :raises typer.BadParameter: if they do not.
    """
    if not states and precision:
        raise typer.BadParameter("only --states needs it", param_hint="--states-precision")


def drop_states(index: Path) -> None:
    """Remove the states of passages that have been replaced, and say so."""
    from trlm_retrieval.passage_index import states

    if states.drop_states(index):
        err.print("the states of the earlier passages are removed; --states makes new ones")


def keep_states(index: Path, model: str | None, precision: str | None) -> dict[str, Any]:
    """Compute the states of all passages for a model; the size is shown first.

    :param model: None takes the model of `trlm search`.
    :param precision: see :class:`~trlm_retrieval.lm.states.StateFormat`.
    :returns: what was written: ``states``, ``tokens``, ``bytes``, ``bytes_per_token``, ``seconds``.
    :raises PassageIndexError: if there is no index.
    :raises StatesError: if the disk has no room.
    """
    from trlm_retrieval.components.ranker import DEFAULT_MAX_PASSAGE_TOKENS
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.lm.state_writing import write_states
    from trlm_retrieval.passage_index import PassageIndex
    from trlm_retrieval.passage_index.states import plan_index_states, states_folder
    from trlm_retrieval.progress import progress_bar

    opened = PassageIndex.open(index)
    lm = TimeReversedLM.from_pretrained(model or DEFAULT_MODEL)
    plan = plan_index_states(
        opened, lm, max_passage_tokens=DEFAULT_MAX_PASSAGE_TOKENS, precision=precision
    )
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
