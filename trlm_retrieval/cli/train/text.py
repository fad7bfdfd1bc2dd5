"""`trlm train tokenizer` and `pack`: from text to what pre-training reads."""

from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._checks import check_base, check_paths
from trlm_retrieval.cli._terminal import out, working
from trlm_retrieval.cli.train._options import FilesArgument, OutOption


def tokenizer(
    files: FilesArgument,
    folder: OutOption,
    vocabulary: Annotated[int, typer.Option(help="Number of tokens, at most 65,536.")] = 16384,
    most_characters: Annotated[
        int, typer.Option(help="Characters to learn from, at the start of the text.")
    ] = 50_000_000,
) -> None:
    """Train a byte-level BPE tokenizer.

    Example: `trlm train tokenizer wikipedia.jsonl.xz -o tokenizer`
    """
    check_paths(files)
    with working("Training a tokenizer"):
        from trlm_retrieval.training.corpus import read_sections
        from trlm_retrieval.training.tokenizer import train_tokenizer

        trained = train_tokenizer(read_sections(files), vocabulary, most_characters)
        trained.save_pretrained(folder)
    out.print(f"{folder} holds a tokenizer of {len(trained):,} tokens", soft_wrap=True)


def pack(
    files: FilesArgument,
    folder: OutOption,
    tokenizer: Annotated[Path, typer.Option(help="Folder of a tokenizer, or of a model.")],
) -> None:
    """Write text as tokens, two bytes each, for pre-training. One text in a hundred is held out.

    Example: `trlm train pack wikipedia.jsonl.xz --tokenizer tokenizer -o shards`
    """
    check_paths(files)
    check_base(str(tokenizer))
    with working("Packing"):
        from trlm_retrieval.models.store import resolve
        from trlm_retrieval.training.corpus import read_sections
        from trlm_retrieval.training.shards import pack as pack_sections
        from trlm_retrieval.training.tokenizer import load_tokenizer

        kind = load_tokenizer(resolve(tokenizer))
        tokens = pack_sections(
            read_sections(files), kind, folder, sources=[file.name for file in files]
        )
    out.print(
        f"{folder} holds {tokens['train']:,} tokens to learn and {tokens['held_out']:,} held out",
        soft_wrap=True,
    )
