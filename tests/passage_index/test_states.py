"""States of an index are those that a ranker behind it looks up, and upserting replaces parts."""

from pathlib import Path

import pytest
from haystack import Document, Pipeline

from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.lm.state_writing import write_states
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.states import drop_states, plan_index_states, states_folder
from trlm_retrieval.pipelines.settings import search_settings

DOCUMENTS = [
    Document(id="a", content="A generator yields values.", meta={"section": "one", "title": "t"}),
    Document(id="b", content="The with statement calls exit.", meta={"section": "two"}),
]


@pytest.fixture
def index(tmp_path: Path) -> PassageIndex:
    folder = tmp_path / "index"
    return PassageIndex.build(
        folder, DOCUMENTS, embedder=None, meta_fields_to_embed=["section", "title"]
    )


def test_the_ranker_finds_the_states_of_an_index_with_its_own_meta_fields(
    index, tiny_lm, tiny_lm_folder
):
    plan = plan_index_states(index, tiny_lm, max_passage_tokens=512)
    write_states(states_folder(index.folder), tiny_lm, plan)
    settings = search_settings("retrieval", index.folder, str(tiny_lm_folder), 5)
    ranker = settings["components"]["ranker"]
    assert ranker["init_parameters"]["meta_fields_to_embed"] == ["section", "title"]
    ranker["init_parameters"] |= {"states_folder": str(states_folder(index.folder))}
    ranker["init_parameters"] |= {"device": None, "dtype": "float32"}
    loaded = TRLMRanker.from_dict(ranker)
    assert isinstance(Pipeline.from_dict(settings), Pipeline)
    loaded.warm_up()
    asked, found = [], []
    source = loaded._lm.states
    original = source.get

    def get(key):
        state = original(key)
        asked.append(key)
        found.append(state is not None)
        return state

    source.get = get
    loaded.run("what does a generator yield", list(index.documents()))
    assert len(asked) >= 2 and all(found)


def test_dropping(index):
    assert not drop_states(index.folder)
    states_folder(index.folder).mkdir()
    assert drop_states(index.folder) and not states_folder(index.folder).exists()


def test_upserting_replaces_the_parts_of_the_same_document(index):
    parts = [
        Document(id=f"long#{i}", content=f"Part {i}.", meta={"source_id": "long"}) for i in range(3)
    ]
    assert index.upsert(parts) == 0 and len(index) == 5
    assert index.upsert([parts[1], Document(id="a", content="New.")]) == 4
    assert [document.id for document in index.documents()] == ["a", "b", "long#1"]
    assert index.get("a").content == "New."


def test_meta_that_is_no_number_is_stored_as_nothing(tmp_path):
    meta = {"a": float("nan"), "b": [float("inf"), 1.5]}
    index = PassageIndex.build(
        tmp_path / "index", [Document(id="a", content="Text.", meta=meta)], embedder=None
    )
    assert index.get("a").meta == {"a": None, "b": [None, 1.5]}
