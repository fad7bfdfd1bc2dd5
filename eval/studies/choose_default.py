"""Compare prompts, passage lengths, unigram mixtures and combinations on several collections.

    python -m trlm_retrieval.eval.studies.choose_default demo path/cranfield path/dl20=run.trec

Queries are split in halves: settings are chosen by nDCG@10 on one, averaged over the collections,
and reported on the other. Prompts are compared first; then, with the one that ships, the rest.
Token log-likelihoods are kept in the cache folder, so that another look costs nothing.
"""

import argparse
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.components.fusion import DEFAULT_FIRST_STAGE_WEIGHT, combine
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset, load_dataset
from ..measures import MAIN_MEASURE, per_query
from ..retrieval.evaluation import evaluate_retrieval, sample_queries
from ..runs import Run, read_run
from .prompts import PROMPTS

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LENGTHS = (32, 64, 128, 256)
JELINEK_MERCER = (0.05, 0.1, 0.2, 0.4)
DIRICHLET = (500, 2000, 8000)

_BARE = Template("bare", "forward", "{passage}", "{query}")

Tokens = dict[tuple[str, str], np.ndarray]
Scorer = Callable[["Collection"], Run]


@dataclass
class Collection:
    """A collection with its candidates and, for each setting, the query tokens' log-likelihoods.

    :ivar tokens: (prompt, passage length) -> (query, document) -> array of shape (query tokens,).
    :ivar counts: (query, document) -> how often each query token stands in the passage, and how
        many tokens the passage has.
    """

    dataset: RetrievalDataset
    candidates: Run
    tokens: dict[tuple[str, int], Tokens]
    counts: dict[tuple[str, str], tuple[np.ndarray, int]]

    def run(self, score: Callable[[tuple[str, str]], float]) -> Run:
        """The candidates with new scores."""
        return {
            query: {document: score((query, document)) for document in found}
            for query, found in self.candidates.items()
        }


def halves(queries: Iterable[str]) -> tuple[list[str], list[str]]:
    """Every other query, in order of ids: one half chooses, the other reports."""
    ordered = sorted(queries)
    return ordered[::2], ordered[1::2]


def likelihood(prompt: str, length: int) -> Scorer:
    """Rank by the sum of the query's token log-likelihoods."""
    return lambda of: of.run(lambda pair: float(of.tokens[prompt, length][pair].sum()))


def mixture(prompt: str, length: int, share: Callable[[int], float]) -> Scorer:
    """Each token's probability mixed with its relative frequency in the passage.

    :param share: of the unigram model, given the passage's tokens.
    """

    def score(of: Collection, pair: tuple[str, str]) -> float:
        counts, tokens = of.counts[pair]
        weight = share(tokens)
        model = np.exp(of.tokens[prompt, length][pair].astype(np.float64))
        mixed = (1 - weight) * model + weight * counts / max(tokens, 1)
        return float(np.log(np.maximum(mixed, 1e-300)).sum())

    return lambda of: of.run(lambda pair: score(of, pair))


def constant(share: float) -> Callable[[int], float]:
    """Jelinek-Mercer smoothing."""
    return lambda tokens: share


def dirichlet(mu: float) -> Callable[[int], float]:
    """Dirichlet smoothing, with the language model as background."""
    return lambda tokens: tokens / (tokens + mu)


def combined(scorer: Scorer, weight: float = DEFAULT_FIRST_STAGE_WEIGHT) -> Scorer:
    """Combine a scorer with the first stage."""

    def run(of: Collection) -> Run:
        found = {}
        for query, scores in scorer(of).items():
            first = [of.candidates[query][document] for document in scores]
            total = combine(first, list(scores.values()), weight)
            found[query] = dict(zip(scores, total.tolist(), strict=True))
        return found

    return run


def load_collection(
    data: str,
    lm: TimeReversedLM,
    queries: int,
    top_k: int,
    length: int,
    cache: Path,
) -> Collection:
    """A sample of a collection's queries with everything that is compared computed.

    :param data: a name or folder, or ``FOLDER=RUN.trec`` to rerank a given run.
    :param length: passage tokens for the comparison of prompts.
    """
    folder, _, run = data.partition("=")
    dataset = sample_queries(load_dataset(folder), queries, 0)
    evaluation = evaluate_retrieval(
        dataset,
        None,
        "",
        ["fusion"],
        top_k=top_k,
        cache_folder=cache,
        first_stage_run=read_run(Path(run)) if run else None,
        show_progress=True,
    )
    candidates = evaluation.runs["fusion"]
    texts = {document.id: passage_text(document) for document in dataset.documents}
    pairs = {
        (q, d): (dataset.queries[q], texts[d]) for q, found in candidates.items() for d in found
    }
    tokens: dict[tuple[str, int], Tokens] = {}
    shorter_or_longer = [(cut, PROMPTS[:1]) for cut in LENGTHS if cut != length]
    for cut, prompts in ((length, PROMPTS), *shorter_or_longer):
        for group in _by_lead(prompts):
            found = _kept(lm, pairs, group, cut, cache, f"{dataset.name}, {cut} tokens")
            tokens |= {(prompt.name, cut): found[prompt.name] for prompt in group}
    bare = lm.encode(list(pairs.values()), _BARE)
    # The query is scored with a blank before it: so are the words inside of a passage.
    scored = lm.encode(list(pairs.values()), PROMPTS[0])
    counts = {}
    for pair, passage, query in zip(pairs, bare, scored, strict=True):
        in_passage = Counter(passage.context[1:])
        found_there = np.array([in_passage[token] for token in query.target])
        counts[pair] = (found_there, len(passage.context) - 1)
    return Collection(dataset, candidates, tokens, counts)


