"""``trlm explain``: the reason for a ranking as an HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from trlm_retrieval.cli._checks import check_index
from trlm_retrieval.cli._terminal import (
    DEFAULT_CANDIDATES,
    DEFAULT_INDEX,
    NOTHING_FOUND,
    CandidatesOption,
    IndexOption,
    JsonOption,
    ModelOption,
    QuestionArgument,
    TopKOption,
    count,
    out,
    print_json,
    working,
)


def explain(
    question: QuestionArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The page to write.", metavar="FILE", dir_okay=False),
    ] = Path("explain.html"),
    index: IndexOption = DEFAULT_INDEX,
    model: ModelOption = None,
    top_k: TopKOption = 5,
    candidates: CandidatesOption = DEFAULT_CANDIDATES,
    as_json: JsonOption = False,
) -> None:
    """Write an HTML page that shows why passages rank as they do.

    For each passage, every token of the question is coloured by its gain: how much likelier the
    passage makes it, log P(token | passage) - log P(token), in nats. The page stands alone: it
    needs no network and no other file.

    Examples:

    * `trlm explain "how does the with statement call enter and exit"`

    * `trlm explain "when is a generator closed" --output closed.html --top-k 10`
    """
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    check_index(index, model)
    with working("Loading"):
        from trlm_retrieval.cli._searcher import Searcher
        from trlm_retrieval.cli.search import as_data
        from trlm_retrieval.files import write_text
        from trlm_retrieval.pages.explanation import explanation_page

        searcher = Searcher(index, model, max(candidates, top_k))
    with working(f"Ranking {count(searcher.candidates, 'passage')}"):
        ranking = searcher.ask(question, explain=True)
    if not ranking.documents:
        out.print("No passage found.")
        raise typer.Exit(NOTHING_FOUND)
    facts = {
        "model": searcher.model,
        "index": str(index),
        "reranked": count(len(ranking.documents), "candidate"),
    }
    write_text(output, explanation_page(ranking.query, ranking.documents[:top_k], facts))
    if as_json:
        print_json({**as_data(ranking, top_k), "output": str(output)})
    else:
        out.print(f"Wrote {output}: open it in a browser.", markup=False)
