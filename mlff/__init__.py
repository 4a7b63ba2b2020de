"""A machine-learned force field for liquid electrolytes; nothing here knows Hydra, MLflow or run folders."""

from __future__ import annotations

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import: `import mlff` stays free of it
    if name == "load":
        from mlff.weights import load

        return load
    raise AttributeError(f"module 'mlff' has no attribute {name!r}")
