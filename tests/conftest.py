"""Tiny models and texts, made on the spot: the default tests download nothing."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trlm_retrieval.lm import TimeReversedLM

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before a test imports Haystack


class WordEmbedder:
    """An embedder of no weights: hashes words into 16 numbers."""

    name = "words"
    dimension = 16

    def embed(self, texts: Sequence[str], show_progress: bool = False) -> np.ndarray:
        vectors = np.full((len(texts), self.dimension), 0.01, dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in text.lower().split():
                row[crc32(word.encode("utf-8", "surrogatepass")) % self.dimension] += 1
        return vectors


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")  # while it is open, no asynchronous test can run
def browser() -> Iterator[Any]:
    """A headless Chromium; tests that need one are skipped where none is installed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages, ``open_page(width, scheme)``, that reach nothing but this machine.

    The test fails where one of them logs an error.
    """
    contexts, errors = [], []

    def make(width: int = 1000, scheme: str = "light", **settings: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 600}, color_scheme=scheme, **settings
        )
        contexts.append(context)
        context.route(
            lambda url: not url.startswith(("http://127.0.0.1", "file:")),
            lambda route: route.abort(),
        )
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(20_000)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture(scope="session")
def check_page() -> Callable[[Any], None]:
    """Fails where a page is wider than its window, or axe finds a serious violation."""
    from axe_playwright_python.sync_playwright import Axe

    def check(page: Any) -> None:
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"the page is {wide} pixels wider than its window"
        found = Axe().run(page).response["violations"]
        serious = [
            (one["id"], node["target"], node["failureSummary"])
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        assert not serious, serious

    return check


@pytest.fixture(scope="session")
def word_embedder() -> WordEmbedder:
    """An embedder that needs no download."""
    return WordEmbedder()


SAMPLE = (
    "The with statement wraps a block with methods defined by a context manager. "
    "A generator yields values one at a time, and raises StopIteration when it is done. "
    "How does a dictionary keep its keys? Insertion order is preserved since Python 3.7. "
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with 400 tokens and two special ones."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([SAMPLE], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|start|>", eos_token="<|end|>"
    )


def tiny_model(seed: int = 0, max_context: int = 512, **settings: Any) -> LlamaForCausalLM:
    """A randomly initialised Llama with grouped key/value heads."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": max_context,
            "initializer_range": 0.3,
            "bos_token_id": 0,
            "eos_token_id": 1,
            **settings,
        }
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session")
def make_tiny_lm() -> Callable[..., TimeReversedLM]:
    """Makes tiny random models: ``make_tiny_lm("reverse", max_context=64)``."""

    def make(order: str = "both", seed: int = 0, token_budget: int = 256, **settings: Any) -> Any:
        return TimeReversedLM(
            tiny_model(seed, **settings), tiny_tokenizer(), order=order, token_budget=token_budget
        )

    return make


def _save_tiny_bert(kind: Any, folder: Path, texts: Sequence[str], **settings: Any) -> Path:
    """A random BERT of two layers that knows the words of the texts."""
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
        **settings,
    )
    kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def keep_no_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found out about a model of a test is not kept in the user's cache."""
    monkeypatch.setattr("trlm_retrieval.models.findings._WORTH_KEEPING", float("inf"))


@pytest.fixture(scope="session")
def save_tiny_bert() -> Callable[..., Path]:
    """Saves a random BERT: ``save_tiny_bert(BertModel, folder, texts)``."""
    return _save_tiny_bert


@pytest.fixture(scope="session")
def tiny_lm(make_tiny_lm: Callable[..., TimeReversedLM]) -> TimeReversedLM:
    """A tiny random model trained (as it were) in both orders, so that it takes any direction."""
    return make_tiny_lm("both")


@pytest.fixture(scope="session")
def tiny_lm_folder(tiny_lm: TimeReversedLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the saved ``tiny_lm``."""
    folder = tmp_path_factory.mktemp("tiny-lm")
    tiny_lm.save(folder)
    return folder