def _by_lead(prompts: Sequence[Template]) -> list[list[Template]]:
    """Prompts that write the same before the passage: they share its states."""
    groups: dict[str, list[Template]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.context.partition("{passage}")[0], []).append(prompt)
    return list(groups.values())


def _kept(
    lm: TimeReversedLM,
    pairs: dict[tuple[str, str], tuple[str, str]],
    prompts: Sequence[Template],
    length: int,
    cache: Path,
    what: str,
) -> dict[str, Tokens]:
    digest = hashlib.sha256(repr((lm.fingerprint, prompts, length, sorted(pairs.items()))).encode())
    path = cache / "settings" / f"{digest.hexdigest()[:20]}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = _scored(lm, pairs, prompts, length, what)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, allow_pickle=False, **arrays)
        temporary.replace(path)
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, Tokens] = {}
        for prompt in prompts:
            parts = np.split(arrays[f"{prompt.name}.values"], arrays[f"{prompt.name}.ends"])
            found[prompt.name] = dict(zip(pairs, parts, strict=False))
    return found


def _scored(
    lm: TimeReversedLM,
    pairs: dict[tuple[str, str], tuple[str, str]],
    prompts: Sequence[Template],
    length: int,
    what: str,
) -> dict[str, np.ndarray]:
    """Score all prompts; what their contexts have in common is read once for each passage."""
    encoded = [lm.encode(list(pairs.values()), prompt, length) for prompt in prompts]
    sequences = []
    for group in zip(*encoded, strict=True):
        shared = _shared([pair.context for pair in group])
        sequences += [(p.context[:shared], p.context[shared:] + p.target) for p in group]
    order = sorted(range(len(sequences)), key=lambda i: sequences[i][0])  # passage by passage
    found: list[np.ndarray] = [np.zeros(0)] * len(sequences)
    with progress_bar(f"Scoring {what}", len(sequences)) as advance:
        values = lm.log_probs([sequences[i] for i in order], progress=advance)
    for index, value in zip(order, values, strict=True):
        found[index] = value
    arrays = {}
    for position, prompt in enumerate(prompts):
        parts = [
            found[number * len(prompts) + position][-len(pair.target) :]
            for number, pair in enumerate(encoded[position])
        ]
        arrays[f"{prompt.name}.values"] = np.concatenate(parts)
        arrays[f"{prompt.name}.ends"] = np.cumsum([len(part) for part in parts])
    return arrays


def _shared(contexts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all contexts begin with."""
    columns = zip(*contexts, strict=False)  # to the end of the shortest
    return next((i for i, tokens in enumerate(columns) if len(set(tokens)) > 1), len(contexts[0]))


def compare(title: str, settings: dict[str, Scorer], collections: Sequence[Collection]) -> Table:
    """A row for each setting: nDCG@10 on the choosing half, the other, and each collection's."""
    names = [of.dataset.name for of in collections]
    table = Table(title, "choosing half", "other half", *names, box=None)
    rows: dict[str, np.ndarray] = {}
    for name, scorer in settings.items():
        both = []
        for of in collections:
            found = per_query(scorer(of), of.dataset.qrels)[MAIN_MEASURE]
            both.append(
                [float(np.mean([found[q] for q in half])) for half in halves(of.dataset.queries)]
            )
        rows[name] = np.array(both)
    best = max(rows, key=lambda name: rows[name][:, 0].mean())
    for name, values in rows.items():
        table.add_row(
            f"{name} [bold]best[/bold]" if name == best else name,
            *(f"{value:.3f}" for value in values.mean(0)),
            *(f"{value:.3f}" for value in values[:, 1]),
        )
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="collections; FOLDER=RUN.trec reranks a given run")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--queries", type=int, default=20, help="of each collection")
    parser.add_argument("--top-k", type=int, default=20)
    parser.add_argument("--length", type=int, default=128, help="passage tokens for the prompts")
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    length = arguments.length
    collections = [
        load_collection(data, lm, arguments.queries, arguments.top_k, length, arguments.cache_dir)
        for data in arguments.data
    ]
    shipped = PROMPTS[0].name
    alone = likelihood(shipped, length)
    console = Console(width=40 + 16 * (len(collections) + 3))
    first_stage: dict[str, Scorer] = {"first stage": lambda of: of.candidates}
    prompts = {prompt.name: likelihood(prompt.name, length) for prompt in PROMPTS}
    mixtures = {"model alone": alone}
    for share in JELINEK_MERCER:
        mixtures[f"Jelinek-Mercer {share}"] = mixture(shipped, length, constant(share))
    for mu in DIRICHLET:
        mixtures[f"Dirichlet {mu}"] = mixture(shipped, length, dirichlet(mu))
    for title, settings in (
        ("prompt, alone", first_stage | prompts),
        ("prompt, combined", first_stage | {k: combined(v) for k, v in prompts.items()}),
        ("passage tokens, alone", {str(n): likelihood(shipped, n) for n in LENGTHS}),
        ("unigram mixture, alone", mixtures),
        ("unigram mixture, combined", {k: combined(v) for k, v in mixtures.items()}),
        ("first-stage weight", {str(weight): combined(alone, weight) for weight in WEIGHTS}),
    ):
        console.print(compare(title, settings, collections))
        console.print()


if __name__ == "__main__":
    main()
