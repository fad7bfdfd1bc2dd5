"""Make a run's model or adapter small enough to ship, and write its card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import Template

from trlm_retrieval.files import write_json, write_text
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.adapter import adapter_base, is_adapter, write_adapter
from trlm_retrieval.models.int8_weights import write_small
from trlm_retrieval.models.loading import check_weight, save_settings
from trlm_retrieval.training.run import HISTORY, RunError

_CARD = Path(__file__).with_name("model_card.md")
_READS = {"forward": "first to last", "reverse": "last to first", "both": "in either order"}


def export_run(
    run: Path,
    folder: Path,
    *,
    name: str,
    licence: str,
    precision: Literal["int8", "float16"],
    figures: Sequence[Path] = (),
    merge: bool = False,
    first_stage_weight: float | None = None,
    base_share: float = 0.0,
) -> int:
    """Write a finished run's model to a folder that ``from_pretrained`` loads, with its card.

    Training on pairs forgets some of what the model could do before. The average of the weights
    before and after keeps most of both (Wortsman et al., *Robust fine-tuning of zero-shot models*,
    CVPR 2022).

    :param precision: how a whole model's weights are stored; an adapter is stored in float16.
    :param figures: JSON files with measured figures; they are put into the card.
    :param merge: write an adapter and its base as one model.
    :param first_stage_weight: what :class:`TRLMRanker` gives the first stage's score unless told
        otherwise; by default 0.45.
    :param base_share: how much of the average is the model that the run began with; 0 writes what
        the run made.
    :returns: size of the folder in bytes.
    :raises RunError: if the run is not finished, or has no base of the same shape to average with.
    :raises ValueError: if the weight is outside 0..1, or the share is, or is 1.
    """
    if first_stage_weight is not None:
        check_weight(first_stage_weight)
    if not 0 <= base_share < 1:
        raise ValueError(f"base_share must be 0 or more and below 1, not {base_share}")
    model_folder = run / "model"
    if not model_folder.is_dir():
        raise RunError(f"{run} holds no finished run; it needs a folder `model`")
    lm = TimeReversedLM.from_pretrained(model_folder, dtype="float32", device="cpu")
    base = adapter_base(model_folder) if is_adapter(model_folder) and not merge else None
    if base is None and base_share:
        _average(lm, run, base_share)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.safetensors"), *folder.glob("*config.json")):
        stale.unlink()
    if base is not None:
        parameters = write_adapter(model_folder, folder, 1 - base_share)
        precision = "float16"
    else:
        parameters = sum(parameter.numel() for parameter in lm.model.parameters())
        _write_whole(lm, folder, precision)
    save_settings(lm.order, lm.start_tokens, folder, first_stage_weight)
    history = json.loads((model_folder / HISTORY).read_text(encoding="utf-8"))
    if base_share:
        history[-1]["base_share"] = base_share
    write_json(folder / HISTORY, history)
    card = Template(_CARD.read_text(encoding="utf-8"), trim_blocks=True, keep_trailing_newline=True)
    write_text(
        folder / "README.md",
        card.render(
            name=name,
            licence=licence,
            reads=_READS[lm.order],
            base=base,
            parameters=parameters,
            megabytes=_size(folder) / 1e6,
            precision=precision,
            config=lm.model.config,
            vocabulary=len(lm.tokenizer),
            longest=lm.max_context,
            history=history,
            weight=first_stage_weight,
            figures=[_measured(file) for file in figures],
        ),
    )
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner alone
    return _size(folder)


def _average(lm: TimeReversedLM, run: Path, base_share: float) -> None:
    """Move a run's weights towards those that it began with, in place."""
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    if settings.get("base") is None:
        raise RunError(f"{run} began with random weights: leave base_share out")
    base = TimeReversedLM.from_pretrained(settings["base"], dtype="float32", device="cpu")
    before, after = (dict(model.named_parameters()) for model in (base.model, lm.model))
    if {name: p.shape for name, p in before.items()} != {n: p.shape for n, p in after.items()}:
        raise RunError(
            f"{run} and the model {settings['base']} that it began with differ in shape, so that "
            "there is no average: leave base_share out"
        )
    with torch.no_grad():
        for name, parameter in after.items():
            parameter.lerp_(before[name], base_share)


def _write_whole(lm: TimeReversedLM, folder: Path, precision: Literal["int8", "float16"]) -> None:
    lm.tokenizer.save_pretrained(folder)
    if precision == "int8":
        write_small(lm.model, folder)
    else:
        lm.model.to(torch.float16).save_pretrained(folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _measured(file: Path) -> dict[str, Any]:
    """A file's figures under its name: those of ``trlm train check``, or of ``trlm eval``.

    Of an evaluation, each system's main measure is shown, with its interval.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    if "systems" not in found:
        return {"name": file.stem, "values": _flat(found)}
    measure = found["measure"]
    told = {
        f"{measure}, {system}": f"{values['mean']:.3f} ({values['low']:.3f}–{values['high']:.3f})"
        for system, measures in found["systems"].items()
        for values in [measures[measure]]
    }
    return {"name": file.stem, "values": {found["unit"]: str(found["queries"])} | told}


def _flat(value: Any, path: str = "") -> dict[str, str]:
    """The numbers in nested JSON, each under the names that lead to it."""
    if isinstance(value, dict):
        return {
            name: text
            for key, inner in value.items()
            for name, text in _flat(inner, f"{path} {key}".strip()).items()
        }
    if isinstance(value, bool) or not isinstance(value, int | float):
        return {}
    return {path: f"{value:,}" if isinstance(value, int) else f"{value:.4g}"}
