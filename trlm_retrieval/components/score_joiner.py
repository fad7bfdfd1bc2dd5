"""ScoreJoiner: one list out of those of several retrievers, by their standardised scores."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from haystack import Document, component
from haystack.core.component.types import Variadic

from trlm_retrieval.components.base import SerialisableComponent
from trlm_retrieval.components.fusion import standardised

logger = logging.getLogger(__name__)

_HIGHEST_FLOOR = -1.0  # deviations from the mean, of what a retriever did not find


@component
class ScoreJoiner(SerialisableComponent):
    """
    Joins what several retrievers found, by the weighted mean of their standardised scores.

    The scores of each retriever get a mean of 0 and a deviation of 1, so that BM25 and cosines can
    be added (a *convex combination*; Bruch et al., *An Analysis of Fusion Functions for Hybrid
    Retrieval*, 2023). Unlike reciprocal ranks this keeps how far a passage stands above the
    others. A document that a retriever did not find has its lowest score there, or one deviation
    below its mean where that is lower.

    It takes the place of Haystack's `DocumentJoiner`:

    ```python
    from haystack import Document
    from trlm_retrieval.components import ScoreJoiner

    by_words = [Document(id="a", score=9.0), Document(id="b", score=4.0)]
    by_meaning = [Document(id="c", score=0.7), Document(id="a", score=0.6)]
    by_meaning.append(Document(id="b", score=0.1))
    joined = ScoreJoiner().run([by_words, by_meaning])["documents"]
    print([document.id for document in joined])  # a, c, b
    ```
    """

    def __init__(self, *, weights: list[float] | None = None, top_k: int = 100) -> None:
        """
        Creates the joiner.

        :param weights: One for each retriever, in the order in which they are connected; by default
            all are equal.
        :param top_k: How many documents to return at most.
        :raises ValueError: If a weight is negative or no number, all are 0, or `top_k` is not
            positive.
        """
        if top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        if weights is not None and not (
            all(math.isfinite(weight) and weight >= 0 for weight in weights) and sum(weights) > 0
        ):
            raise ValueError(f"weights must be numbers of at least 0, and not all 0: {weights}")
        self.weights = weights
        self.top_k = top_k

    @component.output_types(documents=list[Document])
    def run(
        self, documents: Variadic[list[Document]], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """
        Joins lists of documents.

        A document whose score is missing or no number counts as not found by its retriever, and a
        warning tells how many there are.

        :param documents: The list of each retriever.
        :param top_k: Takes the place of the number given to the component.
        :returns: `documents`, copies with the mean as score, best first.
        :raises ValueError: If `top_k` is not positive, or there are more or fewer lists than
            weights.
        """
        top_k = self.top_k if top_k is None else top_k
        if top_k <= 0:
            raise ValueError(f"top_k must be positive, not {top_k}")
        lists = list(documents)
        weights = [1.0] * len(lists) if self.weights is None else self.weights
        if len(weights) != len(lists):
            raise ValueError(f"{len(weights)} weights do not fit {len(lists)} lists of documents")
        found: dict[str, Document] = {}
        for one in lists:
            for document in one:
                found.setdefault(document.id, document)
        places = {document: place for place, document in enumerate(found)}
        scores = np.zeros(len(found))
        for weight, one in zip(weights, lists, strict=True):
            scores += weight / sum(weights) * _spread(one, places)
        order = np.argsort(-scores, kind="stable")[:top_k]
        ordered = list(found.values())
        return {"documents": [replace(ordered[n], score=float(scores[n])) for n in order]}


def _spread(documents: Sequence[Document], places: dict[str, int]) -> np.ndarray:
    """One retriever's standardised scores of all documents, shape (documents,)."""
    known: dict[str, float] = {}
    for document in documents:
        if document.score is not None and math.isfinite(document.score):
            known[document.id] = max(document.score, known.get(document.id, -math.inf))
    if lacking := len({document.id for document in documents} - known.keys()):
        logger.warning(
            "%d documents have no score that is a number: they count as not found", lacking
        )
    values = standardised(list(known.values()))
    scores = np.full(len(places), min([_HIGHEST_FLOOR, *values]))
    scores[[places[document] for document in known]] = values
    return scores
