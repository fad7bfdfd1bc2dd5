"""Models that ship inside this package, one folder each, found by name without a network."""

from pathlib import Path


def packaged() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(folder.parent.name for folder in Path(__file__).parent.glob("*/config.json"))


def packaged_folder(name: str) -> Path | None:
    """The folder of a packaged model, or None where none has this name."""
    return Path(__file__).parent / name if name in packaged() else None
