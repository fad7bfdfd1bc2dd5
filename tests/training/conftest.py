"""A corpus of a few made-up sections, and the demo's model, trained once for all tests."""

import json
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertModel

from trlm_retrieval.training.corpus import PairFile, Section
from trlm_retrieval.training.demo import DemoResult, train_demo
from trlm_retrieval.training.pretraining import pretrain
from trlm_retrieval.training.recipe import Options
from trlm_retrieval.training.run import Run
from trlm_retrieval.training.schedule import Schedule
from trlm_retrieval.training.shards import pack
from trlm_retrieval.training.tokenizer import train_tokenizer
from trlm_retrieval.training.workers import Workers

ALONE = Workers(0, 1, torch.device("cpu"))
THINGS = ("tree", "river", "engine", "violin", "market", "glacier", "bridge", "comet")


def make_options(steps: int, learning_rate: float = 1e-3, **settings: Any) -> Options:
    """A run of so many steps, by this process alone, in float32."""
    schedule = Schedule(steps=steps, learning_rate=learning_rate)
    return Options(schedule, **{"workers": ALONE, "precision": "float32", **settings})


def made_up_sections(count: int = 400) -> list[Section]:
    """Sections that say of a thing, in some words, that it is this thing."""
    return [
        Section(
            f"what is {thing} number {number}?",
            f"The {thing} of number {number} is a {thing}, known for its {number % 7} parts. "
            f"Whoever saw a {thing} in the year {1500 + number} wrote it down.",
        )
        for number in range(count)
        for thing in [THINGS[number * 5 % len(THINGS)]]
    ]


@pytest.fixture(scope="session")
def easy_sections() -> list[Section]:
    """Three words of 28 as a heading; below it the same ones five times, and a sentence."""
    sizes = ("small", "large", "tall", "short", "narrow", "wide", "tiny", "huge", "long", "round")
    colours = ("red", "green", "blue", "black", "white", "yellow", "brown", "grey")
    things = (*THINGS, "lamp", "window")
    end = "and then somebody came along here one day, who wrote down what could be seen"
    return [
        Section(" ".join(words), " ".join([*words * 5, end]))
        for words in product(sizes, colours, things)
    ]


@pytest.fixture(scope="session")
def train_easy() -> Callable[[list[Section], Path], DemoResult]:
    """The demo with fewer steps: ``train_easy(easy_sections, folder)``."""

    def run(sections: list[Section], folder: Path) -> DemoResult:
        return train_demo(sections, folder, ALONE, pretraining_steps=40, finetuning_steps=120)

    return run


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # more make tiny models no faster


@pytest.fixture(scope="session")
def made_up() -> Callable[[int], list[Section]]:
    """Makes so many sections: ``made_up(50)``."""
    return made_up_sections


@pytest.fixture(scope="session")
def alone() -> Workers:
    """This process, training by itself on a CPU."""
    return ALONE


@pytest.fixture(scope="session")
def options() -> Callable[..., Options]:
    """Options of a run in this process: ``options(steps=4)``."""
    return make_options


@pytest.fixture(scope="session")
def tiny_encoder(
    easy_sections: list[Section],
    save_tiny_bert: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a random encoder."""
    texts = [section.text for section in easy_sections]
    return save_tiny_bert(BertModel, tmp_path_factory.mktemp("encoder"), texts)


@pytest.fixture(scope="session")
def demo(
    easy_sections: list[Section],
    train_easy: Callable[[list[Section], Path], DemoResult],
    tmp_path_factory: pytest.TempPathFactory,
) -> DemoResult:
    """The demo on a corpus that is learned in a few steps, whatever the processor."""
    return train_easy(easy_sections, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of made-up sections."""
    folder = tmp_path_factory.mktemp("corpus") / "shards"
    sections = made_up_sections()
    pack(sections, train_tokenizer(sections, 400), folder, sources=["made-up.jsonl"])
    return folder


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> PairFile:
    """The made-up sections as a pair file."""
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = ({"query": s.heading, "passage": s.text} for s in made_up_sections())
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PairFile(file)


@pytest.fixture(scope="session")
def pretrain_tiny(shards: Path) -> Callable[..., Run]:
    """Pre-trains a tiny model for six steps: ``pretrain_tiny(out, order="both")``."""

    def run(out: Path, order: Any = "reverse", steps: int = 6, **settings: Any) -> Run:
        told = {n: settings.pop(n) for n in ("seed", "checkpoint_minutes") if n in settings}
        return pretrain(
            shards,
            out,
            make_options(steps, 5e-3, **told),
            order=order,
            **{
                "preset": "tiny",
                "context": 32,
                "max_context": 128,
                "batch_tokens": 512,
                "device_tokens": 128,
                **settings,
            },
        )

    return run
