"""Findings are kept by what they depend on, and never trusted when damaged."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from trlm_retrieval.lm import TimeReversedLM, packing
from trlm_retrieval.lm.int8 import quantize_int8
from trlm_retrieval.models import findings


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, where everything is worth keeping."""
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(findings, "_WORTH_KEEPING", 0.0)
    return tmp_path / "cache" / "findings"


class Finder:
    """Counts how often something is found out."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> findings.Finding:
        self.times += 1
        return {"found": torch.arange(3.0) + self.times}


@pytest.fixture
def model(make_tiny_lm: Any, folder: Path) -> Any:
    made = make_tiny_lm("forward").model
    shutil.rmtree(folder)  # the finding of its packing
    return made


def kept(what: str, model: Any, find: Finder) -> list[float]:
    return findings.kept(what, model, __file__, find)["found"].tolist()


def test_a_finding_is_found_out_once(model: Any, folder: Path) -> None:
    find = Finder()
    assert kept("one", model, find) == kept("one", model, find) == [1.0, 2.0, 3.0]
    assert find.times == 1
    kept("two", model, find)
    assert find.times == 2 and len(list(folder.iterdir())) == 2


def test_it_depends_on_weights_dtype_and_versions(
    make_tiny_lm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Finder()
    kept("one", make_tiny_lm("forward").model, find)
    kept("one", make_tiny_lm("forward", seed=1).model, find)
    kept("one", make_tiny_lm("forward").model.bfloat16(), find)
    assert find.times == 3
    for library in ("torch", "transformers"):
        monkeypatch.setattr(f"{library}.__version__", "0.0")
        kept("one", make_tiny_lm("forward").model, find)
    assert find.times == 5


@pytest.mark.parametrize("damage", [b"", b"x" * 20, None])
def test_a_damaged_file_is_replaced(model: Any, folder: Path, damage: bytes | None) -> None:
    find = Finder()
    kept("one", model, find)
    [file] = folder.iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if damage is None else damage)
    assert kept("one", model, find) == [2.0, 3.0, 4.0]
    assert kept("one", model, find) == [2.0, 3.0, 4.0]
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_written(model: Any, folder: Path) -> None:
    folder.write_text("a file in its place")
    find = Finder()
    assert kept("one", model, find) == [1.0, 2.0, 3.0]
    assert kept("one", model, find) == [2.0, 3.0, 4.0]


def test_a_full_disk(model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    find = Finder()
    assert kept("one", model, find) == [1.0, 2.0, 3.0]
    assert list(folder.iterdir()) == []


def test_writers_at_the_same_time(model: Any, folder: Path) -> None:
    found: list[list[float]] = []
    find = Finder()
    threads = [
        threading.Thread(target=lambda: found.append(kept("one", model, find))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(list(folder.iterdir())) == 1
    assert kept("one", model, find) in found


def test_only_the_newest_stay(model: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "_MOST_FILES", 3)
    find = Finder()
    for number in range(5):
        kept(str(number), model, find)
    assert len(list(folder.iterdir())) == 3


def test_the_probe_of_packing_runs_once(make_tiny_lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [("who wrote it?", "Ada Lovelace wrote it.")]
    first: TimeReversedLM = make_tiny_lm("forward")
    monkeypatch.setattr(packing, "_is_equal", lambda network: pytest.fail("probed again"))
    second: TimeReversedLM = make_tiny_lm("forward")
    assert first.supports_states and second.supports_states
    assert second.score(pair)[0].sum == pytest.approx(first.score(pair)[0].sum)


def test_int8_weights_are_the_same_from_kept_inputs(make_tiny_lm: Any, folder: Path) -> None:
    weights = [
        {k: v.clone() for k, v in quantize_int8(make_tiny_lm("forward").model).state_dict().items()}
        for _ in range(2)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(file.stat().st_size > 1000 for file in folder.iterdir())
