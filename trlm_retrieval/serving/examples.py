"""Things to search an index for, taken from the index itself."""

from collections.abc import Iterable
from itertools import islice

from haystack import Document

from trlm_retrieval.index_data import demo_qrels, demo_queries
from trlm_retrieval.passage_index.documents import PREDICTED_QUERIES

_NUMBER = 4
_LOOKED_AT = 1000  # passages
_TITLE = " › "


def example_questions(indexed: Iterable[Document]) -> list[str]:
    """At most four: the demo's own questions, or queries that were predicted, or titles.

    They are taken from passages far apart, and none comes twice.

    :param indexed: the passages of the index, of which the first thousand are looked at.
    """
    documents = list(islice(indexed, _LOOKED_AT))
    there = {document.id for document in documents}
    judged = demo_qrels()
    asked = [text for id, text in demo_queries().items() if judged[id].keys() <= there]
    found = asked or [text for document in documents if (text := _example(document))]
    distinct = list(dict.fromkeys(found))
    step = max(1, len(distinct) // _NUMBER)
    return distinct[::step][:_NUMBER]


def _example(document: Document) -> str:
    """A predicted query of a passage, else the last heading above it; else nothing."""
    predicted = document.meta.get(PREDICTED_QUERIES) or [document.meta.get("title") or ""]
    return str(predicted[0]).rpartition(_TITLE)[2].strip()
