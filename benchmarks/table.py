"""Benchmark tables: one CSV each, the same columns in all of them."""

from __future__ import annotations

import csv
import importlib.metadata
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runners.provenance import cpu_model

RESULTS = Path(__file__).resolve().parent / "results"

COLUMNS = (
    "what",
    "size",
    "threads",
    "cpu_ms",
    "wall_ms",
    "peer",
    "ratio",
    "operations",
    "bytes",
    "floor_ms",
    "versions",
    "cpu_model",
)
"""`cpu_ms` and `wall_ms` belong to one unit of `what` (a sample, a whole INIT); `ratio` is CPU time over that of lsmrun
on one thread for the same work; `operations` (synapses read or changed), `bytes` (of the synapse tables) and `floor_ms`
(operations times their cost measured alone) belong to the same unit. What was not measured is empty."""

OWN = "lsmrun"


def own_versions() -> str:
    """Versions that decide our own speed."""
    names = ("lsmrun", "numba", "llvmlite", "numpy")
    return " ".join([f"python {platform.python_version()}", *(f"{n} {importlib.metadata.version(n)}" for n in names)])


def row(what: str, size: str, **values: Any) -> dict[str, Any]:
    """A row of ours: columns that are not given are empty, numbers are rounded to what they are worth."""
    cells = dict.fromkeys(COLUMNS, "") | {
        "what": what,
        "size": size,
        "peer": OWN,
        "versions": own_versions(),
        "cpu_model": cpu_model(),
    }
    for name, value in values.items():
        cells[name] = f"{value:.4g}" if isinstance(value, float) else value
    return cells


def missing(what: str, reason: str) -> dict[str, Any]:
    """A row that says why there is nothing to measure."""
    return row(what, "", versions=f"missing: {reason}")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a benchmark table with the columns `COLUMNS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


def write_own(path: Path, rows: Sequence[dict[str, Any]], digits: int = 0) -> None:
    """Write a table whose columns are those of its first row; floats are rounded to `digits` if given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        for cells in rows:
            table.writerow({k: f"{v:.{digits}g}" if digits and isinstance(v, float) else v for k, v in cells.items()})


_SHOWN = {"what": -72, "size": -24, "peer": -11, "threads": 7, "cpu_ms": 9, "wall_ms": 9, "ratio": 6, "floor_ms": 8}


def line(cells: dict[str, Any]) -> str:
    """One row as a line for the terminal; operations, bytes, versions and processor are in the CSV."""
    if str(cells["versions"]).startswith("missing"):
        return f"{cells['what']:<72} {cells['peer']}: {cells['versions']}"
    return " ".join(
        f"{cells[name]:<{-width}}" if width < 0 else f"{cells[name]:>{width}}" for name, width in _SHOWN.items()
    )


def heading() -> str:
    """Names of the columns above `line`s."""
    return line({name: name for name in COLUMNS})
