"""The torch model on a GPU beside the CPU engine: `python -m benchmarks.gpu`; says so where there is no GPU.

Energy, forces and virial in float32, with the whole long-range sum and without it; neighbour lists (made on the CPU)
are timed apart. Calls are warmed up and synchronised; every row compares the forces with the engine's on the same box.
Needs torch, numpy, numba, scipy, pyyaml, pydantic, safetensors, vesin and tad-dftd3; nothing else of the project's.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import boxes
from mlff.engine import Engine
from mlff.frames import Batch, Configuration
from mlff.model import ForceField

SIZES = (500, 4116, 12348, 32928)
COLUMNS = (
    "device", "model", "box", "atoms", "edges", "long_range", "forces", "call_ms", "lists_ms", "peak_GB", "ns_per_day",
    "engine_ms", "engine_threads", "ratio", "max_force_difference", "rms_force", "energy_difference", "versions",
)  # fmt: skip
"""`call_ms`: median of one call, lists excluded; `lists_ms`: making and moving them; `ns_per_day`: at 1 fs with lists
from the CPU each step; `ratio`: `engine_ms` / `call_ms`; differences from the engine in kcal/mol/Å and kcal/mol."""

VARIANTS = (("none", "fixed_charges"), ("mesh", "fixed_charges"), ("mesh", "conservative"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write `gpu.csv`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of atoms")
    parser.add_argument("--device", default="cuda", help="cpu measures the torch model there, to try the script")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parent / "results")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no GPU that torch {torch.__version__} can use: nothing measured (--device cpu tries the script)")
        return 0
    device = torch.device(options.device)
    model, weights = boxes.model()
    rows = []
    print(f"{device_name(device)}; {weights}; {versions()}", flush=True)
    for n in options.sizes:
        c, what = boxes.box(n)
        for long_range, forces in VARIANTS:
            variant = model.changed(long_range=long_range, forces=forces)
            row = {"model": weights, "box": what, "long_range": long_range, "forces": forces}
            row |= measure(variant, c, device, options.repeats)
            rows.append(row)
            print(told(row), flush=True)
    options.results.mkdir(parents=True, exist_ok=True)
    with (options.results / "gpu.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return 0


def measure(model: ForceField, c: Configuration, device: torch.device, repeats: int) -> dict[str, Any]:
    """Time of lists and of calls on the device, and how far the result is from the CPU engine's."""
    on_device = model.to(device)
    batch: Batch = on_device.batch(c)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    call_ms = median_ms(lambda: on_device.predict(batch), device, repeats)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")
    lists_ms = median_ms(lambda: on_device.batch(c), device, max(3, repeats // 4))
    found = on_device.predict(batch)
    engine = Engine(model.cpu())
    wanted = engine.evaluate(c)
    engine_ms = median_ms(lambda: engine.evaluate(c), torch.device("cpu"), max(3, repeats // 2))
    return {
        "device": device_name(device),
        "atoms": len(c.numbers),
        "edges": len(batch.edges),
        "call_ms": call_ms,
        "lists_ms": lists_ms,
        "peak_GB": peak,
        "ns_per_day": 86.4 / (call_ms + lists_ms),
        "engine_ms": engine_ms,
        "engine_threads": engine.team.threads,
        "ratio": engine_ms / call_ms,
        "max_force_difference": float(np.abs(found.forces.cpu().numpy() - wanted.forces).max()),
        "rms_force": float(np.sqrt((wanted.forces**2).mean())),
        "energy_difference": found.energy.item() - wanted.energy,
        "versions": versions(),
    }


def median_ms(work: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 3) -> float:
    """Median wall time of `work` in ms; the device has finished before the clock stops."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for k in range(warm_up + repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        if k >= warm_up:
            times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def versions() -> str:
    """Versions that decide the speed."""
    found = [f"python {platform.python_version()}", f"cuda {torch.version.cuda}"]
    return " ".join([*found, *(f"{p} {importlib.metadata.version(p)}" for p in ("torch", "numpy", "numba"))])


def told(row: dict[str, Any]) -> str:
    """One row as a line for the terminal."""
    return (
        f"{row['atoms']:>6} atoms, {row['box']}, long range {row['long_range']}, {row['forces']}: "
        f"{row['call_ms']:.2f} ms a call, lists {row['lists_ms']:.1f} ms, peak {row['peak_GB']:.2f} GB; "
        f"engine {row['engine_ms']:.1f} ms on {row['engine_threads']} threads ({row['ratio']:.1f}x), "
        f"forces within {row['max_force_difference']:.1e} of {row['rms_force']:.3g} rms, "
        f"energy {row['energy_difference']:+.1e} kcal/mol"
    )


if __name__ == "__main__":
    sys.exit(main())
