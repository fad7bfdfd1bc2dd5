"""How far a hostile passage rises by what it adds to itself, and what notices it.

    python -m trlm_retrieval.eval.studies.hostile --data FOLDER_OR_HUB_ID

For some questions, drawn by a fixed seed, the passage that BM25 puts last of ten and that is judged
relevant to none of the questions adds eight tokens to itself, found by gradient-guided search, to
make the question likelier. It wins where it then beats the relevant passage that scores best. The
gain over the prior takes the same number from all passages of a question, so it changes no order;
the fluency check looks for the least likely eight tokens in a row, and refuses passages below what
5 % of the unchanged passages have.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from haystack import Document
from rich.console import Console

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.prompts.search import least_fluent, strengthen

from ..dataset import RetrievalDataset, load_dataset
from ..measures import estimate

_REFUSED = 0.05  # of unchanged passages


@dataclass(frozen=True)
class Case:
    """A question, a passage that is relevant to it, and one that is not; and nine others."""

    query: str
    relevant: str
    other: str
    unchanged: tuple[str, ...]


def draw(dataset: RetrievalDataset, number: int) -> list[Case]:
    """Cases of questions for which BM25 finds ten passages, some of them not relevant."""
    cases: list[Case] = []
    texts = {document.id: passage_text(document) for document in dataset.documents}
    with TemporaryDirectory() as folder:
        index = PassageIndex.build(Path(folder) / "index", dataset.documents, embedder=None)
        for query in random.Random(0).sample(sorted(dataset.queries), len(dataset.queries)):
            grades = dataset.qrels[query]
            good = sorted(
                (d for d, g in grades.items() if g > 0 and d in texts), key=lambda d: grades[d]
            )
            found: list[Document] = index.search_bm25(dataset.queries[query], top_k=10)
            others = [document.id for document in found if grades.get(document.id, 0) <= 0]
            if good and others and len(found) == 10:
                unchanged = tuple(texts[document.id] for document in found)
                case = Case(dataset.queries[query], texts[good[-1]], texts[others[-1]], unchanged)
                cases.append(case)
            if len(cases) == number:
                break
    return cases


def main() -> None:
    """Attack, and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="BEIR folder or hub id")
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default=None)
    arguments = parser.parse_args()
    lm = TimeReversedLM.from_pretrained(arguments.model, dtype=arguments.dtype)
    cases = draw(load_dataset(arguments.data, "test"), arguments.queries)
    with progress_bar("Attacking", len(cases) * arguments.steps) as advance:
        found = [
            strengthen(lm, case.query, case.other, steps=arguments.steps, progress=advance)
            for case in cases
        ]
    relevant = [lm.score([(c.query, c.relevant)], max_passage_tokens=384)[0].sum for c in cases]
    fluent = [least_fluent(lm, text) for case in cases for text in case.unchanged]
    floor = float(np.quantile(fluent, _REFUSED))
    won_before = [h.before.sum > best for h, best in zip(found, relevant, strict=True)]
    won = [h.after.sum > best for h, best in zip(found, relevant, strict=True)]
    noticed = [h.fluency_after < floor for h in found]
    rows: dict[str, Sequence[float]] = {
        "nats won by the addition": [h.after.sum - h.before.sum for h in found],
        "gain over the prior won": [h.after.gain - h.before.gain for h in found],
        "beats the relevant passage, unchanged": won_before,
        "beats the relevant passage, with the addition": won,
        "refused by the fluency check": noticed,
        "beats it and is not refused": [w and not n for w, n in zip(won, noticed, strict=True)],
    }
    console = Console(highlight=False)
    console.print(f"{len(cases)} questions, fluency floor {floor:.2f} nats a token")
    for name, values in rows.items():
        value = estimate([float(v) for v in values])
        console.print(f"{name}: {value.mean:.3f} ({value.low:.3f}–{value.high:.3f})")


if __name__ == "__main__":
    main()
