"""The same model by ASE, LAMMPS and OpenMM: `python -m benchmarks.engines forces` and `... density`.

`forces` puts the recorded electrolyte box through every program and through the exported TorchScript, and measures what
charges cost that reach LAMMPS' PPPM a step late; `density` simulates one small liquid at constant pressure by each program.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import boxes
from benchmarks.table import RESULTS, write_own
from runners.cli import PROGRAM

PROGRAMS = ("ase", "lammps", "openmm")
LATE = [(step, ahead) for step in (1.0, 0.5) for ahead in (False, True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write `engines_<what>.csv`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("what", choices=("forces", "density"))
    parser.add_argument("--steps", type=int, default=20, help="forces: steps with late charges")
    parser.add_argument("--system", default="dmc", help="density: the liquid")
    parser.add_argument("--atoms", type=int, default=120)
    parser.add_argument("--length-ps", type=float, default=10.0)
    parser.add_argument("--programs", nargs="+", default=PROGRAMS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    o = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    found = forces(o.steps) if o.what == "forces" else (density(p, o) for p in o.programs)
    for row in found:
        print(row, flush=True)
        rows.append(row)
    write_own(o.results / f"engines_{o.what}.csv", rows, digits=4)
    return 0


def forces(steps: int) -> list[dict[str, Any]]:
    """Deviations from the float64 torch model, and of late charges from the engine's whole sum."""
    model, weights = boxes.model()
    c, what = boxes.box(boxes.RECORDED_ATOMS)
    exact = model.double().changed(long_range="sum")
    truth = exact.predict(exact.batch(c))
    single = model.float()
    rows = []
    for name, (energy, force) in _single_points(single, c).items():
        off = force - truth.forces.numpy()
        rows.append(_row(f"{name}; {weights}", what, off, energy - truth.energy.item()))
    for step, ahead in LATE:
        offs, energies = _late(single, c, step, ahead, steps)
        how = "extrapolated" if ahead else "one step late"
        rows.append(_row(f"LAMMPS with PPPM, charges {how}, {step:g} fs; {weights}", what, offs, energies))
    return rows


def _row(name: str, what: str, off: Any, energy: float) -> dict[str, Any]:
    rms, largest = float(np.sqrt((off**2).mean())), float(np.abs(off).max())
    return {"what": name, "box": what, "rms_force": rms, "largest_force": largest, "energy": float(energy)}


def _single_points(model: Any, c: Any) -> dict[str, tuple[float, Any]]:
    """Energy and forces that each program holds before its first step; kcal/mol, Å."""
    from ase import Atoms

    from mlff.calculator import MLFFCalculator
    from mlff.dynamics.engines import integrator_of
    from mlff.dynamics.integrators import Conditions
    from mlff.engine import Engine

    found = {}
    result = Engine(model.changed(long_range="mesh")).evaluate(c)
    found["engine"] = (result.energy, result.forces)
    for program in ("lammps", "openmm", "lammps_pppm"):
        atoms = Atoms(c.numbers, c.positions, cell=c.cell, pbc=True, momenta=np.zeros_like(c.positions))
        atoms.calc = MLFFCalculator(model, fast=True)
        conditions = Conditions("nve", 300.0, 1.0, 1.0, 100.0, 1000.0)
        made = integrator_of(program, "nve", [model])(atoms, conditions, np.random.default_rng(0))
        if program == "openmm":
            state = made.context.getState(energy=True, forces=True)
            force = np.asarray(state.getForces(asNumpy=True)._value) @ made.turn / 41.84
            found[program] = (state.getPotentialEnergy()._value / 4.184, force)
            continue
        held = made.lammps.numpy
        force = np.empty_like(c.positions)
        force[held.extract_atom("id")[: len(atoms)] - 1] = held.extract_atom("f")[: len(atoms)]
        found[program] = (made.lammps.get_thermo("pe"), force @ made.turn)
    found["TorchScript and the reciprocal sum"] = _script(model, c)
    return found


def _script(model: Any, c: Any) -> tuple[float, Any]:
    """The exported pair style on its own lists, with the mesh's reciprocal sum at its charges beside it."""
    import torch

    from mlff.coulomb import background_energies, reciprocal_energies, self_energies
    from mlff.export import pair_style
    from mlff.neighbours import neighbour_pairs

    p = model.parameters_of
    g = p.splitting_per_A
    inputs = {"atom_types": torch.from_numpy(c.numbers), "g_ewald": torch.tensor([g], dtype=torch.float64)}
    cutoffs = {"": p.network.cutoff_A, "coul_": p.coulomb_cutoff_A, "disp_": p.dispersion_cutoff_A}
    for name, cutoff in cutoffs.items():
        pairs = neighbour_pairs(c.positions, c.cell, c.pbc, cutoff)
        r = c.positions[pairs.i] - c.positions[pairs.j] - pairs.shift.numpy() @ c.cell
        inputs |= {f"{name}edge_index": torch.stack([pairs.i, pairs.j]), f"{name}edge_cell_shift": torch.from_numpy(r)}
    out = pair_style(model)(inputs)
    x = torch.from_numpy(c.positions).requires_grad_()
    q, cell = out["pred_charge"], torch.from_numpy(c.cell)
    wave = reciprocal_energies(x, q, cell, g)
    rest = (wave + self_energies(q, g) + background_energies(q, cell, g)).sum()
    slope = torch.autograd.grad(wave.sum(), x)[0]
    return out["pred_energy"].item() + rest.item(), out["pred_forces"].numpy() - slope.numpy()


def _late(model: Any, c: Any, time_step_fs: float, ahead: bool, steps: int) -> tuple[Any, float]:
    """Errors of forces at the last of some steps at 300 K, and the largest of energies on the way."""
    from ase import Atoms

    from mlff.calculator import configuration
    from mlff.dynamics.integrators import Conditions
    from mlff.dynamics.lammps_pppm import PppmIntegrator
    from mlff.dynamics.simulation import set_velocities
    from mlff.engine import Engine
    from mlff.units import KCAL_PER_EV

    atoms = Atoms(c.numbers, c.positions, cell=c.cell, pbc=True)
    set_velocities(atoms, 300.0, seed=0)
    conditions = Conditions("nve", 300.0, 1.0, time_step_fs, 100.0, 1000.0)
    made = PppmIntegrator(atoms, conditions, np.random.default_rng(0), model=model, extrapolate=ahead)
    whole = Engine(model.changed(long_range="mesh", forces="fixed_charges"))
    energies = []
    for _ in range(steps):
        made.step()
        wanted = whole.evaluate(configuration(atoms))
        energies.append(atoms.get_potential_energy() * KCAL_PER_EV - wanted.energy)
    return atoms.get_forces() * KCAL_PER_EV - wanted.forces, max(energies, key=abs)


def density(program: str, o: argparse.Namespace) -> dict[str, Any]:
    """One run of `runner=md` at constant pressure; killed, it goes on where it was."""
    words = [
        "runner=md", f"system={o.system}", f"system.n_atoms={o.atoms}", "md=npt", f"md.length_ps={o.length_ps:g}",
        f"runner.engine={program}", "runner.pictures=false", "seed=1", "threads=1",
        f"checkpoint={boxes.reference() / 'weights.safetensors'}",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], env=os.environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    values = dict(line.split()[:2] for line in done.stdout.splitlines() if line.startswith(("md/", "cost/")))
    return {"program": program, "atoms": o.atoms, "length_ps": o.length_ps, **{k: float(v) for k, v in values.items()}}


if __name__ == "__main__":
    sys.exit(main())
