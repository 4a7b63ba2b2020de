"""Which form of the force field conserves energy: `python -m benchmarks.conservation`, total energy along NVE runs.

The published weights on one small electrolyte box, from the same warm start: as published (forces at fixed charges,
steps at the cutoffs), each repair by itself, and both. Writes `conservation.csv` and a picture; what is there is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlff
from benchmarks import boxes
from benchmarks.table import RESULTS, write_own

FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "smooth ends": {"smooth": True, "erfc": "exact"},
    "conservative forces": {"forces": "conservative"},
    "both": {"smooth": True, "erfc": "exact", "forces": "conservative"},
}
SHOWN_EVERY_FS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the table and draw the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.conservation", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--atoms", type=int, default=200)
    parser.add_argument("--length-ps", type=float, default=5.0)
    parser.add_argument("--time-step-fs", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--work", type=Path, default=Path("conservation"), help="folder of unfinished work")
    parser.add_argument("--results", type=Path, default=RESULTS)
    o = parser.parse_args(arguments)
    if not (boxes.reference() / "weights.safetensors").exists():
        print("the published weights are missing (LSMRUN_REFERENCE): nothing measured")
        return 0
    o.work.mkdir(parents=True, exist_ok=True)
    runs = {
        name: _kept(o.work / f"{k}.npy", lambda n=name: energies(n, o))
        for k, name in enumerate(FORMS)
        if name in o.forms
    }
    n_atoms = len(_start(o))
    rows = [_row(name, run, n_atoms, o) for name, run in runs.items()]
    write_own(o.results / "conservation.csv", rows)
    draw(runs, n_atoms, o.results / "conservation.png")
    for row in rows:
        print(row)
    return 0


def energies(form: str, o: argparse.Namespace) -> NDArray[np.float64]:
    """Time in ps, total energy and temperature `(3, steps)` of one form."""
    from mlff.calculator import MLFFCalculator
    from mlff.dynamics.simulation import Dynamics, Step, simulate

    model = mlff.load(boxes.reference() / "weights.safetensors").changed(**FORMS[form])
    calculator = MLFFCalculator(model, fast=True, threads=o.threads)
    d = Dynamics(ensemble="nve", temperature_K=300.0, length_ps=o.length_ps, time_step_fs=o.time_step_fs)
    steps: list[tuple[float, float, float]] = []

    def record(step: Step) -> None:
        steps.append((step.time_ps, step.conserved_kcal_mol, step.temperature_K))
        if step.step % 1000 == 0:
            print(f"{form}: {step.time_ps:g} ps", flush=True)

    simulate(_start(o), calculator, d, seed=0, on_step=record)
    return np.array(steps).T


def _start(o: argparse.Namespace) -> Any:
    """The packed box, relaxed and warm: every form goes on from the same places and velocities."""
    from ase.io import read, write

    from mlff.calculator import MLFFCalculator
    from mlff.dynamics.relaxation import Relaxation, relax
    from mlff.dynamics.simulation import Dynamics, simulate
    from mlff.system.liquid import System, pack

    path = o.work / "start.extxyz"
    if path.exists():
        return read(path)
    system = System(
        name="dmc_ec_lipf6", solvents=["DMC", "EC"], solvent_amounts=[51.0, 49.0], solvent_unit="mass", salts=["LiPF6"],
        salt_amounts=[0.43], salt_unit="molality", n_atoms=o.atoms, density_g_cm3=1.2, temperature_K=300.0,
    )  # fmt: skip
    model = mlff.load(boxes.reference() / "weights.safetensors")
    calculator = MLFFCalculator(model, fast=True, threads=o.threads)
    atoms = relax(pack(system, 0).atoms, calculator, Relaxation(), temperature_K=300.0, seed=0)
    warm = Dynamics(ensemble="csvr", temperature_K=300.0, length_ps=1.0, temperature_damping_fs=50.0)
    atoms = simulate(atoms, calculator, warm, seed=0).put_on(atoms)
    atoms.info.clear()
    write(path, atoms, format="extxyz")
    return read(path)


def _kept(path: Path, make: Any) -> NDArray[np.float64]:
    if not path.exists():
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, make())
        path.with_suffix(".part").rename(path)
    found: NDArray[np.float64] = np.load(path)
    return found


def _row(form: str, run: NDArray[np.float64], n_atoms: int, o: argparse.Namespace) -> dict[str, Any]:
    """Slope of a line through the total energy, what is left around it, and the mean temperature."""
    time, energy, temperature = run
    line = np.polyfit(time, energy, 1)
    left = (energy - np.polyval(line, time)).std()
    return {
        "form": form,
        "atoms": n_atoms,
        "length_ps": o.length_ps,
        "time_step_fs": o.time_step_fs,
        "drift_kcal_mol_atom_ns": f"{1000 * line[0] / n_atoms:.4g}",
        "drift_K_ns": f"{1000 * line[0] / n_atoms / (3 * 0.0019872):.4g}",
        "rms_around_the_line_kcal_mol": f"{left:.4g}",
        "change_kcal_mol": f"{energy[-100:].mean() - energy[:100].mean():.4g}",
        "temperature_K": f"{temperature.mean():.4g}",
    }


def draw(runs: dict[str, NDArray[np.float64]], n_atoms: int, path: Path) -> None:
    """Total energy of an atom over time, from its first value."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, (time, energy, _) in runs.items():
        every = max(1, round(SHOWN_EVERY_FS / (1000 * (time[1] - time[0]))))
        axes.plot(time[::every], (energy - energy[0])[::every] / n_atoms * 1000, label=name, lw=0.9)
    axes.set(xlabel="time, ps", ylabel="total energy, cal/mol per atom")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
