"""Where the files of a named model are, checked as far as that goes without loading any of them.

Imports neither torch nor transformers, so that a mistyped name is told at once.
"""

import json
from pathlib import Path

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.hub import ANYBODY, Hub
from trlm_retrieval.models.kinds import check_can_embed, check_is_language_model, scores_pairs
from trlm_retrieval.models.store import REGISTRY, resolve

DEFAULT_MODEL = "smollm2-135m"
DEFAULT_EMBEDDER = "minilm"
DEFAULT_CROSS_ENCODER = "ms-marco-minilm-l12"  # to compare with

# A folder with one of these holds a model, an adapter to one, or a soft prompt for one.
_MODEL_FILES = ("config.json", "adapter_config.json", "soft_prompt.json")


def language_model_source(name: str | Path, hub: Hub = ANYBODY) -> str | Path:
    """The folder, ``.gguf`` file or hub id of a language model.

    :param name: a name from `trlm models list`, a folder, a ``.gguf`` file or a hub id.
    :param hub: how it is taken where it is a hub's.
    :raises ModelError: if nothing is there, or it is plainly no language model.
    """
    stored = REGISTRY.get(str(name))
    if stored is not None:
        check_is_language_model(stored.name, stored.kind)
    source = resolve(name, hub)
    if not isinstance(source, Path):
        return source
    if source.is_file() and source.suffix != ".gguf":
        raise ModelError(f"{source} is neither a model folder nor a .gguf file")
    if source.is_dir() and not any((source / file).is_file() for file in _MODEL_FILES):
        raise ModelError(
            f"{source} holds no config.json, so it is not a model folder; give the folder that "
            "save_pretrained wrote, a .gguf file, or a name from `trlm models list`"
        )
    if source.is_dir() and _scores_pairs(source):
        check_is_language_model(str(name), "cross-encoder")
    return source


def embedder_source(name: str, hub: Hub = ANYBODY) -> str | Path:
    """The folder or hub id of a sentence embedder.

    :param name: a name from `trlm models list`, a folder or a hub id.
    :param hub: how it is taken where it is a hub's.
    :raises ModelError: if nothing is there, or it is plainly no embedder.
    """
    stored = REGISTRY.get(name)
    if stored is not None:
        check_can_embed(stored.name, stored.kind)
    source = resolve(name, hub)
    if isinstance(source, Path) and _scores_pairs(source):
        check_can_embed(name, "cross-encoder")
    return source


def _scores_pairs(folder: Path) -> bool:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return scores_pairs([str(name) for name in settings.get("architectures") or ()])
    except (OSError, ValueError, AttributeError):
        return False  # not there or damaged: who reads it says so
