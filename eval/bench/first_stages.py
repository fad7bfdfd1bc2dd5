"""What a question costs before reranking: seconds of BM25, dense search and their fusion."""

from pathlib import Path
from tempfile import TemporaryDirectory

from ..dataset import RetrievalDataset
from ..retrieval.first_stage import BOTH, named, search

CANDIDATES = 100

_PASSAGES = 200  # embedding them is most of the time that this takes
_QUERIES = 50


def first_stage_seconds(dataset: RetrievalDataset, embedder: str) -> dict[str, float]:
    """Seconds a question, by the name of each first stage; fusion pays for both of its parts.

    They find 100 candidates among the first 200 documents of the collection.

    :raises ModelError: if the embedder is not there.
    """
    some = dict(list(dataset.queries.items())[:_QUERIES])
    part = RetrievalDataset(dataset.name, dataset.documents[:_PASSAGES], some, {})
    total: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        search(part, BOTH, (), CANDIDATES, embedder, Path(folder), total, False)
    total["fusion"] += sum(total[stage] for stage in BOTH)
    names = {stage: named([stage], embedder) for stage in BOTH} | {"fusion": named(BOTH, embedder)}
    return {name: total[stage] / len(some) for stage, name in names.items()}
