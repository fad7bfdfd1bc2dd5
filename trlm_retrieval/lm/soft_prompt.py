"""Soft prompts: trained vectors that a frozen model reads in place of a written instruction.

Prompt tuning (arXiv 2104.08691) puts its vectors ahead of everything. Here they stand between the
passage and the query, where the written instruction would: what is read of a passage before them
does not depend on them, and training starts from the instruction itself.

Their places are token ids behind the end of the embedding table, so that whatever reads token ids
(packed passes, passage states, int8 layers, generation) reads soft prompts; a passage's state holds
the soft prompt as well. No text is ever encoded to these ids.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trlm_retrieval.errors import ModelError
from trlm_retrieval.files import write_text
from trlm_retrieval.lm.template import Template

_MANIFEST, _VECTORS = "soft_prompt.json", "soft_prompt.safetensors"
_SAMPLED = 4  # values of each parameter of the base
_ROUNDING = 0.02  # by which these differ where the base is loaded in another precision


class SoftEmbedding(torch.nn.Module):
    """An embedding table with the vectors of a soft prompt behind its last row.

    :param table: the model's own.
    :param vectors: float32, shape (tokens, width), on the scale of the table's output.
    """

    def __init__(self, table: Any, vectors: torch.Tensor) -> None:
        super().__init__()
        self.table = table
        self.first: int = table.weight.shape[0]
        self.soft = torch.nn.Parameter(vectors)

    @property
    def weight(self) -> torch.Tensor:
        """Of the model's own table."""
        return self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Shape (…) to (…, width)."""
        is_soft = ids >= self.first
        written = self.table(ids.masked_fill(is_soft, 0))
        soft = self.soft[(ids - self.first).clamp_min(0)].to(written.dtype)
        return torch.where(is_soft[..., None], soft, written)


def add_soft_tokens(model: Any, vectors: torch.Tensor) -> tuple[int, ...]:
    """Put vectors behind a model's embedding table, in place; returns their token ids.

    :param vectors: shape (tokens, width).
    :raises ModelError: if the model has a soft prompt already, or embeddings of another width.
    """
    table = model.get_input_embeddings()
    if isinstance(table, SoftEmbedding):
        raise ModelError("the model has a soft prompt already: load it without")
    if vectors.ndim != 2 or vectors.shape[1] != table.weight.shape[1]:
        raise ModelError(
            f"the soft prompt has the shape {tuple(vectors.shape)}, and the model's embeddings "
            f"{table.weight.shape[1]} numbers: it is another model's"
        )
    vectors = vectors.to(table.weight.device, torch.float32, copy=True)
    model.set_input_embeddings(SoftEmbedding(table, vectors))
    return tuple(range(table.weight.shape[0], table.weight.shape[0] + len(vectors)))


def base_sample(model: Any) -> torch.Tensor:
    """A few values of each parameter, float32, that tell a model from others."""
    values = []
    for parameter in model.parameters():
        flat = parameter.detach().flatten()
        values.append(flat[:: max(1, flat.numel() // _SAMPLED)][:_SAMPLED].float().cpu())
    return torch.cat(values)


@dataclass(frozen=True)
class SoftPrompt:
    """A trained soft prompt.

    :ivar base: name, folder or hub id of the model that it was trained for.
    :ivar template: what is written around it; its soft tokens are not set.
    :ivar vectors: float32, shape (tokens, width).
    :ivar sample: what :func:`base_sample` gives for that model.
    """

    base: str
    template: Template
    vectors: torch.Tensor
    sample: torch.Tensor

    def check(self, model: Any) -> None:
        """Make sure that a model is the one that this was trained for, in whatever precision.

        :raises ModelError: if it is another.
        """
        found = base_sample(model)
        if found.shape != self.sample.shape or not torch.allclose(
            found, self.sample, rtol=_ROUNDING, atol=1e-4
        ):
            raise ModelError(
                f"the soft prompt was trained for {self.base!r}, and this is another model: load "
                "that one, or train a soft prompt for this one with `trlm train soft-prompt`"
            )

    def attach(self, model: Any) -> Template:
        """Let a model read it, in place.

        :returns: the template that does.
        :raises ModelError: if the model's embeddings are of another width.
        """
        return replace(self.template, soft_tokens=add_soft_tokens(model, self.vectors))

    def save(self, folder: Path) -> None:
        """Write a folder that :meth:`load` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"vectors": self.vectors.float().cpu().contiguous(), "base": self.sample}
        save_file(tensors, folder / _VECTORS, {"format": "pt"})
        base = str(Path(self.base).resolve()) if Path(self.base).exists() else self.base
        manifest = {
            "base": base,
            "tokens": len(self.vectors),
            "template": {
                "name": self.template.name,
                "context": self.template.context,
                "target": self.template.target,
            },
        }
        write_text(folder / _MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "SoftPrompt":
        """Read what :meth:`save` wrote.

        :raises ModelError: if it is missing or damaged.
        """
        folder = Path(folder).expanduser()
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            template = Template(order="forward", **manifest["template"])
            tensors = load_file(folder / _VECTORS)
            vectors, sample = tensors["vectors"], tensors["base"]
            if len(vectors) != manifest["tokens"] or not vectors.isfinite().all():
                raise ValueError(f"not {manifest['tokens']} vectors of numbers")
            return cls(str(manifest["base"]), template, vectors, sample)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(
                f"{folder} holds no whole soft prompt ({error}): give the folder `model` of a run "
                "of `trlm train soft-prompt`, or train it again"
            ) from error


def is_soft_prompt(folder: str | Path) -> bool:
    """Whether a folder holds a soft prompt and no whole model."""
    folder = Path(folder).expanduser()
    return (folder / _MANIFEST).is_file() and not (folder / "config.json").is_file()
