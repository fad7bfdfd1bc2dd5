"""Documents and an embedder for the tests of the index."""

import random
from collections.abc import Sequence

import numpy as np
from haystack import Document


class LetterEmbedder:
    """Counts the letters a to h: texts with the same letters are near."""

    name = "letters"
    dimension = 8

    def __init__(self) -> None:
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str], show_progress: bool = False) -> np.ndarray:
        self.seen += texts
        return np.array([[t.count(c) + 0.01 for c in "abcdefgh"] for t in texts], dtype=np.float32)


ANIMALS = [
    Document(id="cat", content="The cat sleeps all day.", meta={"legs": 4, "title": "Cats"}),
    Document(id="dog", content="A dog barks at the cat.", meta={"legs": 4}),
    Document(id="hen", content="The hen lays an egg.", meta={"legs": 2}),
    Document(id="carp", content="Carps swim.", meta={"legs": 0, "where": ["pond", "river"]}),
]


def ids(documents: Sequence[Document]) -> list[str]:
    return [document.id for document in documents]


LETTERED = ["alpha", "beta", "gamma", "delta", "head", "cafe", "bad"]


def many(n: int, start: int = 0) -> list[Document]:
    draw = random.Random(start)
    return [
        Document(
            id=f"d{i}",
            content=" ".join(draw.choices(LETTERED, k=9)),
            meta={"n": i},
        )
        for i in range(start, start + n)
    ]
