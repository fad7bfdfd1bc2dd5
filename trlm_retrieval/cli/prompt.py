"""`trlm prompt`: prompts behind outputs, prompts that raise scores, under-trained tokens."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from trlm_retrieval.cli._checks import check_model
from trlm_retrieval.cli._terminal import JsonOption, count, err, out, print_json, read_text, working

app = typer.Typer(
    help="Prompts behind outputs, words that raise scores, under-trained tokens.",
    no_args_is_help=True,
)

ModelOption = Annotated[
    str, typer.Option("--model", help="Name, folder, .gguf file or hub id of the model.")
]


@app.command()
def infer(
    outputs: Annotated[
        list[Path],
        typer.Argument(
            help="Text files, each an output of the same unknown prompt.",
            metavar="FILE...",
            dir_okay=False,
            show_default=False,
        ),
    ],
    candidates: Annotated[
        Path | None,
        typer.Option(
            help="Text file with a prompt a line, to choose among; by default they are generated.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Prompts generated from each output.")] = 8,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Prompts to show.")] = 5,
    model: ModelOption = "smollm2-135m",
    seed: Annotated[int, typer.Option(help="Seed of the generated prompts.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Find the prompt that led to some outputs: the one that gains most from all of them.

    Examples:

    * `trlm prompt infer answer1.txt answer2.txt answer3.txt`

    * `trlm prompt infer answers/*.txt --candidates prompts.txt`
    """
    texts = {path: read_text(path) for path in outputs}
    for path, text in texts.items():
        if not text.strip():
            raise typer.BadParameter(f"{path} is empty", param_hint="FILE...")
    prompts = (
        [line for line in read_text(candidates).splitlines() if line.strip()] if candidates else []
    )
    if candidates and not prompts:
        raise typer.BadParameter(f"{candidates} holds no prompt", param_hint="--candidates")
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.lm.generation import Sampling
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.prompts.inference import infer_prompts, rank_prompts

        lm = TimeReversedLM.from_pretrained(model)
    given = list(texts.values())
    if prompts:
        with progress_bar("Scoring", len(given) * len(set(prompts))) as advance:
            found = rank_prompts(lm, given, prompts, progress=advance)
    else:
        with progress_bar("Reading outputs", len(given)) as advance:
            found = infer_prompts(
                lm, given, number=number, sampling=Sampling(seed=seed), progress=advance
            )
    if found and found[0].cut_tokens:
        err.print(
            f"note: the last {count(found[0].cut_tokens, 'token')} of long outputs are not read",
            style="yellow",
        )
    if as_json:
        print_json([asdict(candidate) for candidate in found[:top_k]])
        return
    table = Table("prompt", "gain", "log P(prompt | output)", box=None)
    for candidate in found[:top_k]:
        table.add_row(
            Text(candidate.text), f"{candidate.gain:+.1f}", f"{candidate.log_likelihood:.1f}"
        )
    out.print(table)
    out.print(f"of {count(len(found), 'prompt')}; nats, mean over the outputs", style="dim")


@app.command()
def tokens(
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help="Also tell how much of this text file consists of them.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    examined: Annotated[
        int, typer.Option(min=1, help="Tokens nearest to the centroid that are tried.")
    ] = 500,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Tokens to show.")] = 20,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
) -> None:
    """List the under-trained tokens of a model: it cannot even repeat them.

    The likelihood of a query or passage that is full of them means little. The list is kept, and
    scoring with this model then counts them and warns.

    Examples:

    * `trlm prompt tokens`

    * `trlm prompt tokens --text passage.txt --json`
    """
    content = read_text(text) if text else None
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.lm.undertrained import MANY, keep_tokens, model_key, share_of
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.prompts.undertrained import undertrained_tokens

        lm = TimeReversedLM.from_pretrained(model)
    with progress_bar("Trying tokens", examined + 200) as advance:
        found = undertrained_tokens(lm, examined=examined, progress=advance)
    ids = {token.id for token in found}
    kept = keep_tokens(model_key(lm.model, lm.tokenizer), ids)
    share = None if content is None else share_of(lm.encoder.encode_texts([content])[0], ids)
    if as_json:
        print_json({"tokens": [asdict(token) for token in found], "share_of_text": share})
        return
    table = Table("token", "id", "from the centroid", "log P(repeated)", "cluster", box=None)
    for token in found[:top_k]:
        table.add_row(
            Text(repr(token.text)),
            str(token.id),
            f"{token.distance:.3f}",
            f"{token.repeat_log_prob:.1f}",
            "" if token.cluster is None else str(token.cluster),
        )
    out.print(table)
    clusters = {token.cluster for token in found} - {None}
    out.print(
        f"of {count(len(found), 'such token')}, in {count(len(clusters), 'cluster')} of embeddings "
        f"where most are; kept in {kept}",
        style="dim",
        soft_wrap=True,
    )
    if share is not None:
        out.print(f"{share:.1%} of the text's tokens are among them")
        if share >= MANY:
            err.print("note: the likelihood of such a text means little", style="yellow")


