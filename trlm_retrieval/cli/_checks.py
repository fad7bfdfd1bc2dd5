"""What commands check before they import torch, so that mistakes are told at once.

Each check raises what the library would raise later, for the same reason and with the same words.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from trlm_retrieval.errors import DataError
from trlm_retrieval.models.source import DEFAULT_MODEL, embedder_source, language_model_source
from trlm_retrieval.models.store import resolve

# The extra that brings a module, for those that are imported only where they are needed.
EXTRA_OF = {
    **dict.fromkeys(
        ("datasets", "ir_datasets", "ir_measures", "matplotlib", "psutil", "sklearn"), "eval"
    ),
    **dict.fromkeys(("fastapi", "prometheus_client", "uvicorn"), "serve"),
    "gguf": "gguf",
    "haystack_integrations": "generate",
    "peft": "train",
    "pyarrow": "score",
    "ray": "ray",
    "sentence_transformers": "embedders",
}


def check_extras(*modules: str) -> None:
    """
    :raises ModuleNotFoundError: if a module is not installed; the command line names its extra.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def check_model(model: str | Path | None = None) -> None:
    """Check that a language model is there; without a name, the default one.

    :raises ModelError: if it is not, or is plainly something else.
    """
    language_model_source(model or DEFAULT_MODEL)


def check_index(folder: Path, model: str | None = None, *, ranked: bool = True) -> None:
    """Check that an index is there and complete, and the models that searching it needs.

    :param model: what ranks; None is the model whose states stand beside the index, or the default.
    :param ranked: whether its passages are ranked at all.
    :raises PassageIndexError: if there is no index, or a file of it is missing or cut.
    :raises ModelError: if a model is not there.
    """
    from trlm_retrieval.passage_index.files import STATES, check_sizes, read_manifest

    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    if not ranked:
        return
    if manifest.get("embedder"):
        embedder_source(manifest["embedder"]["name"])
    if model is not None or not (folder / STATES).is_dir():
        check_model(model)


def check_base(model: str) -> None:
    """Check that a model of any kind is there, to be trained, to teach or to compare with.

    :raises ModelError: if it is not.
    """
    resolve(model)


def check_pairs(files: Iterable[str]) -> None:
    """
    :raises DataError: if there is no such file; each is given as ``FILE`` or ``FILE:MOST``.
    """
    from trlm_retrieval.training.corpus import PairFile

    check_paths(PairFile.parse(text).path for text in files)


def check_embedder(embedder: str) -> None:
    """
    :raises ModelError: if there is no such embedder.
    """
    embedder_source(embedder)


def check_paths(paths: Iterable[str | Path]) -> None:
    """
    :raises DataError: if nothing is at one of the paths.
    """
    for path in paths:
        if str(path) != "-" and not Path(path).exists():
            raise DataError(f"no such file or folder: {path}")


def check_data(data: str) -> None:
    """Check that a collection is ``demo``, a folder, or may be one of ir_datasets or of the hub.

    :raises DataError: if it is none of them.
    :raises ModuleNotFoundError: if ir_datasets is needed and not installed.
    """
    folder = Path(data)
    if data.startswith("irds:"):
        check_extras("ir_datasets")
        return
    if data == "demo" or folder.is_dir():
        return
    # Beside a folder that is there it is a mistyped path, which no hub needs to be asked about.
    if data.count("/") != 1 or data.startswith((".", "/")) or folder.parent.is_dir():
        raise DataError(
            f"--data {data}: no such folder; give a BEIR folder, a hub id, irds:NAME or 'demo'"
        )
