"""``trlm search`` without a question: a prompt that loads once and answers one after the other."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from trlm_retrieval.cli._ranking import Filters, Ranking
from trlm_retrieval.cli._terminal import count, err, out, working
from trlm_retrieval.errors import TRLMError, causes

PROMPT = "trlm> "
HELP = """\
Type a question, or:
  :explain 2         what passage 2 did for each word of the last question
  :filter topic=io   only passages whose field has this value; alone, all of them again
  :top 5             passages to show
  :model NAME        rank with another model
  :help              this list
Ctrl-D ends."""


class Asked(Protocol):
    """Who answers: a loaded pipeline, or a running server."""

    def ask(self, query: str, explain: bool = False, filters: Filters | None = None) -> Ranking:
        """Rank the candidates for a question."""


@dataclass
class Conversation:
    """Questions at a prompt, and what is set between them.

    :param searcher: who answers.
    :param show: prints a ranking: all it found, and how many are to be shown.
    :param filters_of: turns ``field=value`` into filters.
    :param load: loads a searcher with another model; None where the model is a server's.
    :param top_k: passages to show.
    :param loading: seconds that were spent before the first question.
    """

    searcher: Asked
    show: Callable[[Ranking, int], None]
    filters_of: Callable[[list[str]], Filters | None]
    load: Callable[[str], Asked] | None
    top_k: int
    loading: float
    filters: Filters | None = None
    last: Ranking | None = field(default=None, init=False)

    def run(self) -> None:
        """Ask and answer until the end of input."""
        with suppress(ImportError):  # Windows's own console has a history and its keys
            import readline  # noqa: F401 (gives both to `input`)
        err.print(
            f"Ready after {self.loading:.1f} s. Ask a question; :help lists what else there is, "
            "Ctrl-D ends.",
            style="dim",
        )
        while True:
            try:
                line = input(PROMPT).strip()
            except EOFError:
                out.print()
                return
            if line:
                self._answer(line)

    def _answer(self, line: str) -> None:
        """Answer a line; a mistake is told and costs nothing else."""
        try:
            if line.startswith(":"):
                self._command(*line[1:].partition(" ")[::2])
            else:
                self._ask(line)
        except Exception as error:
            told = [cause for cause in causes(error) if isinstance(cause, TRLMError | ValueError)]
            if not told:
                raise
            err.print(f"error: {' '.join(str(told[0]).split())}", markup=False, soft_wrap=True)

    def _ask(self, question: str, explain: bool = False) -> Ranking:
        with working("Ranking"):
            found = self.searcher.ask(question, explain, self.filters)
        if not explain:
            self.last = found
            self.show(found, self.top_k)
        return found

    def _command(self, name: str, value: str) -> None:
        value = value.strip()
        if name == "explain":
            self._explain(_number(value))
        elif name == "filter":
            self.filters = self.filters_of([value]) if value else None
            out.print(f"only passages with {value}" if value else "all passages", markup=False)
        elif name == "top":
            self.top_k = _number(value)
            out.print(f"shows {count(self.top_k, 'passage')}")
        elif name == "model":
            if self.load is None:
                raise ValueError("the server ranks with its own model")
            with working("Loading"):
                self.searcher = self.load(value)
            out.print(f"ranks with {value}", markup=False)
        elif name == "help":
            out.print(HELP, markup=False)
        else:
            raise ValueError(f"there is no :{name}; :help lists what there is")

    def _explain(self, number: int) -> None:
        if self.last is None:
            raise ValueError("ask a question first")
        if number > len(self.last.documents):
            raise ValueError(
                f"the last question found {count(len(self.last.documents), 'passage')}"
            )
        wanted = self.last.documents[number - 1].id
        found = self._ask(self.last.query, explain=True)
        chosen = [document for document in found.documents if document.id == wanted]
        self.show(Ranking(found.query, chosen, found.seconds, found.candidates), 1)


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"give a number from 1, not {text!r}")
    return int(text)
