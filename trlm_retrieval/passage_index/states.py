"""The passage states of a whole index, kept in a folder beside its documents."""

import shutil
from pathlib import Path

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.state_writing import StatesPlan, plan_states
from trlm_retrieval.lm.states import StateFormat
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.passage_index.files import STATES
from trlm_retrieval.passage_index.index import PassageIndex


def states_folder(index: Path) -> Path:
    """Where an index keeps its passage states."""
    return index / STATES


def plan_index_states(
    index: PassageIndex,
    lm: TimeReversedLM,
    *,
    max_passage_tokens: int | None = None,
    form: StateFormat = StateFormat(),  # noqa: B008 - immutable
) -> StatesPlan:
    """What the states of all passages will take; :func:`write_states` then computes them.

    Passages are read with the index's own meta fields, as a ranker behind it must read them.

    :param form: how they are kept.
    :raises StatesError: if the model's states cannot be kept.
    :raises ValueError: if they cannot be kept in this format.
    """
    texts = [passage_text(document, index.meta_fields) for document in index.documents()]
    return plan_states(lm, texts, max_passage_tokens=max_passage_tokens, form=form)


def drop_states(index: Path) -> bool:
    """Remove the states of passages that have been replaced; returns whether there were any."""
    folder = states_folder(index)
    if not folder.is_dir():
        return False
    shutil.rmtree(folder)
    return True
