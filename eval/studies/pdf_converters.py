"""Compare converters of PDF: how fast they are, and how well what they read can be searched.

    python -m trlm_retrieval.eval.studies.pdf_converters manual.pdf guide.pdf.gz --words FILE

A text of the same name beside a PDF (``manual.txt``, ``guide.txt.gz``) is taken for the same book,
whose words are compared. Needs the extras `bench` and `convert`, and a list of words, one a line
(Debian's package `wamerican`).
"""

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trlm_retrieval.files import COMPRESSED, read_bytes
from trlm_retrieval.passage_index.converting import decode
from trlm_retrieval.passage_index.pdf import pages

_WORD = re.compile(r"[^\W\d_]+")
_HYPHEN = re.compile(r"[^\W\d_][-\u00ad\u2010\ufffe\x02]\s*\n\s*[^\W\d_]")
_PART = 4  # letters of a half: shorter ones make many words look joined that are not


def pypdf(data: bytes) -> list[str]:
    from pypdf import PdfReader

    return [page.extract_text() for page in PdfReader(BytesIO(data)).pages]


def pdfminer(data: bytes) -> list[str]:
    from pdfminer.high_level import extract_text

    return extract_text(BytesIO(data)).removesuffix("\f").split("\f")


def pypdfium2(data: bytes) -> list[str]:
    """What `trlm index` does."""
    return pages(data)


def pdfplumber(data: bytes) -> list[str]:
    import pdfplumber as library

    with library.open(BytesIO(data)) as document:
        return [page.extract_text() for page in document.pages]


CONVERTERS: dict[str, Callable[[bytes], list[str]]] = {
    function.__name__: function for function in (pypdf, pdfminer, pypdfium2, pdfplumber)
}


@dataclass
class Found:
    """What a converter made of one file or of several.

    :ivar known: words of the list, of ``words`` that are long enough to be looked up.
    :ivar joined: words that are not in the list and are two of the list written together.
    :ivar hyphens: words that a line end cuts at a hyphen.
    :ivar precision: share of what was read that the text beside the PDF holds, one for each text.
    :ivar recall: share of the text beside the PDF that was read.
    """

    seconds: float = 0.0
    characters: int = 0
    pages: int = 0
    empty: int = 0
    words: int = 0
    known: int = 0
    joined: int = 0
    hyphens: int = 0
    precision: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def measure(read: list[str], known: set[str], reference: str | None, into: Found) -> None:
    """Add the figures of one file."""
    text = "\n".join(read)
    into.characters += len(text)
    into.pages += len(read)
    into.empty += sum(not page.strip() for page in read)
    into.hyphens += len(_HYPHEN.findall(text))
    words = Counter(word.lower() for word in _WORD.findall(text))
    for word, times in words.items():
        if len(word) < _PART or not word.isascii():
            continue
        into.words += times
        if word in known:
            into.known += times
        elif any(
            word[:cut] in known and word[cut:] in known
            for cut in range(_PART, len(word) - _PART + 1)
        ):
            into.joined += times
    if reference is not None:
        expected = Counter(word.lower() for word in _WORD.findall(reference))
        shared = (words & expected).total()
        into.precision.append(shared / max(words.total(), 1))
        into.recall.append(shared / max(expected.total(), 1))


def beside(pdf: Path) -> str | None:
    """The text of the same name, compressed or not."""
    name = pdf.with_suffix("") if pdf.suffix.lower() in COMPRESSED else pdf
    for ending in ("", *COMPRESSED):
        text = name.with_suffix(".txt" + ending)
        if text.is_file():
            return decode(read_bytes(text))[0]
    return None


def table(found: dict[str, Found]) -> Table:
    """The figures of all files together, a row for each converter."""
    titles = (
        "converter;seconds;characters;pages without text;words known;joined;cut by hyphens;"
        "precision;recall;failures"
    )
    shown = Table(*titles.split(";"))
    for name, one in found.items():
        each = max(one.words, 1)
        shared = [sum(part) / max(len(part), 1) for part in (one.precision, one.recall)]
        shown.add_row(
            name,
            f"{one.seconds:.1f}",
            f"{one.characters:,}",
            f"{one.empty:,} of {one.pages:,}",
            f"{one.known / each:.2%}",
            f"{one.joined / each:.2%}",
            f"{one.hyphens:,}",
            *(f"{share:.2%}" for share in shared),
            str(len(one.failures)),
        )
    return shown


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trlm_retrieval.eval.studies.pdf_converters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pdfs", nargs="+", type=Path, metavar="PDF")
    parser.add_argument("--words", type=Path, default=Path("/usr/share/dict/words"))
    options = parser.parse_args()
    known = {word.lower() for word in options.words.read_text(encoding="utf-8").split()}
    found = {name: Found() for name in CONVERTERS}
    for pdf in options.pdfs:
        data, reference = read_bytes(pdf), beside(pdf)
        for name, convert in CONVERTERS.items():
            started = time.process_time()
            try:
                read = convert(data)
            except Exception as error:  # noqa: BLE001  # whatever a converter fails with is told
                found[name].failures.append(f"{pdf}: {error}")
                continue
            finally:
                found[name].seconds += time.process_time() - started
            measure(read, known, reference, found[name])
    console = Console(width=160)
    console.print(table(found))
    for name, one in found.items():
        for failure in one.failures:
            console.print(f"{name}: {failure}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
