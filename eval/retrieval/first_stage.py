"""First stages of a retrieval evaluation: BM25, dense and their fusion, or a run that is given."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from haystack import Document
from haystack.components.joiners import DocumentJoiner

from trlm_retrieval.components.score_joiner import ScoreJoiner
from trlm_retrieval.errors import DataError, PassageIndexError
from trlm_retrieval.files import only_writer
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset
from ..result import timed
from ..runs import Run, ranked

BOTH = ("bm25", "dense")


def named(stages: Sequence[str], embedder: str) -> str:
    """What a first stage is called, such as ``BM25 + minilm``."""
    return " + ".join({"bm25": "BM25", "dense": embedder}[stage] for stage in stages)


def best(run: Mapping[str, float], number: int) -> dict[str, float]:
    """The documents with the highest scores, best first."""
    return {document: run[document] for document in ranked(run)[:number]}


def given_run(
    given: Run,
    dataset: RetrievalDataset,
    own: Collection[str],
    top_k: int,
    warnings: list[str],
) -> Run:
    """What of a run belongs to this collection, cut to ``top_k`` documents a query.

    :param own: ids of queries whose own text stands in the corpus under their id; it is left out.
    :param warnings: what is left out or lacking is added, counted.
    :raises DataError: if nothing of it belongs here.
    """
    there = {document.id for document in dataset.documents}
    run: Run = {}
    unknown = 0
    for query in dataset.queries:
        found = given.get(query, {})
        known = {doc: score for doc, score in found.items() if doc in there}
        unknown += len(found) - len(known)
        if query in own:
            known.pop(query, None)
        if known:
            run[query] = best(known, top_k)
    if not run:
        raise DataError(
            "the run holds no query of this collection with a document of its corpus; is it for "
            "another one?"
        )
    if unknown:
        warnings.append(f"{unknown} documents of the run are not in the corpus and are left out")
    lacking = len(dataset.queries) - len(run)
    if lacking:
        warnings.append(f"the run lacks {lacking} of {len(dataset.queries)} queries")
    return run


def search(
    dataset: RetrievalDataset,
    stages: Sequence[str],
    own: Collection[str],
    top_k: int,
    embedder: str,
    cache_folder: Path,
    seconds: dict[str, float],
    show_progress: bool,
) -> dict[str, Run]:
    """Runs of the first stages named, and of their fusion where both are.

    :param own: ids of queries whose own text stands in the corpus under their id; it is left out.
    :param embedder: of the dense stage.
    :param seconds: what each step took is added.
    """
    with timed(seconds, "index"):
        index = _open_index(
            dataset, embedder if "dense" in stages else None, cache_folder, show_progress
        )
    found: dict[str, dict[str, list[Document]]] = {}
    for name in stages:
        find = index.search_bm25 if name == "bm25" else index.search_dense
        with (
            timed(seconds, name),
            progress_bar(f"Searching {name}", len(dataset.queries), show_progress) as advance,
        ):
            found[name] = {}
            for query, text in dataset.queries.items():
                documents = find(text, top_k=top_k + (query in own))
                found[name][query] = [
                    document for document in documents if query not in own or document.id != query
                ][:top_k]
                advance(1)
    runs = {
        name: {query: _scores(documents) for query, documents in by_query.items() if documents}
        for name, by_query in found.items()
    }
    if len(stages) > 1:
        with timed(seconds, "fusion"):
            runs["fusion"] = joined([runs[name] for name in stages], ScoreJoiner(top_k=top_k))
    return runs


def joined(runs: Sequence[Run], joiner: DocumentJoiner | ScoreJoiner) -> Run:
    """What a joiner makes of several runs, each with its best documents first."""
    return {
        query: _scores(
            joiner.run(
                [
                    [Document(id=name, score=score) for name, score in run.get(query, {}).items()]
                    for run in runs
                ]
            )["documents"]
        )
        for query in dict.fromkeys(query for run in runs for query in run)
    }


def _scores(documents: Sequence[Document]) -> dict[str, float]:
    return {document.id: document.score or 0.0 for document in documents}


def _open_index(
    dataset: RetrievalDataset, embedder: str | None, cache_folder: Path, show_progress: bool
) -> PassageIndex:
    """The index of the collection out of the cache; without an embedder, of its words alone."""
    digest = hashlib.sha256((embedder or "").encode())
    for document in dataset.documents:
        text = f"\0{document.id}\0{passage_text(document)}"
        digest.update(text.encode("utf-8", "surrogatepass"))
    folder = cache_folder / "indexes" / digest.hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(folder.with_name(f"{folder.name}.lock")):  # another may be building it
        try:
            return PassageIndex.open(folder)
        except PassageIndexError:  # not built yet, or its building was killed
            return PassageIndex.build(
                folder, dataset.documents, embedder=embedder, show_progress=show_progress
            )
