"""Generated queries kept on disk, so that a killed evaluation continues where it was."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries
from trlm_retrieval.lm.likelihood import Progress

_PASSAGES_A_WRITE = 16


class QueryCache:
    """A JSON lines file of queries by model fingerprint, template, sampling, cut and passage.

    Lines that a killed run left unfinished are passed over.

    :param path: the file; its folder is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._known: dict[str, list[str]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
                self._known[entry["key"]] = [str(text) for text in entry["queries"]]
            except (ValueError, KeyError, TypeError):
                continue  # its writing was killed: it is generated again

    def queries(
        self,
        lm: TimeReversedLM,
        passages: Sequence[str],
        number: int,
        template: Template,
        sampling: Sampling,
        max_passage_tokens: int | None,
        progress: Progress,
    ) -> list[list[str]]:
        """Distinct queries for each passage; those that are not known yet are generated.

        See :func:`~trlm_retrieval.lm.generation.generate_queries`.
        """
        scope = f"{lm.fingerprint}|{template}|{sampling}|{number}|{max_passage_tokens}|"
        keys = [_key(scope + passage) for passage in passages]
        missing = {
            key: passage
            for key, passage in zip(keys, passages, strict=True)
            if key not in self._known
        }
        progress(sum(key in self._known for key in keys))
        todo = list(missing)
        for start in range(0, len(todo), _PASSAGES_A_WRITE):
            chunk = todo[start : start + _PASSAGES_A_WRITE]
            found = generate_queries(
                lm,
                [missing[key] for key in chunk],
                number,
                direction=template,
                sampling=sampling,
                max_passage_tokens=max_passage_tokens,
                progress=progress,
            )
            texts = {
                key: [query.text for query in queries]
                for key, queries in zip(chunk, found, strict=True)
            }
            lines = [json.dumps({"key": key, "queries": texts[key]}) for key in chunk]
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" + "\n".join(lines) + "\n")  # first to end an unfinished line
            self._known |= texts
        return [self._known[key] for key in keys]


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
