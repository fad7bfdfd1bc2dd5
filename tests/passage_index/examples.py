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


def pdf(*pages: str) -> bytes:
    """A PDF of one page for each text, written by hand."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 20 700 Td ({text}) Tj ET".encode()
        bodies += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * n),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(bodies) + 1
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%s"
        b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF"
        % (size, table, size, len(data))
    )
