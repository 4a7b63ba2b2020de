"""Force fields are written for other programs from the command line, or refused in one line with nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

import mlff
from mlff.datasets import LabelSet
from mlff.export import authors_tensors
from mlff.frames import Configuration
from mlff.model import ForceField, ForceFieldParameters
from mlff.system.molecules import find_molecule
from runners.force_fields import write_force_field
from tests.command_line import Run, refused
from tests.mlff.reference import reference_folder
from tests.mlff.samples import crowd, model
from tests.mlff.test_export import compare, lammps_inputs, named

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def saved(folder: Path, field: ForceField) -> Path:
    """A checkpoint as training leaves it."""
    labels = LabelSet("toy", [], [], [], ("energy",), "none")
    write_force_field(folder / "model", field.float(), labels, {})
    return folder / "model"


def field(**settings: object) -> ForceField:
    made = model(**settings)
    made.trained[:] = False
    made.trained[[1, 3, 6, 8, 9, 15]] = True
    return made


def test_the_written_script_gives_what_the_model_gives(lsmrun: Run, tmp_path: Path) -> None:
    folder, file = saved(tmp_path, field(forces="fixed_charges", charge_groups="system")), tmp_path / "out.pt"
    status, out, err = lsmrun(
        "runner=export", f"checkpoint={folder}", f"runner.output={file}", "runner.precision=float64"
    )
    assert status == 0, err
    assert "pair_style bamboo 5 5 10 1" in out and "of: H Li C O F P" in out and "kspace_style" in out
    found, bare = torch.jit.load(file), mlff.load(folder / "model.safetensors", dtype=torch.float64)
    bare = bare.changed(long_range="none", splitting_per_A=0.4)
    c = crowd(pbc=True)
    result, wanted = found(lammps_inputs(c, bare, 0.4)), bare.predict(bare.batch(c))
    torch.testing.assert_close(result["pred_forces"], wanted.forces, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(result["pred_energy"], wanted.energy)
    assert not list(tmp_path.glob("*.part"))


def test_charges_that_respond_are_warned_of_and_the_box_keeps_its_charge(lsmrun: Run, tmp_path: Path) -> None:
    folder, file = saved(tmp_path, field(charge_groups="system")), tmp_path / "out.pt"
    status, out, err = lsmrun("runner=export", f"checkpoint={folder}", f"runner.output={file}", "runner.total_charge=2")
    assert status == 0, err
    assert "forces hold the charges fixed" in out + err
    charge = torch.jit.load(file)(lammps_inputs(crowd(pbc=True), model(), 0.4))["pred_charge"]
    assert charge.sum().item() == pytest.approx(2.0, abs=1e-6)


def test_the_shipped_model_is_written_with_the_charges_of_ions(lsmrun: Run, tmp_path: Path) -> None:
    file, shipped = tmp_path / "out.pt", mlff.default_model()
    status, out, err = lsmrun(
        "runner=export", f"checkpoint={shipped}", f"runner.output={file}", "runner.precision=float64"
    )
    assert status == 0, err
    assert "charges add up by molecule: Li +1, PF6 -1, all others 0 e" in out
    bare = mlff.load(shipped, dtype=torch.float64)
    bare = bare.changed(long_range="none", splitting_per_A=0.4, forces="fixed_charges")
    compare(torch.jit.load(file), bare, named(ions_in_ec(), {"Li": 1.0, "F6P": -1.0}), 0.4)


def test_charges_of_molecules_are_told_by_the_user_too(lsmrun: Run, tmp_path: Path) -> None:
    folder, file = saved(tmp_path, field()), tmp_path / "out.pt"
    charges = "runner.molecule_charges={CF3O: -1, F6P: 0}"
    status, out, err = lsmrun("runner=export", f"checkpoint={folder}", f"runner.output={file}", charges)
    assert status == 0, err
    assert "add up by molecule: Li +1, CF3O -1, F6P +0, all others 0 e" in out
    c = named(Configuration.of([3, 9, 6, 8, 9, 9], LI_CF3O), {"Li": 1.0, "CF3O": -1.0})
    assert c.total_charge == 0.0 and len(c.fragment_charges) == 2
    bare = mlff.load(folder / "model.safetensors", dtype=torch.float64)
    found = torch.jit.load(file)(lammps_inputs(c, bare, 0.4))["pred_charge"]
    np.testing.assert_allclose(found[0], 1.0, atol=1e-6)


LI_CF3O = [[0.0, 0, 0], [1.9, 0, 0], [3.2, 0, 0], [3.7, 1.3, 0], [3.7, -0.7, 1.1], [3.7, -0.7, -1.1]]


def test_ions_that_a_model_has_not_learned_are_named(lsmrun: Run, tmp_path: Path) -> None:
    folder, file = saved(tmp_path, field()), tmp_path / "out.pt"
    about = OmegaConf.load(folder / "model.yaml")
    about.labels.molecule_charges = [0.0, 1.0]
    OmegaConf.save(about, folder / "model.yaml")
    words = ("runner=export", f"checkpoint={folder}", f"runner.output={file}")
    assert "molecule_charges={PF6: -1}: the model was trained on +0, +1 e only" in refused(
        lsmrun(*words, "runner.molecule_charges={PF6: -1}")
    )
    status, out, err = lsmrun(*words)
    assert status == 0, err
    assert "molecule: Li +1, all others 0 e" in out
    assert "PF6 would be neutral in this file: the model was trained on +0, +1 e only" in out + err


def ions_in_ec() -> Configuration:
    """Li+ PF6- 2 EC in a box, PF6- across its faces."""
    ec, pf6 = find_molecule("EC"), find_molecule("PF6")
    numbers = np.concatenate([[3], pf6.numbers, ec.numbers, ec.numbers])
    parts = [[[5.0, 5.0, 5.0]], pf6.positions, ec.positions + np.array([5.0, 9.0, 5.0])]
    parts.append(ec.positions + np.array([5.0, 5.0, 9.5]))
    return Configuration.of(numbers, np.concatenate(parts) % 12.0, [12.0] * 3, True)


def test_weights_under_the_authors_names_come_back(lsmrun: Run, tmp_path: Path) -> None:
    made = ForceField(ForceFieldParameters())
    made.trained[:] = False
    made.trained[[1, 6, 8]] = True
    folder, file = saved(tmp_path, made), tmp_path / "out.safetensors"
    status, out, err = lsmrun("runner=export", f"checkpoint={folder}", "runner.form=weights", f"runner.output={file}")
    assert status == 0, err
    assert "elements H C O" in out
    assert "charges of this model add up by molecule, which the authors' form cannot say" in out + err
    back = mlff.load(file, compat="none")
    assert torch.equal(back.network.embedding.weight[6], made.float().network.embedding.weight[6])


def test_checkpoints_of_the_authors_names_can_be_exported_too(lsmrun: Run, tmp_path: Path) -> None:
    save_file(authors_tensors(ForceField(ForceFieldParameters.bamboo2024())), tmp_path / "weights.safetensors")
    words = ("runner=export", f"checkpoint={tmp_path / 'weights.safetensors'}", f"runner.output={tmp_path / 'w.pt'}")
    status, _, err = lsmrun(*words)
    assert status == 0, err
    again = mlff.load(tmp_path / "weights.safetensors").changed(long_range="none", splitting_per_A=0.0)
    c = crowd(7)
    np.testing.assert_allclose(
        torch.jit.load(tmp_path / "w.pt")(lammps_inputs(c, again, 0.0))["pred_forces"],
        again.predict(again.batch(c)).forces,
        atol=1e-3,
    )


BAD = {
    "no checkpoint": ((), "checkpoint=null: runner=export needs a file or an MLflow run id"),
    "no such file": (("checkpoint=nowhere/model.pt",), "no such file or folder"),
    "not a force field": (("checkpoint={liquid}",), "not a force field; runner=export takes no other model"),
    "not weights": (("checkpoint={text}",), "neither a safetensors file (by its name) nor a readable TorchScript"),
    "no such folder": (("checkpoint={field}", "runner.output={here}/none/x.pt"), "there is no folder"),
    "a folder": (("checkpoint={field}", "runner.output={here}"), "is a folder, not a file to write"),
    "name for weights": (("checkpoint={field}", "runner.form=weights"), "is written to a file .safetensors"),
    "name for a script": (("checkpoint={field}", "runner.output=x.safetensors"), "is written to a file .pt"),
    "form": (("checkpoint={field}", "runner.form=onnx"), "runner.form=onnx"),
    "precision": (("checkpoint={field}", "runner.precision=float16"), "runner.precision=float16"),
    "charge": (("checkpoint={field}", "runner.total_charge=lots"), "runner.total_charge=lots"),
    "charges of whole boxes": (
        ("checkpoint={boxes}", "runner.molecule_charges={{Li: 1}}"),
        "runner.molecule_charges: this model keeps no charges of molecules",
    ),
    "no formula": (
        ("checkpoint={field}", "runner.molecule_charges={{Xx2: 1}}"),
        "Xx2: neither a formula nor one of Li,",
    ),
    "untrained elements": (
        ("checkpoint={field}", "runner.molecule_charges={{ClO4: -1}}"),
        "molecule_charges={ClO4: -1}: the model was not trained on Cl; its elements are H Li C O F P",
    ),
    "one formula twice": (
        ("checkpoint={field}", "runner.molecule_charges={{PF6: -1, F6P: 0}}"),
        "PF6 and F6P are the same formula",
    ),
    "charge of a molecule": (
        ("checkpoint={field}", "runner.molecule_charges={{Li: one}}"),
        "{Li:one}: must be a mapping",
    ),
    "typo": (("checkpoint={field}", "runner.outptu=x.pt"), "did you mean runner.output?"),
    "no form": (
        ("checkpoint={field}", "runner.form=weights", "runner.output={here}/x.safetensors"),
        "heads=4: the authors' files mean 16",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_exported_is_refused_in_one_line(
    case: str, lsmrun: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "liquid").mkdir()
    OmegaConf.save({"format": "lsmrun-liquid-1"}, tmp_path / "liquid" / "model.yaml")
    places = {"here": tmp_path, "text": tmp_path / "text.pt", "liquid": tmp_path / "liquid"}
    places["field"] = saved(tmp_path, field())
    places["boxes"] = saved(tmp_path / "liquid", field(charge_groups="system"))
    before = _files(tmp_path)
    assert message in refused(lsmrun("runner=export", *(w.format(**places) for w in words)))
    assert _files(tmp_path) == before


def _files(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file() and "home" not in p.relative_to(folder).parts}


@pytest.mark.skipif(
    not (reference_folder() / "weights.safetensors").exists(),
    reason="the recorded force field is missing (LSMRUN_REFERENCE)",
)
def test_published_weights_are_written_under_the_names_that_they_came_with(lsmrun: Run, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source, file = reference_folder() / "weights.safetensors", tmp_path / "again.safetensors"
    words = ("runner=export", f"checkpoint={source}", "runner.form=weights", f"runner.output={file}")
    assert lsmrun(*words)[0] == 0
    ours, theirs = load_file(file), load_file(source)
    assert ours.keys() == theirs.keys()
    trained = [1, 3, 6, 7, 8, 9, 15, 16]
    assert torch.equal(ours["atom_embtab.weight"][trained], theirs["atom_embtab.weight"][trained])
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs if "attn" in k or "mlp" in k)
