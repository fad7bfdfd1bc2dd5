"""A soft prompt against written ones: perplexity of held-out queries, and ranking.

    python -m trlm_retrieval.eval.studies.soft_prompt soft/model --pairs squad.jsonl.xz --data demo

Held-out pairs are those that training never sees. Ranking reranks the first candidates of the
fusion of BM25 and dense retrieval, by likelihood alone (`reverse`) and as the ranker ships
(`default`); written prompts are those that the default was chosen among.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trlm_retrieval.components.fusion import choose_weight
from trlm_retrieval.lm import Template, TimeReversedLM
from trlm_retrieval.lm.soft_prompt import SoftPrompt
from trlm_retrieval.passage_index.documents import passage_text
from trlm_retrieval.progress import progress_bar
from trlm_retrieval.training.check import check
from trlm_retrieval.training.corpus import PairFile, read_pairs

from ..dataset import RetrievalDataset, load_dataset
from ..measures import MAIN_MEASURE, PerQuery, per_query
from ..result import Result, summarise
from ..retrieval.evaluation import evaluate_retrieval, sample_queries, with_first_stage
from ..runs import Run
from ..score_cache import ScoreCache
from .prompts import PROMPTS

SOFT = "soft"
Prompt = tuple[TimeReversedLM, Template]
"""A template and what reads it: a soft prompt is the model's."""
_PASSAGE_TOKENS = 512


def compare_ranking(
    dataset: RetrievalDataset,
    model: str,
    prompts: dict[str, Prompt],
    rerank: int,
    cache_folder: Path,
    show_progress: bool = False,
) -> Result:
    """nDCG@10 and more of each prompt, alone and mixed with the first stage.

    :param model: its name, for the result.
    :param rerank: candidates of each query.
    :returns: systems ``NAME`` and ``NAME + first stage`` beside ``first stage``; each soft one is
        tested against each written one.
    """
    first = evaluate_retrieval(
        dataset, None, model, ["fusion"], cache_folder=cache_folder, show_progress=show_progress
    )
    candidates = {
        query: dict(sorted(found.items(), key=lambda item: -item[1])[:rerank])
        for query, found in first.runs["fusion"].items()
    }
    texts = {document.id: document for document in dataset.documents}
    pairs = [(query, document) for query, found in candidates.items() for document in found]
    runs: dict[str, Run] = {"first stage": candidates}
    cache = ScoreCache(cache_folder / "scores.sqlite")
    for name, (lm, template) in prompts.items():
        weight = choose_weight(None, lm.first_stage_weight)
        with progress_bar(f"Scoring {name}", len(pairs), show_progress) as advance:
            scores, _ = cache.score(
                lm,
                [(dataset.queries[q], passage_text(texts[d])) for q, d in pairs],
                template,
                _PASSAGE_TOKENS,
                advance,
            )
        alone: Run = {query: {} for query in candidates}
        for (query, document), score in zip(pairs, scores, strict=True):
            alone[query][document] = score.sum
        runs[name] = alone
        runs[f"{name} + first stage"] = with_first_stage(alone, candidates, weight)
    values: dict[str, PerQuery] = {
        name: per_query(run, dataset.qrels, rerank) for name, run in runs.items()
    }
    written = [name for name in prompts if name != SOFT]
    comparisons = [
        (f"{SOFT}{ending}", f"{name}{ending}")
        for name in written
        for ending in ("", " + first stage")
    ]
    settings = {"rerank": rerank, "queries": len(dataset.queries)}
    return summarise(
        dataset.name, model, values, MAIN_MEASURE, comparisons, {}, settings, dataset.warnings
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("soft_prompt", help="folder `model` of a run of `trlm train soft-prompt`")
    parser.add_argument("--pairs", type=Path, action="append", default=[], help="pair files")
    parser.add_argument("--most", type=int, default=64, help="held-out pairs of each file")
    parser.add_argument("--max-passage-tokens", type=int, default=192, help="of those pairs")
    parser.add_argument("--data", action="append", default=[], help="BEIR folder, hub id or demo")
    parser.add_argument("--queries", type=int, default=25, help="drawn of each collection")
    parser.add_argument("--rerank", type=int, default=20, help="candidates of each query")
    parser.add_argument("--templates", default="fo", help="written prompts, comma-separated")
    parser.add_argument("--dtype", default=None)
    parser.add_argument("--cache-dir", type=Path, default=Path(".trlm-eval"))
    arguments = parser.parse_args()
    base = SoftPrompt.load(arguments.soft_prompt).base
    plain = TimeReversedLM.from_pretrained(base, dtype=arguments.dtype)
    soft = TimeReversedLM.from_pretrained(arguments.soft_prompt, dtype=arguments.dtype)
    by_name = {template.name: template for template in PROMPTS}
    prompts: dict[str, Prompt] = {
        name: (plain, by_name[name]) for name in arguments.templates.split(",")
    }
    prompts[SOFT] = (soft, soft.template())
    console = Console(highlight=False)
    for file in arguments.pairs:
        pairs = read_pairs([PairFile(file, arguments.most)], held_out=True)
        table = Table(
            "prompt", "perplexity", "given a random passage", "gain, nats", "prefers true",
            title=f"{file.name.split('.')[0]}, {len(pairs)} held-out pairs",
        )  # fmt: skip
        with progress_bar("Checking", 2 * len(pairs) * len(prompts)) as advance:
            for name, (lm, template) in prompts.items():
                found = check(
                    lm,
                    pairs,
                    template,
                    max_passage_tokens=arguments.max_passage_tokens,
                    progress=advance,
                )
                table.add_row(
                    name,
                    f"{found.perplexity:.1f}",
                    f"{found.random_perplexity:.1f}",
                    f"{found.gain:.1f}",
                    f"{found.prefers_true:.3f} ({found.low:.3f}–{found.high:.3f})",
                )
        console.print(table)
    for data in arguments.data:
        dataset = sample_queries(load_dataset(data, "test"), arguments.queries, seed=0)
        result = compare_ranking(
            dataset,
            base,
            prompts,
            arguments.rerank,
            arguments.cache_dir,
            show_progress=True,
        )
        table = Table("ranked by", MAIN_MEASURE, title=f"{result.data}, {result.queries} queries")
        for name, measured in result.systems.items():
            value = measured[MAIN_MEASURE]
            table.add_row(name, f"{value.mean:.3f} ({value.low:.3f}–{value.high:.3f})")
        console.print(table)
        for name, test in result.tests.items():
            console.print(f"{name}: {test.difference:+.3f}, p = {test.p:.3f}")


if __name__ == "__main__":
    main()
