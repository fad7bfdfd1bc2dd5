from pathlib import Path

import pytest

from tests.passage_index.examples import ANIMALS, LetterEmbedder
from trlm_retrieval.passage_index import PassageIndex


@pytest.fixture
def embedder() -> LetterEmbedder:
    return LetterEmbedder()


@pytest.fixture
def index(tmp_path: Path, embedder: LetterEmbedder) -> PassageIndex:
    return PassageIndex.build(tmp_path / "index", ANIMALS, embedder=embedder)
