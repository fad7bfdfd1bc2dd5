"""A worker holds one model and does one shard after the other: scores, or passage states."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import Likelihood, TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.lm.state_writing import plan_states, write_states
from trlm_retrieval.lm.states import StateFormat
from trlm_retrieval.offline.output import Output
from trlm_retrieval.offline.rows import Columns, Shard, read_shard


@dataclass(frozen=True)
class Job:
    """What is done with every shard.

    :ivar output: folder of the parts; all workers have to see it, as the input and the model.
    :ivar model: what :meth:`TimeReversedLM.from_pretrained` takes; so are ``device``, ``dtype``.
    :ivar direction: name of a direction; by default what suits the model.
    :ivar max_passage_tokens: longer passages are cut, and the cut is counted.
    :ivar prior: also score each query without its passage.
    :ivar states: compute the passages' states, kept so, instead of scores.
    """

    output: Path
    model: str
    columns: Columns = field(default_factory=Columns)
    direction: str | None = None
    max_passage_tokens: int | None = None
    prior: bool = False
    states: StateFormat | None = None
    device: str | None = None
    dtype: str | None = None

    @property
    def parts(self) -> Output:
        """The folder of the parts."""
        return Output(self.output, self.states is not None)


@dataclass(frozen=True)
class Done:
    """A shard that a worker has done.

    :ivar unscored: rows without a result, each with its reason in the column ``error``; of
        states, passages without text.
    :ivar cut: rows whose passage was cut.
    :ivar started: when the worker began, in seconds since the epoch.
    """

    shard: int
    rows: int
    unscored: int
    cut: int
    started: float
    seconds: float


class Worker:
    """Loads a model and does shards with it.

    :param threads: of the processor, for a model there; None leaves PyTorch's choice.
    :raises ModelError: if the model is not there or does not fit the direction.
    """

    def __init__(self, job: Job, threads: int | None = None) -> None:
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        self.job = job
        self.lm = TimeReversedLM.from_pretrained(
            job.model, device=job.device, dtype=job.dtype, states_megabytes=0
        )
        self.template = self.lm.template(job.direction)

    def settings(self) -> dict[str, Any]:
        """What its parts are made with, and must be the same for all parts."""
        job, template = self.job, self.template
        return {
            "model": self.lm.fingerprint,
            "model_name": job.model,
            "template": [template.order, template.context, template.target],
            "max_passage_tokens": job.max_passage_tokens,
            "prior": job.prior,
            "states": asdict(job.states) if job.states else None,
            "columns": [job.columns.query, list(job.columns.passage), job.columns.id],
        }

    def do(self, shard: Shard, fingerprint: str, progress: Progress | None = None) -> Done:
        """Make the part of a shard.

        :param fingerprint: of the model that the parts are made with.
        :param progress: called with the number of rows just finished.
        :raises DataError: if the input is damaged.
        :raises ModelError: if this worker's model is another one.
        :raises StatesError: if the disk has no room for states.
        """
        if self.lm.fingerprint != fingerprint:
            raise ModelError(
                f"this worker's {self.job.model!r} is not the model that the parts are made with: "
                "see that all machines have the same files, and name the dtype"
            )
        started = time.time()
        table = read_shard(shard, self.job.columns)
        make = self._scores if self.job.states is None else self._states
        with self.job.parts.new_part(shard) as part:
            unscored, cut = make(shard, table, part, progress)
        return Done(shard.number, shard.rows, unscored, cut, started, time.time() - started)

    def _scores(
        self, shard: Shard, table: pa.Table, part: Path, progress: Progress | None
    ) -> tuple[int, int]:
        queries, passages = (table[name].to_pylist() for name in ("query", "passage"))
        pairs = list(zip(queries, passages, strict=True))
        errors = [_blank(query=query, passage=passage) for query, passage in pairs]
        found = self._score(pairs, errors, progress)
        columns = {"row": pa.array(range(shard.row, shard.row + shard.rows), pa.int64())}
        if self.job.columns.id is not None:
            columns["id"] = table["id"]
        columns["log_likelihood"] = _column(found, lambda one: one.sum, pa.float64())
        columns["tokens"] = _column(found, len, pa.int32())
        columns["cut_tokens"] = _column(found, lambda one: one.cut_tokens, pa.int32())
        if self.job.prior:
            columns["prior"] = _column(
                found, lambda one: one.prior_log_probs.sum(dtype="float64"), pa.float64()
            )
            columns["gain"] = _column(found, lambda one: one.gain, pa.float64())
        columns["error"] = pa.array(errors, pa.string())
        pq.write_table(pa.table(columns), part)
        cut = sum(one.cut_tokens > 0 for one in found if one is not None)
        return found.count(None), cut

    def _score(
        self,
        pairs: Sequence[tuple[str, str]],
        errors: list[str | None],
        progress: Progress | None,
    ) -> list[Likelihood | None]:
        """Likelihoods of the pairs that have no error; those that prove to have one are noted."""
        chosen = [number for number, error in enumerate(errors) if error is None]
        try:
            likelihoods = self.lm.score(
                [pairs[number] for number in chosen],
                self.template,
                prior=self.job.prior,
                max_passage_tokens=self.job.max_passage_tokens,
                progress=progress,
            )
        except ValueError:
            refused = self._refused(pairs, chosen)
            if not refused:
                raise
            for number, reason in refused.items():
                errors[number] = reason
            return self._score(pairs, errors, progress)
        found: list[Likelihood | None] = [None] * len(pairs)
        for number, likelihood in zip(chosen, likelihoods, strict=True):
            found[number] = likelihood
        return found

    def _refused(self, pairs: Sequence[tuple[str, str]], chosen: Sequence[int]) -> dict[int, str]:
        """Why some pairs cannot be scored: queries that leave no room for a passage."""
        refused = {}
        for number in chosen:
            try:
                self.lm.encode([pairs[number]], self.template, self.job.max_passage_tokens)
            except ValueError as error:
                refused[number] = str(error)
        return refused

    def _states(
        self, shard: Shard, table: pa.Table, part: Path, progress: Progress | None
    ) -> tuple[int, int]:
        assert self.job.states is not None
        passages = table["passage"].to_pylist()
        texts = [passage for passage in passages if _blank(passage=passage) is None]
        cut = self.job.max_passage_tokens
        plan = plan_states(self.lm, texts, self.template, cut, self.job.states)
        write_states(part, self.lm, plan, progress)
        encoded = self.lm.encode([("", text) for text in texts], self.template, cut)
        return len(passages) - len(texts), sum(pair.cut_tokens > 0 for pair in encoded)


def _blank(**texts: str | None) -> str | None:
    """What is wrong with a row whose texts are these; None where nothing is."""
    for name, text in texts.items():
        if text is None or not text.strip():
            return f"the {name} is empty, or no text"
    return None


def _column(found: Sequence[Likelihood | None], value: Any, kind: pa.DataType) -> pa.Array:
    return pa.array([None if one is None else value(one) for one in found], kind)
