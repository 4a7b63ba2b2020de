"""A machine-learned force field for liquid electrolytes; nothing here knows Hydra, MLflow or run folders.

| file | idea |
|---|---|
| `units.py`, `streams.py`, `processes.py` | units; a random stream for each purpose; how processes that compute begin |
| `frames.py`, `labelled.py`, `datasets.py`, `authors_format.py` | configurations, their labels, files of both |
| `neighbours.py` | which atoms see which |
| `get.py`, `charges.py`, `coulomb.py`, `coulomb_matrix.py`, `dispersion.py` | the terms of the energy |
| `model.py`, `weights.py`, `export.py` | their sum; its weights in files, ours and those of other programs |
| `engine.py`, `calculator.py` | fast inference, and the ASE calculator |
| `scores.py`, `opinions.py` | how far a model is from labels, and several models from each other |
| `read_out.py`, `distillation.py`, `distiller.py` | the read-out with all else fixed; several models to one |
| `protocol.py`, `properties.py` | how properties of a liquid are simulated, and read from trajectories |
| `labels/`, `training/`, `alignment/` | labels for clusters, training on them, densities moved to measured ones |
| `system/`, `dynamics/`, `transport/` | from composition to box, its dynamics, what its time series say |
| `fast/` | the kernels of the engine |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["default_model", "load", "packaged"]

PACKAGED = "package:"
"""Before the name of a file or model that comes with the package."""


def default_model() -> Path:
    """The weights that come with the package, for `load`; `MODEL_CARD.md` beside them says what they are good for."""
    return packaged("default_model")


def packaged(name: str) -> Path:
    """The weights of a model that comes with the package: `default_model`, `loop_model`. Raises `ValueError` for others."""
    from importlib.resources import files

    folder = Path(str(files("mlff"))) / "data"
    known = sorted(path.parent.name for path in folder.glob("*/model.safetensors"))
    if name not in known:
        raise ValueError(f"{name}: no model of this name comes with the package (there are {', '.join(known)})")
    return folder / name / "model.safetensors"


def __getattr__(name: str) -> Any:
    # torch takes a second to import: `import mlff` stays free of it
    if name == "load":
        from mlff.weights import load

        return load
    raise AttributeError(f"module 'mlff' has no attribute {name!r}")
