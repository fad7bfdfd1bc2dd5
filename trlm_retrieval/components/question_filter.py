"""QuestionFilter: how likely it is that a question asks for something unsafe."""

from haystack import component

from trlm_retrieval.components.linear_head import FOR_QUESTIONS, probability
from trlm_retrieval.components.piece_filter import PieceFilter


@component
class QuestionFilter(PieceFilter):
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

    _shipped = FOR_QUESTIONS

    def __init__(self, head: str | None = None) -> None:
        """
        Creates the filter; embedder and head are loaded by `warm_up` or on the first run.

        :param head: A file that `python -m trlm_retrieval.eval.studies.question_head` wrote; by
            default the shipped one.
        """
        PieceFilter.__init__(self, head)

    @component.output_types(scores=list[float])
    def run(self, texts: list[str]) -> dict[str, list[float]]:
        """
        Judges questions.

        :param texts: The questions.
        :returns: `scores`: for each the probability that it is unsafe, 0 to 1.
        :raises ModelError: If the embedder does not fit the head.
        """
        return {"scores": [float(probability(found.max())) for found in self._logits(texts)]}
