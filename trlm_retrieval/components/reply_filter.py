"""ReplyFilter: how likely it is that a reply does something unsafe."""

import numpy as np
from haystack import component

from trlm_retrieval.components.linear_head import FOR_REPLIES, probability
from trlm_retrieval.components.piece_filter import PieceFilter

_STRETCH = 8  # pieces, some 2000 characters: as long as the replies that the head learned from


@component
class ReplyFilter(PieceFilter):
    """
    Judges replies by what they say: a linear head on sentence embeddings.

    A reply is judged piece by piece, and the mean of its pieces counts. A long one is read in
    stretches of at most 2000 characters, to its end; its worst stretch counts.

    The shipped head is small and knows English replies only; `docs/safety.md` tells how often it
    errs. It is meant to stand inside a `TRLMSafetyFilter`.

    Usage:

    ```python
    from trlm_retrieval.components import ReplyFilter

    print(ReplyFilter().run(texts=["Mix flour and water, and wait."])["scores"])
    ```
    """

    _shipped = FOR_REPLIES

    def __init__(self, head: str | None = None) -> None:
        """
        Creates the filter; embedder and head are loaded by `warm_up` or on the first run.

        :param head: A file that `python -m trlm_retrieval.eval.studies.reply_head` wrote; by
            default the shipped one.
        """
        PieceFilter.__init__(self, head)

    @component.output_types(scores=list[float])
    def run(self, texts: list[str]) -> dict[str, list[float]]:
        """
        Judges replies.

        :param texts: The replies.
        :returns: `scores`: for each the probability that it is unsafe, 0 to 1.
        :raises ModelError: If the embedder does not fit the head.
        """
        logits = np.array([worst(found) for found in self._logits(texts)])
        return {"scores": probability(logits).tolist()}


def worst(logits: np.ndarray) -> float:
    """The highest mean over the stretches of a reply.

    :param logits: log odds of its pieces, (pieces,).
    """
    stretches = np.array_split(logits, -(-len(logits) // _STRETCH))  # hardly differ in length
    return max(float(stretch.mean()) for stretch in stretches)
