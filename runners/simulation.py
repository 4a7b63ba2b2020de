"""What runners that simulate share: models, the start box, and stretches of dynamics that survive a kill.

A stretch leaves a part of its trajectory and its state at every save, in a folder of the cache that is named by all that
determines them; a killed run goes on from the last state, and the parts are joined at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.check import UserError
from runners.checkpoint import Cache, cache_key, code_digest, read_arrays, write_arrays
from runners.force_fields import SavedForceField, read_committee, read_force_field

if TYPE_CHECKING:
    from ase import Atoms

    from mlff.calculator import MLFFCalculator
    from mlff.dynamics.engines import Program
    from mlff.dynamics.relaxation import Relaxation
    from mlff.dynamics.simulation import BlowUp, Dynamics, State
    from mlff.system.box import Box
    from runners.context import Context

CHANGEABLE = (
    "forces",
    "smooth",
    "erfc",
    "charge_groups",
    "long_range",
    "mesh_A",
    "splitting_per_A",
    "coulomb_cutoff_A",
    "dispersion_cutoff_A",
)
"""Keys of `model` that hold for a saved model as well, because no weight depends on them."""


@dataclass(frozen=True)
class Models:
    """One force field or a committee, and what names their content."""

    saved: tuple[SavedForceField, ...]
    changed: Mapping[str, Any]
    fingerprint: str
    warning: str | None = None
    """What to tell the user of these models, whatever they are used for."""

    def calculator(self, threads: int) -> MLFFCalculator:
        """The models on the fast engine, or by torch where it cannot run them."""
        from mlff.calculator import MLFFCalculator

        members = [s.model.changed(**self.changed) for s in self.saved]
        try:
            return MLFFCalculator(members, fast=True, threads=threads)
        except ValueError:
            return MLFFCalculator(members)

    def cautions(self, box: Box) -> list[str]:
        """What to tell the user before these models are used for this box."""
        strange = sorted({name for s in self.saved for name in s.strange(box.names)})
        told = f"{', '.join(strange)}: no molecule of this kind is among the labels of the model, which can only guess"
        return [*([self.warning] if self.warning else []), *([told] if strange else [])]

    def check(self, box: Box) -> None:
        """Raise `ValueError` that names an element which a model was not trained on, or ions that it cannot charge."""
        import torch

        for s in self.saved:
            s.model.check_elements(torch.from_numpy(box.atoms.numbers.astype("int64")))
            if box.charges and s.model.charge is None:
                raise ValueError(f"{s.path}: predicts no charges, and the box holds {', '.join(box.charges)}")
            known = s.labels.get("molecule_charges")
            strange = [name for name, charge in box.charges.items() if known is not None and charge not in known]
            if strange:
                told = ", ".join(f"{charge:+g}" for charge in known or ())
                raise ValueError(
                    f"{s.path}: was trained on molecules of charge {told} only, and the box holds {strange[0]}"
                )


def open_models(context: Context) -> Models:
    """The models of `checkpoint=`, else the one that is shipped; typed `model.` keys of `CHANGEABLE` are applied.

    Raises `UserError`.
    """
    import mlff

    warning = None
    if context.checkpoints:
        saved = tuple(read_committee(context))
    else:
        shipped = mlff.default_model()
        saved, warning = (read_force_field(shipped, "null"),), _caution(shipped.with_name("MODEL_CARD.md"))
    changed = _typed_settings(context)
    for s in saved:
        try:
            replace(s.model.parameters_of, **changed)
        except ValueError as error:
            raise UserError(f"model: {error}") from error
    digest = hashlib.sha256(repr(sorted(changed.items())).encode())
    for s in saved:
        digest.update(s.path.read_bytes())
        digest.update(repr(s.model.parameters_of).encode())
    return Models(saved, changed, digest.hexdigest()[:16], warning)


def _caution(card: Path) -> str:
    """What the shipped model is not validated for, in the words of its card."""
    lines = card.read_text(encoding="utf-8").splitlines()
    limits = next(line.partition("**: ")[2] for line in lines if "**Not validated for**" in line)
    return (
        f"no checkpoint given: the model that comes with the package is not validated for {limits.rstrip('.')} ({card})"
    )


def _typed_settings(context: Context) -> dict[str, Any]:
    keys = [o.lstrip("+").partition("=")[0] for o in context.overrides]
    typed = [key.removeprefix("model.") for key in keys if key.startswith("model.")]
    for key in typed:
        if key not in CHANGEABLE:
            raise UserError(f"model.{key}: the checkpoint's model is fixed; of it can be set {', '.join(CHANGEABLE)}")
    return {key: context.config["model"][key] for key in typed}


def start_box(context: Context, models: Models, seed: int) -> Box:
    """The box of `system=`, packed or read, with elements that the models know."""
    from mlff.system.liquid import pack

    with context.phase("packing"):
        box = pack(context.system, seed)
        models.check(box)
    return box


class Stretch:
    """One stretch of dynamics on disk; `name` tells several of a run apart, `about` all that its result depends on."""

    def __init__(self, context: Context, name: str, about: Mapping[str, Any]) -> None:
        self.context, self.name = context, name
        content = {**about, "name": name, "code": code_digest("mlff/**/*")}
        self.cache = Cache(context.home, cache_key(f"md-{name}", content), content)
        self.folder = self.cache.folder
        if not context.resume:
            self.clear()

    def relaxed(self, box: Box, calculator: Any, relaxation: Relaxation, temperature_K: float, seed: int) -> Atoms:
        """The box ready for dynamics; once per stretch, then from disk."""
        from mlff.dynamics.relaxation import relax
        from mlff.dynamics.simulation import State

        path = self.folder / "start.npz"
        known = read_arrays(path)
        if known is not None:
            return State.of(known).put_on(box.atoms)
        with self.context.phase(f"{self.name}: relaxation", unit="force calls") as advance:
            atoms = relax(box.atoms, calculator, relaxation, temperature_K=temperature_K, seed=seed, progress=advance)
        arrays = {"positions": atoms.positions, "momenta": atoms.get_momenta(), "cell": atoms.cell.array}
        write_arrays(path, State(0, arrays).flat())
        return atoms

    def run(
        self,
        atoms: Atoms,
        names: tuple[str, ...],
        calculator: Any,
        dynamics: Dynamics,
        temperature_K: float,
        seed: int,
        engine: Program = "ase",
    ) -> tuple[Path, State]:
        """Simulate to the end, from where a killed run was; returns the trajectory's file and the last state.

        A finished stretch is read from disk, or goes on where `dynamics` is longer by now. Raises `BlowUp`, after the
        frame is saved and the stretch cleared.
        """
        from mlff.dynamics.engines import integrator_of
        from mlff.dynamics.masses import heavy_hydrogen
        from mlff.dynamics.simulation import BlowUp, State, conditions_of, simulate
        from mlff.dynamics.trajectory import Recorder, merge

        if (ended := self._finished(dynamics.n_steps)) is not None:
            return self._trajectory, ended
        known = read_arrays(self._state)
        state = None if known is None else State.of(known)
        atoms = heavy_hydrogen(atoms, dynamics.hydrogen_mass_u)
        recorder = Recorder(atoms, names, conditions_of(dynamics, temperature_K))
        self._drop_parts_after(state.step if state else -1)
        with self.context.phase(self.name, total=dynamics.n_steps, unit="steps") as advance:
            advance(state.step if state else 0)

            def save(now: State) -> None:
                self._log(recorder)
                recorder.write(self._part(now.step))
                write_arrays(self._state, now.flat())

            def on_step(step: Any) -> None:
                recorder.on_step(step)
                advance(step.step)

            try:
                ended = simulate(
                    atoms,
                    calculator,
                    dynamics,
                    seed=seed,
                    state=state,
                    temperature_K=temperature_K,
                    integrator_of=integrator_of(engine, dynamics.ensemble, getattr(calculator, "models", ())),
                    on_step=on_step,
                    on_frame=recorder.on_frame,
                    save=save,
                )
            except BlowUp as error:
                self._save_wreck(error)
                raise
        self._log(recorder)
        recorder.write(self._part(ended.step))
        merge(self._parts(), self._trajectory)
        write_arrays(self._end, ended.flat())
        self._drop_parts_after(-1)
        self._state.unlink(missing_ok=True)
        return self._trajectory, ended

    def reached(self) -> int:
        """Steps that are on disk."""
        saved = [read_arrays(path) for path in (self._end, self._state)]
        return max((int(s["step"]) for s in saved if s is not None), default=0)

    def clear(self) -> None:
        """Forget everything that was saved."""
        for path in self.folder.glob("*"):
            if path.suffix in (".npz", ".h5md", ".part"):
                path.unlink()

    @property
    def _trajectory(self) -> Path:
        return self.folder / "trajectory.h5md"

    @property
    def _end(self) -> Path:
        return self.folder / "end.npz"

    @property
    def _state(self) -> Path:
        return self.folder / "state.npz"

    def _finished(self, n_steps: int) -> State | None:
        """The last state where all steps are on disk; a stretch that ended before is made one that goes on."""
        from mlff.dynamics.simulation import State

        end = read_arrays(self._end)
        if end is None or not self._trajectory.exists():
            return None
        ended = State.of(end)
        if ended.step >= n_steps:
            return ended
        self._reopen(ended.step, end)
        return None

    def _reopen(self, step: int, end: Mapping[str, Any]) -> None:
        """Make the end of a finished stretch the state of an unfinished one; killed at any point, it is one or the other."""
        self._drop_parts_after(-1)  # what a kill after the end has left; the trajectory holds it
        write_arrays(self._state, end)
        self._trajectory.replace(self._part(step))
        self._end.unlink()

    def _save_wreck(self, error: BlowUp) -> None:
        """The last frame as an artifact; nothing to go on from remains, since it would end in the same place."""
        from ase.io import write

        path = self.context.output_dir / "blow_up.extxyz"
        write(path, error.atoms, format="extxyz")
        self.context.tracker.artifact(path)
        self.context.progress.warn(f"the frame is saved as {path}")
        self.clear()

    def _log(self, recorder: Any) -> None:
        """Means over what was recorded since the last save, as metrics over the simulated time in fs."""
        steps = recorder.steps
        if not steps:
            return
        names = ("temperature_K", "density_g_cm3", "potential_kcal_mol", "conserved_kcal_mol")
        values = {f"{self.name}/{n}": sum(getattr(s, n) for s in steps) / len(steps) for n in names}
        values[f"{self.name}/pressure_atm"] = sum(s.pressure_atm[:3].mean() for s in steps) / len(steps)
        known = {name: value for name, value in values.items() if value == value}  # Langevin conserves nothing
        self.context.tracker.metrics(known, step=round(1000 * steps[-1].time_ps))
        self.context.tracker.flush()

    def _part(self, step: int) -> Path:
        return self.folder / f"part-{step:012d}.h5md"

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.h5md"))

    def _drop_parts_after(self, step: int) -> None:
        for path in self._parts():
            if int(path.stem.removeprefix("part-")) > step:
                path.unlink()
