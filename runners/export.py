"""Write a saved force field for other programs: TorchScript for LAMMPS' pair style, or the authors' names of weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from runners.check import UserError
from runners.force_fields import SavedForceField, is_force_field, open_force_field
from runners.models import locate_checkpoint

if TYPE_CHECKING:
    from mlff.model import ForceField
    from runners.context import Context


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Export:
    """`checkpoint=` names the force field, `output` the file; forms are described in `mlff/export.py`."""

    form: Annotated[
        Literal["pair_style", "weights"], Field(description="TorchScript for LAMMPS, or the authors' safetensors")
    ] = "pair_style"
    output: Annotated[str, Field(description="file to write", min_length=1)] = "force_field.pt"
    precision: Annotated[Literal["float32", "float64"], Field(description="of the TorchScript")] = "float32"
    total_charge: Annotated[float, Field(description="of the whole box, e", ge=-1e4, le=1e4)] = 0.0

    needs: ClassVar[tuple[str, ...]] = ()
    tracked: ClassVar[bool] = False

    def prepare(self, context: Context) -> SavedForceField:
        """Open the model and see that there is a place for the file."""
        if not is_force_field(locate_checkpoint(context)):
            raise UserError(f"checkpoint={context.checkpoint}: not a force field; runner=export takes no other model")
        target = self._target()
        if not target.parent.is_dir():
            raise UserError(f"runner.output={self.output}: there is no folder {target.parent}")
        if target.is_dir():
            raise UserError(f"runner.output={self.output}: is a folder, not a file to write")
        if (target.suffix == ".safetensors") != (self.form == "weights"):
            # readers tell the two by the name
            ending = ".safetensors" if self.form == "weights" else ".pt"
            raise UserError(f"runner.output={self.output}: runner.form={self.form} is written to a file {ending}")
        saved = open_force_field(context)
        if self.form == "weights":
            self._bytes(saved.model)  # a model without this form is refused before anything is written
        return saved

    def run(self, context: Context) -> dict[str, float]:
        """Write the file, complete or not at all, and say how it is used."""
        model = context.prepared.model
        target = self._target()
        unfinished = target.with_name(f"{target.name}.part")
        with context.phase("export"):
            unfinished.write_bytes(self._bytes(model))
            unfinished.replace(target)
        for line in self._told(model, target):
            context.progress.say(line)
        if self.form == "pair_style" and model.charge is not None and model.parameters_of.forces == "conservative":
            context.progress.warn(
                "the pair style never sees the potential of LAMMPS' k-space solver, so forces hold the charges fixed"
            )
        return {}

    def _target(self) -> Path:
        return Path(self.output).expanduser().resolve()

    def _bytes(self, model: ForceField) -> bytes:
        import io

        import torch
        from safetensors.torch import save

        from mlff.export import authors_tensors, pair_style

        if self.form == "weights":
            return bytes(save(authors_tensors(model)))
        buffer = io.BytesIO()
        script = pair_style(model.to(getattr(torch, self.precision)), self.total_charge)
        torch.jit.save(script, buffer)
        return buffer.getvalue()

    def _told(self, model: ForceField, target: Path) -> list[str]:
        from ase.data import chemical_symbols

        symbols = " ".join(s for z, s in enumerate(chemical_symbols[: len(model.trained)]) if model.trained[z])
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
