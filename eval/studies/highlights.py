"""The paper's own citation task: which sentence of an article does a highlight come from?

    python -m trlm_retrieval.eval.studies.highlights wikipedia.jsonl.xz --model trlm-small

The paper takes the highlights of news articles (*Time-Reversal Provides Unsupervised Feedback to
LLMs*, arXiv 2412.02626, section 5). Here the highlights are the second sentences of encyclopedia
articles, which sum up what comes below, and the article is what stands below the first paragraph.
Nobody has judged which sentence is right, so the picks are measured as in the paper: by the cosine
of the embeddings of highlight and pick, and by the share of the highlight's words that the pick
holds. *nearest* picks by the embedding itself: more than it cannot be reached.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.citation.search import SearchName, search
from trlm_retrieval.citation.support import OVERLAP_WEIGHT, ScoredHalf, shared_words, word_sets
from trlm_retrieval.errors import DataError
from trlm_retrieval.files import read_json_lines
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.text.sentences import sentence_spans

from ..citation.scorer import SCORED_HALVES, Scorer
from ..measures import PerQuery
from ..methods import choose_methods, run_methods
from ..result import Result, summarise
from ..sampling import draw
from ..score_cache import ScoreCache

SENTENCES = (8, 16)  # fewest and most of an article: an encoder reads 512 tokens
# Exclusion would read an article once a sentence.
_SEARCHES: tuple[SearchName, ...] = ("linear", "binary")
_HIGHLIGHT_WORDS = (8, 40)
_READ = 4000  # articles of the file, out of which some are drawn

Picks = list[tuple[int, int]]  # for each highlight the sentence, and the model calls it took


@dataclass(frozen=True)
class Article:
    """An article and a highlight of it; a blank stands behind each sentence."""

    id: str
    highlight: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """An article, and what picking each of its sentences is worth, shape (sentences,).

    :ivar cosines: of the embeddings of highlight and sentence.
    :ivar words: share of the highlight's words that the sentence holds.
    """

    article: Article
    cosines: np.ndarray
    words: np.ndarray


def load_articles(path: Path) -> list[Article]:
    """Articles of a file of ``{title, text}`` lines whose paragraphs are lines.

    :raises DataError: if a line has no text, or no article is long enough.
    """
    found = list(_articles(path))
    if not found:
        raise DataError(f"{path} holds no article with a highlight and {SENTENCES[0]} sentences")
    return found


def _articles(path: Path) -> Iterator[Article]:
    for number, row in islice(read_json_lines(path), _READ):
        if not isinstance(row.get("text"), str):
            raise DataError(f"{path}, line {number}: needs text")
        lead, _, body = row["text"].partition("\n")
        spans = sentence_spans(lead)
        sentences = [f"{span.of(body)} " for span in sentence_spans(body)][: SENTENCES[1]]
        highlight = spans[1].of(lead) if len(spans) > 1 else ""
        fewest, most = _HIGHLIGHT_WORDS
        if fewest <= len(highlight.split()) <= most and len(sentences) >= SENTENCES[0]:
            yield Article(str(number), highlight, tuple(sentences))


def _random(articles: Sequence[Measured], scorer: Scorer) -> Picks:
    generator = random.Random(0)
    return [(generator.randrange(len(one.words)), 0) for one in articles]


def _first(articles: Sequence[Measured], scorer: Scorer) -> Picks:
    return [(0, 0) for _ in articles]


def _overlap(articles: Sequence[Measured], scorer: Scorer) -> Picks:
    return [(int(one.words.argmax()), 0) for one in articles]


def _nearest(articles: Sequence[Measured], scorer: Scorer) -> Picks:
    return [(int(one.cosines.argmax()), 0) for one in articles]


def _search(
    articles: Sequence[Measured],
    scorer: Scorer,
    name: SearchName,
    direction: ScoredHalf,
    overlap_weight: float = 0.0,
) -> Picks:
    tasks = [(one.article.highlight, one.article.sentences) for one in articles]
    support = scorer.support(direction, overlap_weight, whole=True)
    return [(found.start, found.calls) for found in search(name, tasks, support)]


METHODS: dict[str, Callable[[Sequence[Measured], Scorer], Picks]] = {
    "random": _random,
    "first": _first,
    "overlap": _overlap,
    **{
        f"{order}_{name}": partial(_search, name=name, direction=direction)
        for order, direction in SCORED_HALVES
        for name in _SEARCHES
    },
    "default": partial(_search, name="linear", direction="claim", overlap_weight=OVERLAP_WEIGHT),
    "nearest": _nearest,
}


def evaluate_highlights(
    articles: Sequence[Article], scorer: Scorer, model: str, methods: Sequence[str] | None = None
) -> Result:
    """Measure the methods, by default all that the model can do.

    :raises DataError: if a method is unknown.
    """
    chosen, notes = choose_methods(
        methods, list(METHODS), METHODS, scorer, scorer.template("source")
    )
    measured = _measured(articles, scorer.embedder)

    def evaluate(name: str) -> PerQuery:
        values: PerQuery = {"cosine": {}, "words": {}, "calls": {}}
        picks = METHODS[name](measured, scorer)
        for one, (picked, calls) in zip(measured, picks, strict=True):
            values["cosine"][one.article.id] = float(one.cosines[picked])
            values["words"][one.article.id] = float(one.words[picked])
            values["calls"][one.article.id] = float(calls)
        return values

    found, seconds = run_methods(chosen, evaluate)
    pairs = [(name, name.replace("reverse", "forward")) for name in chosen if "reverse" in name]
    pairs += [("reverse_linear", name) for name in ("reverse_binary", "overlap", "random")]
    return summarise(
        "highlights",
        model,
        found,
        "cosine",
        pairs,
        seconds,
        {},
        [*notes, *scorer.warnings],
        "articles",
    )


def _measured(articles: Sequence[Article], embedder: SentenceEmbedder) -> list[Measured]:
    texts = [text for one in articles for text in (one.highlight, *one.sentences)]
    vectors = iter(embedder.embed(texts))
    found = []
    for one in articles:
        highlight, wanted = next(vectors), word_sets(one.highlight)
        cosines = [next(vectors) @ highlight for _ in one.sentences]
        words = [shared_words(wanted, word_sets(sentence)) for sentence in one.sentences]
        found.append(Measured(one, np.array(cosines), np.array(words)))
    return found


def main() -> None:
    """Print a row for each way of choosing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="trlm-small")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--articles", type=int, default=300)
    parser.add_argument("--methods", type=lambda names: names.split(","))
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    given = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(given.model, dtype=given.dtype)
    cache = ScoreCache(given.cache_dir / "scores.sqlite")
    articles = draw(load_articles(given.text), given.articles)
    scorer = Scorer(lm, cache, SentenceEmbedder(), None, True)
    result = evaluate_highlights(articles, scorer, given.model, given.methods)
    title = f"{result.queries} highlights, {given.model}"
    table = Table("pick", "cosine", "words", "calls", "seconds", title=title)
    for name, found in result.systems.items():
        cosine = found["cosine"]
        table.add_row(
            name,
            f"{cosine.mean:.3f} ({cosine.low:.3f}–{cosine.high:.3f})",
            f"{found['words'].mean:.3f}",
            f"{found['calls'].mean:.1f}",
            f"{result.seconds[name]:.0f}",
        )
    console = Console()
    console.print(table)
    for name, test in result.tests.items():
        console.print(f"{name}: {test.difference:+.3f}, p = {test.p:.4f}")
    for warning in result.warnings:
        console.print(f"note: {warning}")


if __name__ == "__main__":
    main()
