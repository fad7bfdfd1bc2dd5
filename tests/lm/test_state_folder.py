"""Passage states on disk: exact, checked, and replaced whole or not at all."""

import json

import numpy as np
import pytest
import torch

from trlm_retrieval.errors import StatesError
from trlm_retrieval.lm import PassageStates
from trlm_retrieval.lm.state_folder import StateFolder
from trlm_retrieval.lm.state_writing import plan_states, write_states
from trlm_retrieval.lm.states import StateFormat

PASSAGES = [f"Passage number {i} speaks of {'many ' * i}things." for i in range(12)]
QUERIES = ["what of things?", "number"]
PAIRS = [(query, passage) for query in QUERIES for passage in PASSAGES]


def sums(likelihoods):
    return [likelihood.sum for likelihood in likelihoods]


def write(lm, folder, passages=PASSAGES, **settings):
    form = StateFormat(**settings)
    plan = plan_states(lm, passages, "ba", 30, form)
    write_states(folder, lm, plan)
    return plan


def score(lm, states=None):
    lm.states = PassageStates(0) if states is None else states
    return sums(lm.score(PAIRS, "ba", max_passage_tokens=30))


def reading(source, max_bytes=2**30):
    states = PassageStates(max_bytes)
    states.read_from(source)
    return states


@pytest.fixture
def tiny_lm(make_tiny_lm):
    return make_tiny_lm("both")


@pytest.fixture
def folder(tiny_lm, tmp_path):
    write(tiny_lm, tmp_path / "states")
    return tmp_path / "states"


def test_scores_from_disk_are_exact_and_nothing_is_read_again(tiny_lm, folder, monkeypatch):
    expected = score(tiny_lm)
    states = reading(StateFolder(folder, tiny_lm, "ba", 30))
    read = []
    original = tiny_lm.model.base_model.forward
    monkeypatch.setattr(
        tiny_lm.model.base_model,
        "forward",
        lambda **inputs: read.append(inputs["input_ids"].numel()) or original(**inputs),
    )
    assert score(tiny_lm, states) == pytest.approx(expected, abs=1e-3)
    assert sum(read) == sum(len(pair.target) for pair in tiny_lm.encode(PAIRS, "ba"))
    assert states.misses == 0 and len(states) == 0


@pytest.mark.parametrize("settings", [{}, {"precision": "int8"}])
def test_what_is_planned_is_what_is_written(tiny_lm, tmp_path, settings):
    plan = write(tiny_lm, tmp_path / "states", **settings)
    written = StateFolder(tmp_path / "states", tiny_lm, "ba", 30)
    assert len(written) == len(plan.contexts) == len(PASSAGES)
    assert written.nbytes == plan.bytes == (tmp_path / "states" / "states.bin").stat().st_size
    memory = PassageStates(form=StateFormat(**settings))
    score(tiny_lm, memory)
    assert memory.bytes == plan.bytes
    assert score(tiny_lm, reading(written)) == pytest.approx(score(tiny_lm, memory), abs=1e-3)


def test_passages_that_are_not_there_are_computed(tiny_lm, tmp_path):
    write(tiny_lm, tmp_path / "states", PASSAGES[:5])
    states = reading(StateFolder(tmp_path / "states", tiny_lm, "ba", 30))
    assert score(tiny_lm, states) == pytest.approx(score(tiny_lm), abs=1e-3)
    assert len(states) == 7


@pytest.mark.parametrize("file", ["manifest.json", "entries.npy", "states.bin"])
@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped"])
def test_damage_is_named_and_never_used(tiny_lm, folder, file, harm):
    path = folder / file
    data = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(StatesError, match=r"trlm index --states"):
        score(tiny_lm, reading(StateFolder(folder, tiny_lm, "ba", 30)))


def test_states_of_another_model_template_or_cut_are_refused(tiny_lm, make_tiny_lm, folder):
    for lm, direction, cut, name in (
        (make_tiny_lm("both", seed=3), "ba", 30, "model"),
        (tiny_lm, "fo", 30, "template"),
        (tiny_lm, "ba", 31, "max passage tokens"),
    ):
        with pytest.raises(StatesError, match=f"another {name}.*trlm index --states"):
            StateFolder(folder, lm, direction, cut)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    with pytest.raises(StatesError, match="format 1, and this version reads 2: make"):
        StateFolder(folder, tiny_lm, "ba", 30)


def test_a_failed_writing_leaves_the_earlier_states(tiny_lm, folder, monkeypatch):
    def failing(done):
        raise KeyboardInterrupt

    before = sorted(path.read_bytes() for path in folder.iterdir())
    plan = plan_states(tiny_lm, PASSAGES[:3], "ba", 30)
    with pytest.raises(KeyboardInterrupt):
        write_states(folder, tiny_lm, plan, failing)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == before
    assert {path.name for path in folder.parent.iterdir()} - {".states.lock"} == {"states"}
    write_states(folder, tiny_lm, plan)
    assert len(StateFolder(folder, tiny_lm, "ba", 30)) == 3
    assert {path.name for path in folder.parent.iterdir()} - {".states.lock"} == {"states"}


def test_a_full_disk_is_told_before_anything_is_computed(tiny_lm, folder, monkeypatch):
    monkeypatch.setattr(
        "trlm_retrieval.lm.state_writing.shutil.disk_usage", lambda _: type("", (), {"free": 1000})
    )
    plan = plan_states(tiny_lm, PASSAGES, "ba", 30)
    with pytest.raises(StatesError, match=r"disk has 0\.00 GB left"):
        write_states(folder, tiny_lm, plan)


def test_only_what_has_states_is_planned(tiny_lm, make_tiny_lm):
    with pytest.raises(StatesError, match="has the query as context"):
        plan_states(tiny_lm, PASSAGES, "forward")
    lm = make_tiny_lm("both")
    lm.network.supports_states = False
    with pytest.raises(StatesError, match="states can be kept"):
        plan_states(lm, PASSAGES)


def test_a_mapped_state_is_what_memory_holds(tiny_lm, folder):
    memory = PassageStates()
    score(tiny_lm, memory)
    mapped = StateFolder(folder, tiny_lm, "ba", 30)
    for key, state in memory._kept.items():
        found = mapped.get(key)
        assert found is not None and torch.equal(found.numbers, state.numbers)
    assert mapped.get(b"?" * 32) is None
    assert np.all(mapped._verified)
