"""QuestionFilter: how likely it is that a question asks for something unsafe."""

from pathlib import Path
from textwrap import wrap
from threading import Lock

from haystack import component

from trlm_retrieval.components.base import SerialisableComponent
from trlm_retrieval.components.question_head import SHIPPED, QuestionHead
from trlm_retrieval.models.embedder import SentenceEmbedder

_PIECE = 250  # characters: no more tokens than MiniLM reads, whatever the language


@component
class QuestionFilter(SerialisableComponent):
    """
    Judges questions one by one: a linear head on sentence embeddings.

    A text longer than a question is judged piece by piece, to its end; its worst piece counts.

    The shipped head is small and knows English questions only; `docs/safety.md` tells how often it
    errs. It is meant to stand inside a `TRLMSafetyFilter`.

    Usage:

    ```python
    from trlm_retrieval.components import QuestionFilter

    print(QuestionFilter().run(texts=["How do I bake bread?"])["scores"])
    ```
    """

    def __init__(self, head: str | None = None) -> None:
        """
        Creates the filter; embedder and head are loaded by `warm_up` or on the first run.

        :param head: A file that `python -m trlm_retrieval.eval.studies.question_head` wrote; by
            default the shipped one.
        """
        self.head = head
        self._head: QuestionHead | None = None
        self._embedder: SentenceEmbedder | None = None
        self._loading = Lock()

    def warm_up(self) -> None:
        """
        Loads head and embedder; does nothing if they are loaded.

        :raises ModelError: If one of them is not there.
        """
        with self._loading:
            if self._head is None:
                head = QuestionHead.load(Path(self.head) if self.head else SHIPPED)
                self._embedder = SentenceEmbedder(head.embedder)
                self._head = head

    @component.output_types(scores=list[float])
    def run(self, texts: list[str]) -> dict[str, list[float]]:
        """
        Judges questions.

        :param texts: The questions.
        :returns: `scores`: for each the probability that it is unsafe, 0 to 1.
        :raises ModelError: If the embedder does not fit the head.
        """
        self.warm_up()
        assert self._head is not None and self._embedder is not None
        if not texts:
            return {"scores": []}
        pieces = [wrap(text, _PIECE) or [text] for text in texts]
        vectors = self._embedder.embed([piece for of_text in pieces for piece in of_text])
        scores = iter(self._head.probabilities(vectors).tolist())
        return {"scores": [max(next(scores) for _ in of_text) for of_text in pieces]}
