"""PassageIndexWriter makes an index, or adds to the one that is there."""

import pytest
from haystack import Document, Pipeline
from haystack.document_stores.types import DuplicatePolicy

from trlm_retrieval.components import PassageIndexWriter
from trlm_retrieval.passage_index import PassageIndex


def documents(*ids: str) -> list[Document]:
    return [Document(id=i, content=f"passage {i}") for i in ids]


def test_makes_then_adds(tmp_path):
    writer = PassageIndexWriter(str(tmp_path / "index"), embedder=None)
    assert writer.run([]) == {"documents_written": 0}
    assert not (tmp_path / "index").exists()
    assert writer.run(documents("a", "b")) == {"documents_written": 2}
    assert writer.run(documents("b", "c")) == {"documents_written": 2}
    assert sorted(d.id for d in PassageIndex.open(tmp_path / "index").documents()) == [
        "a",
        "b",
        "c",
    ]


def test_skips_known_documents_where_asked(tmp_path):
    writer = PassageIndexWriter(str(tmp_path / "i"), embedder=None, policy=DuplicatePolicy.SKIP)
    writer.run(documents("a"))
    assert writer.run(documents("a", "b")) == {"documents_written": 1}


def test_blank_documents_are_refused_and_change_nothing(tmp_path):
    writer = PassageIndexWriter(str(tmp_path / "index"), embedder=None)
    writer.run(documents("a"))
    with pytest.raises(ValueError, match="blank"):
        writer.run([Document(id="blank", content="  ")])
    assert len(PassageIndex.open(tmp_path / "index")) == 1


def test_bad_settings():
    with pytest.raises(ValueError, match="faiss_kind"):
        PassageIndexWriter("x", faiss_kind="ivf")
    data = PassageIndexWriter("x").to_dict()
    data["init_parameters"]["policy"] = "SOMETIMES"
    with pytest.raises(ValueError, match="OVERWRITE"):
        PassageIndexWriter.from_dict(data)


def test_survives_a_pipeline_round_trip(tmp_path):
    writer = PassageIndexWriter("x", embedder=None, faiss_kind="hnsw", policy=DuplicatePolicy.SKIP)
    pipeline = Pipeline()
    pipeline.add_component("writer", writer)
    again = Pipeline.loads(pipeline.dumps()).get_component("writer")
    assert again.to_dict() == writer.to_dict() and again.policy is DuplicatePolicy.SKIP
