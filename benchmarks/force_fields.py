"""Our force field and MACE on the same frames for the same time: `python -m benchmarks.force_fields --seconds 225`.

Both train on the carbonate frames of one seed (the same training, validation and test part) on one thread, MACE for
so many seconds of CPU time; `results/force_fields.csv` gets errors on the validation and the test part, the CPU time of
training, and the time of one energy-and-forces call on the largest test cluster. MACE lives in an environment of its own,
made at the first call: it needs an older e3nn.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import ONE_THREAD
from benchmarks.table import RESULTS, own_versions
from mlff.datasets import LabelSet
from mlff.labelled import LabelledFrame
from mlff.units import KCAL_PER_EV
from runners.cli import PROGRAM
from runners.provenance import cpu_model

HERE = Path(__file__).resolve().parent
MACE_PACKAGES = (("torch",), ("mace-torch>=0.3.15,<0.4",))
COLUMNS = (
    "model", "seed", "frames", "epochs", "training_cpu_s", "valid_energy_mae_meV_per_atom", "valid_forces_mae_meV_per_A",
    "energy_mae_meV_per_atom", "forces_mae_meV_per_A", "call_atoms", "call_wall_ms", "call_cpu_ms", "versions",
    "cpu_model", "command",
)  # fmt: skip
TIMED_CALLS = 50


def main(arguments: Sequence[str] | None = None) -> int:
    """Train both, or one of them, and add rows to the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.force_fields", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--seconds", type=float, default=225.0, help="CPU time of the peer's training; ours has its own"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("lsmrun", "mace"))
    parser.add_argument("--channels", type=int, default=32, help="of MACE")
    parser.add_argument("--override", action="append", default=[], help="for lsmrun, as training.epochs=100")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    labels = carbonates(options.seed)
    rows = []
    if options.only != "mace":
        rows.append(train_ours(labels, options.seed, options.override))
    if options.only != "lsmrun":
        rows.append(train_mace(labels, options.seconds, options.channels))
    shared = {"seed": options.seed, "frames": len(labels.train), "cpu_model": cpu_model()}
    path = options.results / "force_fields.csv"
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            table.writeheader()
        for row in rows:
            table.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in (shared | row).items()})
    for row in rows:
        print(row)
    return 0


def carbonates(seed: int) -> LabelSet:
    """The frames that `data=carbonates seed=...` means, test frames from the data folder."""
    from runners.check import build
    from runners.compose import Source, resolve

    section = resolve(Source().compose(["model=mlff", "data=carbonates"]))["data"]
    root = Path(os.environ.get("LSMRUN_DATA") or "~/.cache/lsmrun/data").expanduser()
    labels: LabelSet = build(section, "data").load(root, seed)
    return labels


def train_ours(labels: LabelSet, seed: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Our default run as a user starts it, and one call of its engine."""
    import mlff
    from mlff.calculator import MLFFCalculator

    words = ["model=mlff", "data=carbonates", f"seed={seed}", "threads=1", "resume=false", "runner.pictures=false"]
    words += overrides
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words],
            env=os.environ | {"LSMRUN_HOME": home},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        model = mlff.load(next(Path(home).glob("hydra/*/*/model/model.safetensors")))
        config = next(Path(home).glob("hydra/*/*/model/model.yaml")).read_text()
    largest = _atoms(max(labels.test, key=lambda f: len(f.configuration.numbers)))
    calculator = MLFFCalculator(model, fast=True, threads=1)
    return {
        "model": "lsmrun",
        "epochs": int(re.findall(r"epochs: (\d+)", config)[0]),
        "training_cpu_s": _result(done.stdout, "cost/training_cpu_s"),
        "valid_energy_mae_meV_per_atom": _result(done.stdout, "valid/energy_mae_meV_per_atom"),
        "valid_forces_mae_meV_per_A": _result(done.stdout, "valid/forces_mae_meV_per_A"),
        "energy_mae_meV_per_atom": _result(done.stdout, "energy/mae_meV_per_atom"),
        "forces_mae_meV_per_A": _result(done.stdout, "forces/mae_meV_per_A"),
        **time_calls(calculator, largest),
        "versions": own_versions(),
        "command": f"lsmrun {' '.join([*words[:4], *overrides])}",
    }


def time_calls(calculator: Any, atoms: Any) -> dict[str, Any]:
    """Median time of energy and forces while positions move a little."""
    rng = np.random.default_rng(0)
    wall, cpu = [], []
    for _ in range(TIMED_CALLS):
        atoms.positions += rng.normal(0, 1e-3, atoms.positions.shape)
        started, used = time.perf_counter(), time.process_time()
        calculator.calculate(atoms, ["energy", "forces"])
        wall.append(1000 * (time.perf_counter() - started))
        cpu.append(1000 * (time.process_time() - used))
    return {"call_wall_ms": float(np.median(wall)), "call_cpu_ms": float(np.median(cpu)), "call_atoms": len(atoms)}


def train_mace(labels: LabelSet, seconds: float, channels: int) -> dict[str, Any]:
    """MACE on the same frames in its own environment; raises `RuntimeError` where that fails."""
    import ase.io

    python = mace_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("train", "valid", "test"):
            ase.io.write(folder / f"{part}.xyz", [_atoms(f) for f in getattr(labels, part)], format="extxyz")
        atoms = {int(z): energy / KCAL_PER_EV for z, energy in labels.isolated.items()}
        (folder / "atoms.json").write_text(json.dumps(atoms))
        command = [python, HERE / "peer_mace.py", folder, str(seconds), str(channels)]
        done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    versions = " ".join(f"{package} {version}" for package, version in answer.pop("versions").items())
    what = f"MACE, {channels} channels, L = 0"
    return {
        "model": what,
        "versions": versions,
        "command": f"peer_mace.py, {seconds:g} CPU s, {channels} channels",
        **answer,
    }


def mace_python() -> Path:
    """The interpreter of MACE's own environment, in `LSMRUN_MACE_VENV`, else `~/.cache/lsmrun/mace`; made if missing."""
    folder = Path(os.environ.get("LSMRUN_MACE_VENV", "~/.cache/lsmrun/mace")).expanduser()
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = folder / "complete"  # a broken-off installation has no such file
    if not complete.exists():
        venv.create(folder, with_pip=True, clear=True)
        for packages in MACE_PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        complete.touch()
    return python


def _atoms(frame: LabelledFrame) -> Any:
    from ase import Atoms

    c = frame.configuration
    atoms = Atoms(numbers=c.numbers, positions=c.positions)
    if frame.energy is not None and frame.forces is not None:
        atoms.info["REF_energy"] = frame.energy / KCAL_PER_EV
        atoms.arrays["REF_forces"] = frame.forces / KCAL_PER_EV
    return atoms


def _result(out: str, name: str) -> float:
    return float(re.findall(rf"^{re.escape(name)} +([\d.e+-]+)$", out, re.MULTILINE)[0])


if __name__ == "__main__":
    sys.exit(main())
