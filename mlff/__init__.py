"""A machine-learned force field for liquid electrolytes; nothing here knows Hydra, MLflow or run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["default_model", "load"]


def default_model() -> Path:
    """The weights that come with the package, for `load`; `MODEL_CARD.md` beside them says what they are good for."""
    from importlib.resources import files

    return Path(str(files("mlff") / "data" / "default_model" / "model.safetensors"))


def __getattr__(name: str) -> Any:
    # torch takes a second to import: `import mlff` stays free of it
    if name == "load":
        from mlff.weights import load

        return load
    raise AttributeError(f"module 'mlff' has no attribute {name!r}")
