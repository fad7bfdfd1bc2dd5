"""`trlm train groups` and `label`: pairs with their hard negatives, and a teacher's scores."""

from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._checks import check_base, check_pairs, check_paths
from trlm_retrieval.cli._terminal import count, out, working
from trlm_retrieval.cli.train._options import (
    DeviceOption,
    FileOutOption,
    PairsOption,
    PrecisionOption,
    SeedOption,
)


def groups(
    pairs: PairsOption,
    file: FileOutOption,
    negatives: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines with `file`, `line` and `neg`: hard negatives that were found "
            "beforehand. BM25 finds the others.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=2, help="Pairs in a group; groups of less than half are left out.")
    ] = 8,
    seed: SeedOption = 0,
) -> None:
    """Put pairs into groups whose passages are hard to tell apart, for `trlm train finetune`.

    The file holds the groups to learn from, then those held out, to measure on.

    Example: `trlm train groups --pairs squad.jsonl.xz:4000 --pairs nq.jsonl.xz -o groups.jsonl`
    """
    check_pairs(pairs)
    with working("Making groups"):
        from trlm_retrieval.training.corpus import PairFile, read_both_halves
        from trlm_retrieval.training.groups import make_groups, read_negatives, write_groups

        files = [PairFile.parse(text) for text in pairs]
        learned, held_out = read_both_halves(files)
        given = read_negatives(negatives, [f.path for f in files], learned) if negatives else None
        found = make_groups(learned, size, seed=seed, negatives=given, least=max(2, size // 2))
        measured = make_groups(held_out, size, seed=seed)
        write_groups([*found, *measured], file)
    out.print(
        f"{file} holds {count(len(found), 'group')} of {count(sum(map(len, found)), 'pair')} to "
        f"learn from, and {count(len(measured), 'group')} held out",
        soft_wrap=True,
    )


def label(
    file: Annotated[Path, typer.Argument(help="Groups.", metavar="GROUPS", dir_okay=False)],
    labels: FileOutOption,
    teacher: Annotated[
        str, typer.Option(help="A cross-encoder: name, folder or hub id.", metavar="NAME")
    ],
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Score the passages of groups with a cross-encoder, for a model to learn its order.

    To continue after a stop, give the same command again. The labels of the first groups can be
    used before the rest are done.

    Example: `trlm train label groups.jsonl --teacher my-cross-encoder -o labels.jsonl`
    """
    check_paths([file])
    check_base(teacher)
    with working("Loading"):
        from trlm_retrieval.models.cross_encoder import CrossEncoder
        from trlm_retrieval.models.loading import choose_device
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.training.groups import read_groups
        from trlm_retrieval.training.loop import autocast
        from trlm_retrieval.training.recipe import product_dtype
        from trlm_retrieval.training.teacher import MAX_TEACHER_TOKENS, label_groups

        where = choose_device(device)
        products = autocast(where, product_dtype(precision, where))
        learned = [group for group in read_groups(file) if not group.held_out]
        judge = CrossEncoder.from_pretrained(teacher, max_tokens=MAX_TEACHER_TOKENS, device=where)
    with products, progress_bar("Labelling groups", len(learned)) as advance:
        label_groups(learned, judge, labels, progress=advance)
    out.print(f"{labels} holds the scores of {count(len(learned), 'group')}", soft_wrap=True)
