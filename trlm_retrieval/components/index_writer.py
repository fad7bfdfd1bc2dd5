"""PassageIndexWriter: the end of an indexing pipeline."""

from pathlib import Path
from typing import Any, Literal

from haystack import Document, component, default_from_dict
from haystack.document_stores.types import DuplicatePolicy

from trlm_retrieval.components.base import SerialisableComponent
from trlm_retrieval.passage_index import PassageIndex


@component
class PassageIndexWriter(SerialisableComponent):
    """
    Writes documents to a passage index: a new one, or added to the one that is there.

    Usage:

    ```python
    from haystack import Document
    from trlm_retrieval.components import PassageIndexWriter

    writer = PassageIndexWriter(index="trlm-index")
    writer.run([Document(content="A generator yields values one at a time.")])
    ```
    """

    def __init__(
        self,
        index: str = "trlm-index",
        *,
        embedder: str | None = "minilm",
        faiss_kind: Literal["flat", "hnsw"] = "flat",
        policy: DuplicatePolicy = DuplicatePolicy.OVERWRITE,
    ) -> None:
        """
        Creates the writer.

        :param index: The index folder; it is made if it is not there.
        :param embedder: Embedding model of a new index: a name from `trlm models list`, a folder
            or a hub id; None for an index without dense retrieval. An index that is there keeps
            its own.
        :param faiss_kind: `flat` (exact) or `hnsw` (approximate, for large indexes), for a new
            index.
        :param policy: What happens to documents whose id is in the index already.
        :raises ValueError: If `faiss_kind` is neither of them.
        """
        if faiss_kind not in ("flat", "hnsw"):
            raise ValueError(f"faiss_kind must be 'flat' or 'hnsw', not {faiss_kind!r}")
        self.index = index
        self.embedder = embedder
        self.faiss_kind: Literal["flat", "hnsw"] = faiss_kind
        self.policy = policy

    def _parameters(self) -> dict[str, Any]:
        return SerialisableComponent._parameters(self) | {"policy": self.policy.name}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PassageIndexWriter":
        """
        Restores the component from what `to_dict` gave.
        """
        parameters = dict(data.get("init_parameters", {}))
        policy = parameters.get("policy")
        if policy is not None:
            if policy not in DuplicatePolicy.__members__:
                known = ", ".join(DuplicatePolicy.__members__)
                raise ValueError(f"policy must be one of {known}, not {policy!r}")
            parameters["policy"] = DuplicatePolicy[policy]
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    @component.output_types(documents_written=int)
    def run(self, documents: list[Document]) -> dict[str, int]:
        """
        Writes documents.

        :param documents: Passages; embeddings that they carry are used.
        :returns: `documents_written`: how many of them are in the index now because of this call.
        :raises ValueError: If a document holds no text.
        :raises PassageIndexError: If the folder holds something else, or a damaged index.
        """
        if not documents:
            return {"documents_written": 0}
        if Path(self.index).exists():
            index = PassageIndex.open(self.index)
            return {"documents_written": index.add(documents, policy=self.policy)}
        index = PassageIndex.build(
            self.index, documents, embedder=self.embedder, faiss_kind=self.faiss_kind
        )
        return {"documents_written": len(index)}
