"""Scores kept on disk, so a killed evaluation continues and other combinations cost nothing."""

import hashlib
import math
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.lm import Likelihood, Template, TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.progress import progress_bar

_PAIRS_A_COMMIT = 200
_WAIT_SECONDS = 60.0  # for another evaluation to finish its write of a few hundred rows
_COLUMNS = ["key", "sum", "tokens", "cut"]


class Score(NamedTuple):
    """What is kept of a likelihood: sum in nats, number of target tokens, passage tokens cut."""

    sum: float
    tokens: int
    cut_tokens: int

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.sum / self.tokens if self.tokens else 0.0


class ScoreCache:
    """An SQLite file of scores, keyed by model fingerprint, template, cut, query and passage.

    Several evaluations may share one: each waits while another writes.

    :param path: the file; its folder is made if it is not there.
    :raises DataError: if the file is something else, is damaged or cannot be written; so does
        :meth:`score`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._errors_named():
            self._connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
            tables = self._column("SELECT name FROM sqlite_master WHERE type = 'table'")
            columns = self._column("SELECT name FROM pragma_table_info('scores')")
            if tables and (tables, columns) != (["scores"], _COLUMNS):
                raise DataError(
                    f"{path} is a database of something else, not of scores; name another folder "
                    "with --cache-dir"
                )
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS scores "
                "(key BLOB PRIMARY KEY, sum REAL, tokens INTEGER, cut INTEGER) WITHOUT ROWID"
            )

    def score(
        self,
        lm: TimeReversedLM,
        pairs: Sequence[tuple[str, str]],
        template: Template,
        max_passage_tokens: int | None,
        progress: Progress,
    ) -> tuple[list[Score], int]:
        """Scores of (query, passage) pairs, and how many of them had to be computed.

        Pairs are scored passage by passage, so that all queries of a passage share its states;
        what is done is written every few hundred pairs.
        """

        def compute(chunk: Sequence[tuple[str, str]]) -> list[Score]:
            found = lm.score(
                chunk, template, max_passage_tokens=max_passage_tokens, progress=progress
            )
            return [_kept(likelihood) for likelihood in found]

        return self._complete(
            f"{lm.fingerprint}|{template}|{max_passage_tokens}", pairs, compute, progress
        )

    def cross_encoder(
        self, model: CrossEncoder, pairs: Sequence[tuple[str, str]], progress: Progress
    ) -> tuple[list[Score], int]:
        """Scores of (query, passage) pairs as ``sum``, and how many had to be computed."""

        def compute(chunk: Sequence[tuple[str, str]]) -> list[Score]:
            scores = model.scores(chunk, progress).tolist()
            return [
                Score(_finite(score), 1, cut)
                for score, cut in zip(scores, model.cut_tokens(chunk), strict=True)
            ]

        return self._complete(model.fingerprint, pairs, compute, progress)

    def _complete(
        self,
        scope: str,
        pairs: Sequence[tuple[str, str]],
        compute: Callable[[Sequence[tuple[str, str]]], list[Score]],
        progress: Progress,
    ) -> tuple[list[Score], int]:
        """Scores out of the file, and those that it lacks, which are computed and written."""
        keys = [_key(scope, query, passage) for query, passage in pairs]
        known = self._get(keys)
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        progress(len(pairs) - len(missing))
        ordered = sorted(missing, key=lambda key: (len(missing[key][1]), missing[key][1]))
        for start in range(0, len(ordered), _PAIRS_A_COMMIT):
            chunk = ordered[start : start + _PAIRS_A_COMMIT]
            fresh = dict(zip(chunk, compute([missing[key] for key in chunk]), strict=True))
            with self._errors_named(), self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)",
                    [(key, *score) for key, score in fresh.items()],
                )
            known.update(fresh)
        return [known[key] for key in keys], len(missing)

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        known: dict[bytes, Score] = {}
        for start in range(0, len(keys), 500):
            chunk = keys[start : start + 500]
            marks = ",".join("?" * len(chunk))
            with self._errors_named():
                rows = self._connection.execute(
                    f"SELECT key, sum, tokens, cut FROM scores WHERE key IN ({marks})", chunk
                ).fetchall()
            known.update({key: Score(*values) for key, *values in rows})
        return known

    def _column(self, statement: str) -> list[str]:
        return [name for (name,) in self._connection.execute(statement)]

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Say of an SQLite error which file it is about, and what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:  # the file may be sound: locked, full, read-only
            raise DataError(
                f"the score cache {self._path} cannot be used ({error}); wait until no other "
                "evaluation writes it and see that its folder is writable and has space, or name "
                "another folder with --cache-dir"
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self._path} is damaged or is not a score cache ({error}); delete it, and its "
                "scores are computed again, or name another folder with --cache-dir"
            ) from error


@dataclass
class CachedScorer:
    """What the methods of an evaluation score with.

    :ivar max_tokens: passages are cut to this many.
    :ivar cross_encoder: for the method of that name; None where it does not run.
    :ivar cut: by template or ``cross-encoder``, the passages that were read, and whether their end
        was left out.
    """

    lm: TimeReversedLM
    cache: ScoreCache
    embedder: SentenceEmbedder
    max_tokens: int | None
    show_progress: bool
    cross_encoder: CrossEncoder | None = None
    cut: dict[str, dict[str, bool]] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """How many of the different passages were cut, in a sentence for each way of reading."""
        return [note for name, cut in self.cut.items() for note in cut_note(name, cut.values())]

    def likelihoods(
        self, pairs: Sequence[tuple[str, str]], template: Template, whole: bool = False
    ) -> list[Score]:
        """Likelihoods of (query, passage) pairs, from the cache where they are known.

        :param whole: do not cut passages at ``max_tokens``.
        """
        most = None if whole else self.max_tokens
        with progress_bar(f"Scoring {template.name}", len(pairs), self.show_progress) as advance:
            scores, _ = self.cache.score(self.lm, pairs, template, most, advance)
        self._count(template.name, pairs, scores)
        return scores

    def cross_encoder_scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The cross-encoder's scores of (query, passage) pairs, from the cache where known."""
        assert self.cross_encoder is not None  # choose_methods has seen to it
        with progress_bar("Scoring cross-encoder", len(pairs), self.show_progress) as advance:
            scores, _ = self.cache.cross_encoder(self.cross_encoder, pairs, advance)
        self._count("cross-encoder", pairs, scores)
        return [score.sum for score in scores]

    def _count(self, name: str, pairs: Sequence[tuple[str, str]], scores: Sequence[Score]) -> None:
        counted = self.cut.setdefault(name, {})
        for (_, passage), score in zip(pairs, scores, strict=True):
            counted[passage] = counted.get(passage, False) or score.cut_tokens > 0


def priors(lm: TimeReversedLM, queries: Sequence[str], template: Template) -> np.ndarray:
    """log P(query) of each query, in nats, shape (queries,)."""
    found = []
    for one in lm.score([(query, "") for query in queries], template, prior=True):
        assert one.prior_log_probs is not None
        found.append(one.prior_log_probs.sum(dtype=np.float64))
    return np.array(found)


def cut_note(name: str, cut: Collection[bool]) -> list[str]:
    """How many passages were cut, in a sentence; nothing if none was."""
    number = sum(cut)
    return [f"{name}: {number} of {len(cut)} passages were cut to fit"] if number else []


def _kept(likelihood: Likelihood) -> Score:
    return Score(_finite(likelihood.sum), len(likelihood), likelihood.cut_tokens)


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise ModelError(
            f"the model gives a score of {score}, which ranks nothing: its weights may be damaged, "
            "or --dtype float32 may help"
        )
    return score


def _key(scope: str, query: str, passage: str) -> bytes:
    digest = hashlib.sha256()
    for part in (scope, query, passage):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()
