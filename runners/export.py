"""Write a saved force field for other programs: TorchScript for LAMMPS' pair style, or the authors' names of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.force_fields import SavedForceField, is_force_field, open_force_field
from runners.models import locate_checkpoint
from runners.paths import check_file, complete_or_not

if TYPE_CHECKING:
    from mlff.model import ForceField
    from runners.context import Context


@plain_dataclass(frozen=True)
class _Prepared:
    """A force field, charges in e of molecules by formula, and those of known ions that it was not trained on."""

    saved: SavedForceField
    charges: dict[str, float]
    unlearned: dict[str, float]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Export:
    """`checkpoint=` names the force field, `output` the file; forms are described in `mlff/export.py`."""

    form: Annotated[
        Literal["pair_style", "weights"], Field(description="TorchScript for LAMMPS, or the authors' safetensors")
    ] = "pair_style"
    output: Annotated[str, Field(description="file to write", min_length=1)] = "force_field.pt"
    precision: Annotated[Literal["float32", "float64"], Field(description="of the TorchScript")] = "float32"
    total_charge: Annotated[float, Field(description="of the whole box, e", ge=-1e4, le=1e4)] = 0.0
    molecule_charges: Annotated[
        dict[str, Annotated[float, Field(ge=-100, le=100)]] | None,
        Field(description="e by name of an ion or formula, beside the ions that are known; all others are neutral"),
    ] = None

    needs: ClassVar[tuple[str, ...]] = ()
    tracked: ClassVar[bool] = False

    def prepare(self, context: Context) -> _Prepared:
        """Open the model and see that there is a place for the file."""
        if not is_force_field(locate_checkpoint(context)):
            raise UserError(f"checkpoint={context.checkpoint}: not a force field; runner=export takes no other model")
        target = check_file(self.output, "runner.output")
        if (target.suffix == ".safetensors") != (self.form == "weights"):
            # readers tell the two by the name
            ending = ".safetensors" if self.form == "weights" else ".pt"
            raise UserError(f"runner.output={self.output}: runner.form={self.form} is written to a file {ending}")
        saved = open_force_field(context)
        charges, unlearned = self._charges(saved)
        if self.form == "weights":
            self._bytes(saved.model, charges)  # a model without this form is refused before anything is written
        return _Prepared(saved, charges, unlearned)

    def run(self, context: Context) -> dict[str, float]:
        """Write the file, complete or not at all, and say how it is used."""
        from mlff.export import keeps_molecules

        p: _Prepared = context.prepared
        model = p.saved.model
        target = self._target()
        with context.phase("export"), complete_or_not(target) as unfinished:
            unfinished.write_bytes(self._bytes(model, p.charges))
        for line in self._told(model, target):
            context.progress.say(line)
        if self.form == "pair_style" and model.charge is not None and model.parameters_of.forces == "conservative":
            context.progress.warn(
                "the pair style never sees the potential of LAMMPS' k-space solver, so forces hold the charges fixed"
            )
        if keeps_molecules(model):
            self._tell_molecules(context, p)
        return {}

    def _charges(self, saved: SavedForceField) -> tuple[dict[str, float], dict[str, float]]:
        """Charges of molecules for the file, and those of known ions that the model has never met. Raises `UserError`."""
        import numpy as np
        from ase.data import chemical_symbols

        from mlff.export import ions_of, keeps_molecules
        from mlff.system.ions import changed_charges, composition

        stated = self.molecule_charges or {}
        if stated and self.form == "weights":
            raise UserError("runner.molecule_charges: runner.form=weights has no place for them")
        if stated and not keeps_molecules(saved.model):
            raise UserError(
                "runner.molecule_charges: this model keeps no charges of molecules; runner.total_charge is that of the box"
            )
        learned = saved.labels.get("molecule_charges") or None  # not known of weights from elsewhere
        known = ions_of(saved.model)
        kept = {n: q for n, q in known.items() if learned is None or q in learned}
        try:
            charges = changed_charges(kept, stated)
            unlearned = changed_charges({n: q for n, q in known.items() if n not in kept}, stated)
        except ValueError as error:
            raise UserError(f"runner.molecule_charges: {error}") from error
        for n, q in stated.items():
            if strange := set(np.flatnonzero(composition(n)).tolist()) - _trained(saved.model):
                symbols = " ".join(chemical_symbols[z] for z in sorted(strange))
                raise UserError(
                    f"runner.molecule_charges={{{n}: {q:g}}}: the model was not trained on {symbols}; "
                    f"its elements are {_symbols(saved.model)}"
                )
            if learned is not None and q and q not in learned:
                told = _listed(learned)
                raise UserError(f"runner.molecule_charges={{{n}: {q:g}}}: the model was trained on {told} e only")
        return charges, {n: q for n, q in unlearned.items() if n not in stated}

    def _tell_molecules(self, context: Context, p: _Prepared) -> None:
        if self.form == "weights":
            context.progress.warn(
                "charges of this model add up by molecule, which the authors' form cannot say: read back, by the whole box"
            )
            return
        told = ", ".join(f"{n} {q:+g}" for n, q in p.charges.items())
        context.progress.say(
            f"charges add up by molecule: {told or 'no ions'}, all others 0 e (runner.molecule_charges={{FORMULA: e}} says "
            f"more); a box of other than {self.total_charge:g} e in all is refused"
        )
        if p.unlearned:
            told, learned = ", ".join(p.unlearned), _listed(p.saved.labels["molecule_charges"])
            context.progress.warn(f"{told} would be neutral in this file: the model was trained on {learned} e only")

    def _target(self) -> Path:
        return Path(self.output).expanduser().resolve()

    def _bytes(self, model: ForceField, charges: dict[str, float]) -> bytes:
        import io

        import torch
        from safetensors.torch import save

        from mlff.export import authors_tensors, pair_style

        if self.form == "weights":
            return bytes(save(authors_tensors(model)))
        buffer = io.BytesIO()
        script = pair_style(model.to(getattr(torch, self.precision)), self.total_charge, charges)
        torch.jit.save(script, buffer)
        return buffer.getvalue()

    def _told(self, model: ForceField, target: Path) -> list[str]:
        symbols = _symbols(model)
        if self.form == "weights":
            return [f"{target}: {sum(t.numel() for t in model.state_dict().values()):,} numbers; elements {symbols}"]
        p = model.parameters_of
        far = p.network.cutoff_A if p.dispersion == "none" else p.dispersion_cutoff_A
        near = p.coulomb_cutoff_A if p.charges else p.network.cutoff_A
        lines = [
            f"{target}: {self.precision} TorchScript; in LAMMPS:",
            f"pair_style bamboo {p.network.cutoff_A:g} {near:g} {far:g} 1",
            f"pair_coeff {target.name} ELEMENTS     one for each atom type, of: {symbols}",
        ]
        return [*lines, "kspace_style pppm 1e-6"] if p.charges else lines


def _trained(model: ForceField) -> set[int]:
    return {z for z in range(len(model.trained)) if model.trained[z]}


def _symbols(model: ForceField) -> str:
    from ase.data import chemical_symbols

    return " ".join(chemical_symbols[z] for z in sorted(_trained(model)))


def _listed(charges: Sequence[float]) -> str:
    return ", ".join(f"{q:+g}" for q in charges)
