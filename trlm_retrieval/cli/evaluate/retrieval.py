"""``trlm eval retrieval``: rankings, beside first stages and a cross-encoder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from trlm_retrieval.cli._checks import check_data, check_embedder, check_paths
from trlm_retrieval.cli._terminal import DtypeOption, working
from trlm_retrieval.cli.evaluate._options import (
    DEFAULT_CACHE,
    CacheOption,
    CrossEncoderOption,
    DataOption,
    JsonFileOption,
    JudgementsOption,
    ModelOption,
    ReportOption,
    check_model_and_extra,
    named_peer,
    split_names,
)
from trlm_retrieval.cli.evaluate._results import finish, wrote
from trlm_retrieval.models.source import DEFAULT_CROSS_ENCODER, DEFAULT_EMBEDDER

if TYPE_CHECKING:
    from trlm_retrieval.eval.judgements import Contradictions


def retrieval(
    data: DataOption,
    model: ModelOption = "smollm2-135m",
    split: Annotated[str, typer.Option(help="Which judgements.")] = "test",
    judgements: JudgementsOption = "strict",
    relevance_level: Annotated[
        int,
        typer.Option(
            min=1,
            help="Grade from which a document is relevant, for all measures but nDCG, as "
            "`trec_eval -l`; 2 is usual for TREC DL.",
        ),
    ] = 1,
    top_k: Annotated[int, typer.Option(min=1, help="Candidates that the first stages find.")] = 100,
    rerank: Annotated[
        int,
        typer.Option(min=1, help="How many of them the model scores; the others stay below."),
    ] = 20,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of the judged queries.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    systems: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated systems; `cross-encoder` is one more. [default: "
            "bm25,dense,fusion,forward,reverse,default, as far as the model can]",
            show_default=False,
        ),
    ] = None,
    cross_encoder: CrossEncoderOption = DEFAULT_CROSS_ENCODER,
    embedder: Annotated[
        str, typer.Option(help="Sentence embedder of the dense first stage.")
    ] = DEFAULT_EMBEDDER,
    dtype: DtypeOption = None,
    max_passage_tokens: Annotated[
        int, typer.Option(min=1, help="Longer passages are cut, and the cut is counted.")
    ] = 512,
    first_stage_run: Annotated[
        Path | None,
        typer.Option(
            help="Rerank this TREC run instead of searching; `fusion` is then this run.",
            dir_okay=False,
        ),
    ] = None,
    first_stage_weight: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of the first stage in `default`; by default as the ranker has it."
        ),
    ] = None,
    json_file: JsonFileOption = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Write each system's run here, in TREC format.", file_okay=False),
    ] = None,
    report: ReportOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate BM25, dense, fusion, and reranking by P(passage | query) and P(query | passage).

    With `cross-encoder` among the systems, also reranking by a cross-encoder. A killed evaluation
    continues where it was: scores are kept in the cache folder.

    Examples:

    * `trlm eval retrieval --data demo --report demo.html`

    * `trlm eval retrieval --data BeIR/scifact --queries 50 --json out.json`

    * `trlm eval retrieval --data demo --systems fusion,default,cross-encoder`
    """
    check_data(data)
    names = split_names(systems)
    needs_model = names is None or bool({"forward", "reverse", "default"} & set(names))
    check_model_and_extra(model if needs_model else None)
    check_embedder(embedder)
    peer_name = named_peer(cross_encoder, names)
    check_paths([first_stage_run] if first_stage_run else [])
    with working("Loading"):
        from trlm_retrieval.eval.dataset import load_dataset
        from trlm_retrieval.eval.retrieval.evaluation import (
            evaluate_retrieval,
            sample_queries,
        )
        from trlm_retrieval.eval.runs import check_ids, read_run, write_run
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.models.cross_encoder import CrossEncoder

        dataset = sample_queries(
            load_dataset(data, split, judgements=cast("Contradictions", judgements)), queries, seed
        )
        if run_dir is not None:
            check_ids([*dataset.queries, *(document.id for document in dataset.documents)])
        run = read_run(first_stage_run) if first_stage_run else None
        lm = TimeReversedLM.from_pretrained(model, dtype=dtype) if needs_model else None
        peer = CrossEncoder.from_pretrained(peer_name) if peer_name else None
    evaluation = evaluate_retrieval(
        dataset,
        lm,
        model if needs_model else "no model",
        names,
        cross_encoder=peer,
        embedder=embedder,
        top_k=top_k,
        rerank=rerank,
        max_passage_tokens=max_passage_tokens,
        cache_folder=cache_dir,
        first_stage_run=run,
        first_stage_weight=first_stage_weight,
        relevance_level=relevance_level,
        show_progress=True,
    )
    evaluation.result.settings |= {
        "split": split,
        "judgements": judgements,
        "seed": seed if queries else None,
        "dtype": dtype,
        "cross_encoder": peer_name,
    }
    if run_dir is not None:
        for name, found in evaluation.runs.items():
            write_run(run_dir / f"{name}.trec", found, name)
        wrote(run_dir)
    if report is not None:
        from trlm_retrieval.eval.retrieval.report import write_retrieval_report

        with working("Writing the report"):
            write_retrieval_report(report, evaluation)
        wrote(report)
    finish(evaluation.result, json_file)
