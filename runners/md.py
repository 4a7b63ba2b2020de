"""Molecular dynamics of a liquid: a box from its composition or a file, relaxed, then simulated to the end."""

from __future__ import annotations

import time
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.dynamics.relaxation import Relaxation
from runners.check import UserError
from runners.simulation import Models, Stretch, open_models, start_box
from runners.systems import tell_composition

if TYPE_CHECKING:
    from mlff.dynamics.trajectory import Thermo
    from mlff.system.box import Box
    from runners.context import Context


@plain_dataclass(frozen=True)
class _Prepared:
    models: Models
    box: Box


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class MolecularDynamics:
    """Settings of the runner; the liquid stands in `system`, the ensemble in `md`, the model in `checkpoint`."""

    engine: Annotated[
        Literal["ase", "lammps", "lammps_pppm", "openmm"],
        Field(description="program that integrates; lammps_pppm leaves the reciprocal sum to LAMMPS"),
    ] = "ase"
    pictures: Annotated[bool, Field(description="draw and store pictures")] = True
    relaxation: Relaxation = field(default_factory=Relaxation)

    needs: ClassVar[tuple[str, ...]] = ("system", "md")
    committee: ClassVar[bool] = True

    def prepare(self, context: Context) -> _Prepared:
        """Open the models and pack the box before a run exists."""
        from mlff.dynamics.engines import integrator_of

        if not str(context.config["model"].get("_target_")).startswith("mlff."):
            raise UserError(f"model={context.choices.get('model')}: runner=md takes a force field; give model=mlff")
        models = open_models(context)
        integrator_of(self.engine, context.md.ensemble, [s.model for s in models.saved])
        return _Prepared(models, start_box(context, models, context.seed))

    def run(self, context: Context) -> dict[str, float]:
        """Relax, simulate, and return the key results."""
        from mlff.dynamics.trajectory import read_thermo

        p: _Prepared = context.prepared
        for caution in p.models.cautions(p.box):
            context.progress.warn(caution)
        atoms, names = p.box.atoms, p.box.names
        target = context.md.temperature_K or context.system.temperature_K
        context.progress.say(
            f"{p.box.composition}: {len(atoms)} atoms, {atoms.get_volume() ** (1 / 3):.2f} Å, "
            f"{p.box.density_g_cm3:.3f} g/cm3; {context.md.ensemble} by {self.engine} at {target:g} K "
            f"for {context.md.length_ps:g} ps"
        )
        tell_composition(context, context.system)
        if p.box.charges:
            told = ", ".join(f"{name} {charge:+g}" for name, charge in p.box.charges.items())
            context.progress.say(f"charges in e: {told}; all other species neutral")
        calculator = p.models.calculator(context.threads)
        sections = {name: context.config.get(name) for name in ("system", "md", "runner")}
        about = {**sections, "models": p.models.fingerprint, "seed": context.seed}
        stretch = Stretch(context, "md", about)
        with stretch.cache.alone(context.progress.say):
            started = stretch.relaxed(p.box, calculator, self.relaxation, target, context.seed)
            before, began = stretch.reached(), time.perf_counter()
            path, end = stretch.run(started, names, calculator, context.md, target, context.seed, self.engine)
            seconds = time.perf_counter() - began
            thermo = read_thermo(path)
            simulated = (end.step - before) * context.md.time_step_fs / 1000
            results = _results(thermo, len(atoms), simulated, seconds)
            context.tracker.metrics(results)
            _store(context, path, end.put_on(atoms), names)
            if self.pictures:
                from runners.plots.md import course

                context.tracker.figure(course(thermo, context.system), "pictures/course.png")
            stretch.clear()
        return {name: results[name] for name in SHOWN if name in results}


SHOWN = (
    "md/density_g_cm3",
    "md/density_error_g_cm3",
    "md/temperature_K",
    "md/pressure_atm",
    "md/potential_kcal_mol",
    "md/drift_kcal_mol_ns_atom",
    "cost/ns_per_day",
)
BLOCKS = 5
"""Parts of the second half of a run whose means give a first error."""


def _results(thermo: Thermo, n_atoms: int, simulated_ps: float, seconds: float) -> dict[str, float]:
    """Means over the second half of the run, half of the 95 % interval of the density from blocks, and the drift.

    `simulated_ps` and `seconds` are those of this session: a run that goes on has simulated the rest before.
    """
    import numpy as np

    from mlff.transport.blocks import Estimate

    half = slice(len(thermo.step) // 2, None)
    density = thermo.density_g_cm3[half].astype(float)
    results = {
        "md/density_g_cm3": float(density.mean()),
        "md/temperature_K": float(thermo.temperature_K[half].mean(dtype=float)),
        "md/pressure_atm": float(thermo.pressure_atm[half, :3].mean(dtype=float)),
        "md/potential_kcal_mol": float(thermo.potential_kcal_mol[half].mean()),
    }
    if np.ptp(density) > 0 and len(density) >= 2 * BLOCKS:
        means = np.array([b.mean() for b in np.array_split(density, BLOCKS)])
        found = Estimate(float(means.mean()), float(means.std(ddof=1) / np.sqrt(BLOCKS)), BLOCKS)
        results["md/density_error_g_cm3"] = found.error
    conserved = thermo.conserved_kcal_mol
    if len(conserved) > 2 and np.isfinite(conserved).all():
        slope = np.polyfit(thermo.time_ps, conserved - conserved[0], 1)[0]
        results["md/drift_kcal_mol_ns_atom"] = float(1000 * slope / n_atoms)
    if simulated_ps > 0 and seconds > 0:
        results["cost/md_s"] = seconds
        results["cost/ns_per_day"] = simulated_ps / 1000 / (seconds / 86400)
    return results


def _store(context: Context, trajectory: Path, last: Any, names: tuple[str, ...]) -> None:
    """Trajectory, topology, last frame and a thermo table in the run's folder and among its artifacts."""
    import shutil

    from ase.io import write

    from mlff.dynamics.trajectory import read_thermo, thermo_table, topology

    folder = context.output_dir / "trajectory"
    folder.mkdir(exist_ok=True)
    shutil.copy(trajectory, folder / "trajectory.h5md")
    (folder / "topology.pdb").write_text(topology(last, names), encoding="utf-8")
    (folder / "thermo.csv").write_text(thermo_table(read_thermo(trajectory)), encoding="utf-8")
    write(folder / "last.extxyz", last, format="extxyz")
    context.tracker.artifact(folder, "trajectory")
    context.progress.say(f"trajectory: {folder / 'trajectory.h5md'} (topology.pdb beside it)")
