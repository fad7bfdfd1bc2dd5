"""``trlm eval citation``, ``best-of-n`` and ``safety``: what is done with answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trlm_retrieval.cli._checks import check_paths
from trlm_retrieval.cli._terminal import DtypeOption, working
from trlm_retrieval.cli.evaluate._options import (
    DEFAULT_CACHE,
    CacheOption,
    CrossEncoderOption,
    JsonFileOption,
    MethodsOption,
    ModelOption,
    ReportOption,
    check_model_and_extra,
    named_peer,
    split_names,
)
from trlm_retrieval.cli.evaluate._results import finish, wrote
from trlm_retrieval.models.source import DEFAULT_CROSS_ENCODER

if TYPE_CHECKING:
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.models.cross_encoder import CrossEncoder


def citation(
    data: Annotated[Path, typer.Option("--data", help="JSONL of answers with their sources.")],
    model: ModelOption = "smollm2-135m",
    methods: MethodsOption = None,
    cross_encoder: CrossEncoderOption = DEFAULT_CROSS_ENCODER,
    answers: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of the answers.")
    ] = None,
    dtype: DtypeOption = None,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate which passage, or which sentence of one source, each claim is attributed to.

    Among several passages, `top1` is the share of claims with a right one first; precision and
    recall cite every passage above a threshold that is fitted on the other half of the answers.
    Within one source, `F1` compares the sentences found with those that annotators selected, and
    `calls` counts the model calls for an answer.

    With `cross-encoder` among the methods, a cross-encoder scores the same pairs.

    Examples:

    * `trlm eval citation --data expertqa.jsonl --json out.json`

    * `trlm eval citation --data expertqa.jsonl --methods overlap,default,cross-encoder`
    """
    check_paths([data])
    check_model_and_extra(model)
    names = split_names(methods)
    peer_name = named_peer(cross_encoder, names)
    with working("Loading"):
        from trlm_retrieval.eval.citation.evaluation import evaluate_citation
        from trlm_retrieval.eval.citation.report import write_citation_report

        lm, peer = _load(model, dtype, peer_name)
    result = evaluate_citation(
        data,
        lm,
        model,
        methods=names,
        cross_encoder=peer,
        cache_folder=cache_dir,
        answers=answers,
        show_progress=True,
    )
    result.settings["cross_encoder"] = peer_name
    if report is not None:
        write_citation_report(report, result)
        wrote(report)
    finish(result, json_file)


def best_of_n(
    data: Annotated[
        Path,
        typer.Option("--data", help="JSONL of prompts, each with answers and their preferences."),
    ],
    model: ModelOption = "smollm2-135m",
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Draw this many of the prompts.")
    ] = None,
    methods: MethodsOption = None,
    cross_encoder: CrossEncoderOption = DEFAULT_CROSS_ENCODER,
    dtype: DtypeOption = None,
    json_file: JsonFileOption = None,
    report: ReportOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate how well liked the answer is that is picked out of 2, 4, 8 and 16.

    `preference@16` is the mean preference of the pick out of 16 answers, and `controlled@16` the
    same without what longer answers are preferred for. `oracle` always picks the best one,
    `random` is what a blind pick is worth.

    With `cross-encoder` among the methods, a cross-encoder scores prompt and answer too.

    Examples:

    * `trlm eval best-of-n --data alpacaeval.jsonl.xz --json out.json`

    * `trlm eval best-of-n --data alpacaeval.jsonl.xz --methods reverse,cross-encoder,oracle`
    """
    check_paths([data])
    check_model_and_extra(model)
    names = split_names(methods)
    peer_name = named_peer(cross_encoder, names)
    with working("Loading"):
        from trlm_retrieval.eval.best_of_n.evaluation import evaluate_best_of_n
        from trlm_retrieval.eval.best_of_n.report import write_best_of_n_report

        lm, peer = _load(model, dtype, peer_name)
    result = evaluate_best_of_n(
        data,
        lm,
        model,
        methods=names,
        cross_encoder=peer,
        cache_folder=cache_dir,
        prompts=prompts,
        show_progress=True,
    )
    result.settings["cross_encoder"] = peer_name
    if report is not None:
        write_best_of_n_report(report, result)
        wrote(report)
    finish(result, json_file)


def safety(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Folder with jailbreaks.jsonl and xstest.jsonl (.xz too).",
            file_okay=False,
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of ordinary queries with their answers, as for best-of-n; by default "
            "alpacaeval.jsonl(.xz) in the folder, or in best_of_n beside it.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = "smollm2-135m",
    responses: Annotated[
        int,
        typer.Option(
            min=0,
            help="Jailbroken responses to draw, and as many of each kind of safe ones; 0 takes "
            "all, ordinary answers by the thousand.",
        ),
    ] = 100,
    number: Annotated[int, typer.Option(min=1, help="Questions generated from a response.")] = 8,
    min_unsafe: Annotated[
        int | None,
        typer.Option(min=1, help="How many of them must be unsafe to hold it back; default: half."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(
            help="Head of the filter of questions; by default the shipped one.", dir_okay=False
        ),
    ] = None,
    reply_head: Annotated[
        Path | None,
        typer.Option(help="Head of the reply filter; by default the shipped one.", dir_okay=False),
    ] = None,
    dtype: DtypeOption = None,
    json_file: JsonFileOption = None,
    cache_dir: CacheOption = DEFAULT_CACHE,
) -> None:
    """Evaluate filters of the prompt, of the reply, and of questions generated from the reply.

    `FNR@5%` is the share of jailbroken responses that pass where 5 % of the safe ones are held
    back, `FNR@5% of xstest` where 5 % of XSTest's are; `shipped` stands for the shipped thresholds,
    and `+2%` for the prompt filter at its shipped threshold with 2 points of false positives added.
    Only questions that the filters did not learn from count. A killed evaluation continues where it
    was.

    Example: `trlm eval safety --data safety --answers alpacaeval.jsonl.xz --json safety.json`
    """
    if min_unsafe is not None and min_unsafe > number:
        raise typer.BadParameter("cannot be more than --number", param_hint="--min-unsafe")
    check_model_and_extra(model)
    check_paths(path for path in (data, answers, head, reply_head) if path)
    with working("Loading"):
        from trlm_retrieval.components.question_filter import QuestionFilter
        from trlm_retrieval.components.reply_filter import ReplyFilter
        from trlm_retrieval.eval.safety.data import find_answers
        from trlm_retrieval.eval.safety.evaluation import evaluate_safety
        from trlm_retrieval.lm import TimeReversedLM

        inner = QuestionFilter(str(head) if head else None)
        inner.warm_up()
        reply_filter = ReplyFilter(str(reply_head) if reply_head else None)
        reply_filter.warm_up()
        lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
    result = evaluate_safety(
        data,
        answers or find_answers(data),
        lm,
        model,
        inner=inner,
        reply_filter=reply_filter,
        responses=responses or None,
        number=number,
        min_unsafe=min_unsafe,
        cache_folder=cache_dir,
        show_progress=True,
    )
    finish(result, json_file, measures_down=True)


def _load(
    model: str, dtype: str | None, peer: str | None
) -> "tuple[TimeReversedLM, CrossEncoder | None]":
    """The model, and the cross-encoder where one is named."""
    from trlm_retrieval.lm import TimeReversedLM
    from trlm_retrieval.models.cross_encoder import CrossEncoder

    lm = TimeReversedLM.from_pretrained(model, dtype=dtype)
    return lm, CrossEncoder.from_pretrained(peer) if peer else None