@app.command("brute-force")
def brute_force(
    text: Annotated[str, typer.Argument(help="A short text.", metavar="TEXT", show_default=False)],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Tokens to show.")] = 10,
    model: ModelOption = "smollm2-135m",
    as_json: JsonOption = False,
) -> None:
    """Find the token before a text by trying every one; the reference for reverse models.

    Reads the text once for each token of the vocabulary: minutes for two tokens of text on a CPU.

    Example: `trlm prompt brute-force " of France"`
    """
    if not text:
        raise typer.BadParameter("the text is empty", param_hint="TEXT")
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.prompts.preceding_tokens import preceding_tokens

        lm = TimeReversedLM.from_pretrained(model)
    [ids] = lm.encoder.encode_texts([text])
    vocabulary = len(lm.tokenizer)
    err.print(f"{count(vocabulary, 'token')} to try, {count(len(ids), 'token')} each")
    with progress_bar("Trying tokens", vocabulary) as advance:
        found = preceding_tokens(lm, ids, top_k=top_k, progress=advance)
    if as_json:
        print_json([asdict(token) for token in found])
        return
    table = Table("token", "id", "log P(token | text)", box=None)
    for token in found:
        table.add_row(Text(repr(token.text)), str(token.id), f"{token.log_prob:.2f}")
    out.print(table)


@app.command()
def search(
    query: Annotated[
        str | None, typer.Option("--query", "-q", help="A question, for a hostile passage.")
    ] = None,
    passage: Annotated[
        Path | None,
        typer.Option(help="Text file with that passage.", metavar="FILE", dir_okay=False),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Or JSON lines with query and passage: find words for the scoring prompt.",
            metavar="FILE",
            dir_okay=False,
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Pairs taken of that file.")] = 4,
    length: Annotated[int, typer.Option(min=1, help="Tokens to find.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps.")] = 10,
    model: ModelOption = "smollm2-135m",
    seed: Annotated[int, typer.Option(help="Seed of the exchanges that are tried.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Search words that make queries likely: what a hostile passage could add, or a prompt gain.

    For a passage, tells how far its score for the question rises, with and without the prior, and
    how fluent it still is. For pairs, the words stand in the scoring prompt, next to the passage.

    Examples:

    * `trlm prompt search --query "who wrote it" --passage passage.txt`

    * `trlm prompt search --pairs pairs.jsonl`
    """
    if bool(pairs) == bool(query and passage) or (pairs and (query or passage)):
        raise typer.BadParameter("give --query and --passage, or --pairs")
    content = read_text(passage) if passage else ""
    if passage and not content.strip():
        raise typer.BadParameter(f"{passage} is empty", param_hint="--passage")
    given = _pairs(pairs)[:most] if pairs else []
    check_model(model)
    with working("Loading"):
        from trlm_retrieval.lm import TimeReversedLM
        from trlm_retrieval.progress import progress_bar
        from trlm_retrieval.prompts import search as searching

        lm = TimeReversedLM.from_pretrained(model)
    with progress_bar("Searching", steps) as advance:
        if given:
            template = lm.template()
            slots = searching.prompt_slots(lm, given, template)
            found = searching.search(lm, slots, length, steps, seed=seed, progress=advance)
            words = searching.with_words(template, found.text)
            without = lm.score(given, template, max_passage_tokens=384)
            scores = {
                "without": [one.sum for one in without],
                "with": [one.sum for one in lm.score(given, words, max_passage_tokens=384)],
            }
            cut = sum(one.cut_tokens > 0 for one in without)
            facts: dict[str, Any] = {"words": found.text, "prompt": words.context} | {
                f"log_likelihood_{name}": sum(values) / len(values)
                for name, values in scores.items()
            }
        else:
            hostile = searching.strengthen(
                lm, str(query), content, length=length, steps=steps, seed=seed, progress=advance
            )
            facts = {
                "addition": hostile.addition,
                "log_likelihood_before": hostile.before.sum,
                "log_likelihood_after": hostile.after.sum,
                "gain_before": hostile.before.gain,
                "gain_after": hostile.after.gain,
                "least_fluent_before": hostile.fluency_before,
                "least_fluent_after": hostile.fluency_after,
            }
            cut = int(hostile.cut_characters > 0)
    if cut:
        err.print(
            f"note: of {count(cut, 'passage')} only the first 384 tokens are read", style="yellow"
        )
    if as_json:
        print_json(facts)
        return
    table = Table(box=None, show_header=False)
    for name, value in facts.items():
        shown = repr(value) if isinstance(value, str) else f"{value:.2f} nats"
        table.add_row(name.replace("_", " "), Text(shown))
    out.print(table)


def _pairs(path: Path) -> list[tuple[str, str]]:
    from trlm_retrieval.errors import DataError
    from trlm_retrieval.files import read_json_lines

    pairs = []
    for number, row in read_json_lines(path):
        pair = row.get("query"), row.get("passage")
        if not all(isinstance(text, str) and text.strip() for text in pair):
            raise DataError(f"{path}, line {number}: needs query and passage, as text")
        pairs.append((str(pair[0]), str(pair[1])))
    if not pairs:
        raise DataError(f"{path} holds no pair")
    return pairs
