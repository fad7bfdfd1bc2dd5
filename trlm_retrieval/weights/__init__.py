"""Models and adapters that ship inside this package, found by name without a network.

Of a model that is pulled, the folder of its name holds settings alone.
"""

from pathlib import Path

HOME = Path(__file__).parent


def packaged() -> list[str]:
    """Names of the models that ship with the package."""
    configs = (*HOME.glob("*/config.json"), *HOME.glob("*/adapter_config.json"))
    return sorted({file.parent.name for file in configs})


def packaged_folder(name: str) -> Path | None:
    """The folder of a packaged model, or None where none has this name."""
    return HOME / name if name in packaged() else None
