"""What smaller passage states cost: bytes a token against nDCG@10.

    python -m trlm_retrieval.eval.bench.states demo path/to/cranfield

Each format keeps states of all candidates, and every score is read off them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trlm_retrieval.lm import PassageStates, TimeReversedLM
from trlm_retrieval.lm.state_writing import plan_states
from trlm_retrieval.lm.states import POOLS, StateFormat
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar

from ..dataset import RetrievalDataset, load_dataset
from ..measures import MAIN_MEASURE, per_query
from ..retrieval.evaluation import evaluate_retrieval, sample_queries
from ..runs import Run

_STATE_BYTES = 4 * 1024**3
_PASSAGES_A_STEP = 32


@dataclass(frozen=True)
class Measured:
    """One format on one collection; ``values`` are the query tokens' log-probabilities."""

    bytes_per_token: float
    ndcg: float
    values: list[np.ndarray]


def measure(
    lm: TimeReversedLM,
    dataset: RetrievalDataset,
    candidates: Run,
    form: StateFormat,
    max_passage_tokens: int,
) -> Measured:
    """Score all candidates from states of a format."""
    texts = {document.id: passage_text(document) for document in dataset.documents}
    asking: dict[str, list[str]] = {}
    for query, found in candidates.items():
        for document in found:
            asking.setdefault(document, []).append(query)
    values: dict[tuple[str, str], np.ndarray] = {}
    size = tokens = 0
    documents, own = list(asking), lm.states
    with progress_bar(f"{dataset.name}, {form}", len(documents)) as advance:
        for start in range(0, len(documents), _PASSAGES_A_STEP):
            step = documents[start : start + _PASSAGES_A_STEP]
            lm.states = PassageStates(_STATE_BYTES, form)
            plan = plan_states(lm, [texts[d] for d in step], None, max_passage_tokens, form)
            size, tokens = size + plan.bytes, tokens + plan.tokens
            lm.score(  # the first reading makes the states, and is not exact to them
                [("?", texts[document]) for document in step],
                max_passage_tokens=max_passage_tokens,
            )
            pairs = [(query, document) for document in step for query in asking[document]]
            scored = lm.score(
                [(dataset.queries[query], texts[document]) for query, document in pairs],
                max_passage_tokens=max_passage_tokens,
            )
            values |= {p: likelihood.log_probs for p, likelihood in zip(pairs, scored, strict=True)}
            advance(len(step))
    lm.states = own
    run: Run = {query: {} for query in candidates}
    for (query, document), log_probs in values.items():
        run[query][document] = float(log_probs.sum())
    ndcg = np.mean(list(per_query(run, dataset.qrels)[MAIN_MEASURE].values()))
    ordered = [values[query, document] for query, found in candidates.items() for document in found]
    return Measured(size / tokens, float(ndcg), ordered)


def formats(lm: TimeReversedLM) -> list[StateFormat]:
    """The formats in which a model's states can be kept, largest first."""
    found = []
    for pool in POOLS:
        for precision in (None, "int8"):
            form = StateFormat(precision, pool)
            try:
                lm.network.check(form)
            except ValueError:
                continue
            found.append(form)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="collections")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--queries", type=int, default=30, help="of each collection")
    parser.add_argument("--top-k", type=int, default=20)
    parser.add_argument("--max-passage-tokens", type=int, default=256)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    table = Table("states", box=None)
    forms = formats(lm)
    cells: list[list[str]] = [[_name(form)] for form in forms]
    for data in arguments.data:
        dataset = sample_queries(load_dataset(data), arguments.queries, 0)
        candidates = evaluate_retrieval(
            dataset,
            None,
            "",
            ["fusion"],
            top_k=arguments.top_k,
            cache_folder=arguments.cache_dir,
        ).runs["fusion"]
        for column in ("bytes a token", f"nDCG@10 {dataset.name}", "difference in nats, rms"):
            table.add_column(column, justify="right")
        exact: Measured | None = None
        for form, row in zip(forms, cells, strict=True):
            found = measure(lm, dataset, candidates, form, arguments.max_passage_tokens)
            exact = exact or found
            pairs = zip(found.values, exact.values, strict=True)
            difference = np.array([one.sum() - other.sum() for one, other in pairs])
            row += [
                f"{found.bytes_per_token:,.0f}",
                f"{found.ndcg:.3f}",
                f"{np.sqrt((difference**2).mean()):.2f}",
            ]
    for row in cells:
        table.add_row(*row)
    Console(width=60 + 60 * len(arguments.data)).print(table)


def _name(form: StateFormat) -> str:
    precision = form.precision or "the model's precision"
    return precision if form.pool == 1 else f"{precision}, means of {form.pool}"


if __name__ == "__main__":
    main()
