"""Passage states of a whole corpus, planned, computed and written to a folder in one step.

See :mod:`~trlm_retrieval.lm.state_folder`, which reads the folder, for what it holds.
"""

import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from trlm_retrieval.errors import StatesError
from trlm_retrieval.files import new_folder, only_writer, recover_folder, write_json
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.lm.model import TimeReversedLM
from trlm_retrieval.lm.state_folder import ENTRY, FORMAT, identity
from trlm_retrieval.lm.states import StateFormat, state_key
from trlm_retrieval.lm.template import Template


@dataclass(frozen=True)
class StatesPlan:
    """The states that a corpus needs, before any is computed.

    :ivar template: how pairs will be read, and ``max_passage_tokens`` where passages are cut.
    :ivar form: how the states are kept.
    :ivar contexts: different contexts, as token ids.
    :ivar bytes: what they take on disk.
    """

    template: Template
    max_passage_tokens: int | None
    form: StateFormat
    contexts: tuple[tuple[int, ...], ...]
    bytes: int

    @property
    def tokens(self) -> int:
        """Context tokens in all."""
        return sum(len(context) - 1 for context in self.contexts)

    @property
    def bytes_per_token(self) -> float:
        """Bytes for each context token."""
        return self.bytes / max(self.tokens, 1)


def plan_states(
    lm: TimeReversedLM,
    passages: Sequence[str],
    direction: "Template | str | None" = None,
    max_passage_tokens: int | None = None,
    form: StateFormat = StateFormat(),  # noqa: B008 - immutable
) -> StatesPlan:
    """What the states of these passages will take; nothing is computed yet.

    :raises StatesError: if the model's states cannot be kept, or the direction scores passages.
    :raises ValueError: if they cannot be kept in this format.
    """
    template = lm.template(direction)
    lm.network.check(form)
    if not lm.supports_states:
        raise StatesError("this model's attention is not one whose states can be kept")
    if not template.scores_query:
        raise StatesError(f"direction {template.name!r} has the query as context, not the passage")
    encoded = lm.encode([("", passage) for passage in passages], template, max_passage_tokens)
    contexts = tuple(dict.fromkeys(pair.context for pair in encoded if len(pair.context) > 1))
    size = sum(lm.network.state_bytes(len(context) - 1, form) for context in contexts)
    return StatesPlan(template, max_passage_tokens, form, contexts, size)


def write_states(
    folder: Path,
    lm: TimeReversedLM,
    plan: StatesPlan,
    progress: Progress | None = None,
) -> None:
    """Compute planned states and put them in the place of those that were in the folder.

    What a writer that was killed left beside the folder is removed.

    :param progress: called with the number of contexts just finished.
    :raises StatesError: if the disk has no room for them, or another process is writing there; the
        earlier states are then left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    busy = StatesError(f"another process is writing the states at {folder}: wait until it is done")
    with only_writer(folder.with_name(f".{folder.name}.lock"), busy):
        recover_folder(folder)
        _check_room(folder, plan)
        with new_folder(folder) as scratch:
            _fill(scratch, lm, plan, progress)


def _check_room(folder: Path, plan: StatesPlan) -> None:
    free = shutil.disk_usage(folder.parent).free
    if plan.bytes > free:
        raise StatesError(
            f"{folder} needs {plan.bytes / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB left: "
            "choose int8, or another disk"
        )


def _fill(folder: Path, lm: TimeReversedLM, plan: StatesPlan, progress: Progress | None) -> None:
    rows: list[tuple[np.void, int, int, int, int]] = []
    offset = 0
    shape = torch.Size((0, 0))
    with (folder / "states.bin").open("wb") as file:
        made = lm.network.read(plan.contexts, token_budget=lm.token_budget, form=plan.form)
        for context, state in zip(plan.contexts, made, strict=True):
            data = b"".join(_bytes(part) for part in state.parts)
            file.write(data)
            key = np.void(state_key(lm.fingerprint, context))
            rows.append((key, offset, state.tokens, len(data), zlib.crc32(data)))
            offset += len(data)
            shape = state.numbers.shape
            if progress:
                progress(1)
    entries = np.array(rows, ENTRY)
    np.save(folder / "entries.npy", entries, allow_pickle=False)
    manifest = {
        "format": FORMAT,
        "model_name": lm.name,
        "states": len(entries),
        "bytes": offset,
        "entries_crc32": zlib.crc32((folder / "entries.npy").read_bytes()),
        "front": list(shape[:-2]),
        "width": shape[-1],
        "dtype": str(plan.form.dtype(lm.model.dtype)).removeprefix("torch."),
        **identity(lm, plan.template, plan.max_passage_tokens),
        **asdict(plan.form),
    }
    write_json(folder / "manifest.json", manifest)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes()
