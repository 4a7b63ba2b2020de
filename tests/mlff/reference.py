"""Replays of the recorded numbers of the published model: largest deviation of ours for every array of a file.

The recorded numbers and weights are no part of the project; they are looked for under `$LSMRUN_REFERENCE`, else
`../shared/reference` beside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mlff
from mlff import coulomb
from mlff.frames import Batch, Configuration
from mlff.model import ForceField, Geometry, Terms
from mlff.units import DEBYE_EA

REPOSITORY = Path(__file__).resolve().parents[2]
INPUTS = ("pos", "cell", "Z", "mol_id", "g_ewald", "total_charge", "direction")


def reference_folder() -> Path:
    """Where the recorded numbers of the published force field lie (or would lie)."""
    given = os.environ.get("LSMRUN_REFERENCE")
    return (Path(given) if given else REPOSITORY.parent / "shared" / "reference") / "bamboo"


def published(dtype: torch.dtype = torch.float64, **settings: object) -> ForceField:
    """The published weights; raises `FileNotFoundError` where they are not at hand."""
    model = mlff.load(reference_folder() / "weights.safetensors", dtype=dtype)
    return model.changed(**settings) if settings else model


def replay_bamboo(path: str | Path) -> dict[str, float]:
    """Largest absolute deviation for each array of a recorded file; the kind of file is told by its keys."""
    path = Path(path)
    with np.load(path) as file:
        recorded = dict(file)
    if "charge_response_forces" in recorded:
        box = path.with_name(path.name.replace("_charge_response", ""))
        ours = replay_charge_response(np.load(box))
    elif "pair_forces" in recorded:
        ours = replay_box(recorded)
    elif "predict_forces" in recorded:
        ours = replay_molecule(recorded)
    else:
        raise ValueError(f"{path}: no recorded box, molecule or charge response (keys {sorted(recorded)[:4]} ...)")
    ours |= {name: recorded[name] for name in INPUTS if name in recorded}
    return {name: deviation(ours[name], value) for name, value in recorded.items()}


def deviation(ours: Any, recorded: Any) -> float:
    """Largest absolute difference; shapes must agree but for axes of length one."""
    a, b = np.squeeze(_array(ours)), np.squeeze(_array(recorded))
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape}")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def replay_box(recorded: dict[str, Any]) -> dict[str, Any]:
    """All terms of a periodic box: as the LAMMPS entry gives them, and with the direct reciprocal sum."""
    g = float(recorded["g_ewald"])
    box = Configuration.of(recorded["Z"], recorded["pos"], recorded["cell"], True)
    model = published(long_range="none", splitting_per_A=g, forces="conservative")
    batch = model.batch(box)
    geometry = Geometry.of(batch)
    terms = model.terms(batch, geometry)
    q = terms.charges.detach()
    out = _short_range(model, batch, geometry, terms, recorded["mol_id"], prefix="")
    bare = unscreened(model, batch, geometry, terms.charges)
    out |= _part("coul_bare", batch, geometry, unscreened(model, batch, geometry, q))
    out["qeq_force_bare"] = response(geometry, terms, bare.sum() + terms.energies["electronegativity"].sum())[0]
    out |= {name + "_predict": out[name] for name in ("nn_energy", "nn_forces", "nn_virial")}
    deformed = geometry.deformed(batch, 0)
    out |= _part("recip", batch, geometry, coulomb.reciprocal_energies(deformed[0], q, deformed[1], g))
    out["self_energy"] = coulomb.self_energies(q, g).sum()
    out["background_energy"] = coulomb.background_energies(q, batch.cells[0], g).sum()
    out["total_energy"] = sum(out[k] for k in ("pair_energy", "recip_energy", "self_energy", "background_energy"))
    for kind in ("forces", "virial"):
        out[f"total_{kind}"] = out[f"pair_{kind}"] + out[f"recip_{kind}"]
    out["volume"] = torch.linalg.det(batch.cells[0])
    out["n_kvec"] = _half_space_vectors(batch.cells[0].numpy(), g)
    out["cutoffs"] = (model.cutoffs.network, model.cutoffs.coulomb, model.cutoffs.dispersion)
    return out | _single_precision_box(box, g, recorded["mol_id"])


def _single_precision_box(box: Configuration, g: float, molecule: Any) -> dict[str, Any]:
    model = published(torch.float32, long_range="none", splitting_per_A=g)
    batch = model.batch(box)
    geometry = Geometry.of(batch)
    out = _short_range(model, batch, geometry, model.terms(batch, geometry), molecule, prefix="f32_")
    names = ("pair_energy", "pair_forces", "pair_virial", "charges", "coul_sr_energy", "nn_virial_outer")
    return {f"f32_{name}": out[f"f32_{name}"] for name in names}


def replay_charge_response(box: Any) -> dict[str, Any]:
    """What forces at fixed charges leave out, with the full reciprocal sum."""
    model = published(forces="conservative", long_range="sum", splitting_per_A=float(box["g_ewald"]))
    batch = model.batch(Configuration.of(box["Z"], box["pos"], box["cell"], True))
    geometry = Geometry.of(batch)
    terms = model.terms(batch, geometry)
    force, field = response(geometry, terms, terms.total(batch).sum())
    return {"dEdq": field, "charge_response_forces": force, "chi": terms.chi, "eta": terms.eta}


def replay_molecule(recorded: dict[str, Any]) -> dict[str, Any]:
    """A cluster through both entries: training (all pairs, its own charge) and LAMMPS (5 Å pairs, neutral)."""
    numbers, positions, charge = recorded["Z"], recorded["pos"], float(recorded["total_charge"])
    model = published(forces="conservative", dispersion="none")
    batch = model.batch(Configuration.of(numbers, positions, total_charge=charge))
    geometry = Geometry.of(batch)
    terms = model.terms(batch, geometry)
    out = {f"predict_{k}_energy": terms.energies[ours].sum() for k, ours in PARTS if ours in terms.energies}
    out |= {"predict_disp_energy": 0.0, "predict_charge": terms.charges, "predict_energy": terms.total(batch)}
    fixed = model._coulomb(batch, geometry, terms.charges.detach())["coulomb"]
    for name, energy in (("nn", terms.energies["nn"]), ("coul", fixed)):
        part = _part(name, batch, geometry, energy)
        out |= {f"predict_{name}_{kind}": part[f"{name}_{kind}"] for kind in ("forces", "virial")}
    for kind in ("forces", "virial"):
        out[f"predict_{kind}"] = out[f"predict_nn_{kind}"] + out[f"predict_coul_{kind}"]
    out["predict_dipole"] = terms.charges @ batch.positions / DEBYE_EA
    moving = terms.energies["coulomb"].sum() + terms.energies["electronegativity"].sum()
    out["predict_decoul_dr_force"] = response(geometry, terms, moving)[0]
    edges = np.lexsort((batch.edges.j.numpy(), batch.edges.i.numpy()))
    out["predict_nn_fij"] = -_slopes(terms.energies["nn"].sum(), geometry.edges)[0][edges]
    for name, ours in PARTS:
        out[f"fd_force_{name}_energy"] = -_slopes(terms.energies[ours].sum(), geometry.positions)[0]
    out["fd_force_energy"] = sum(out[f"fd_force_{name}_energy"] for name, _ in PARTS)
    out |= _lammps_entry(numbers, positions, recorded["mol_id"])
    single = published(torch.float32, dispersion="none")
    p = single.predict(single.batch(Configuration.of(numbers, positions, total_charge=charge)))
    return out | {"predict_f32_energy": p.energy, "predict_f32_forces": p.forces, "predict_f32_charge": p.charges}


PARTS = (("nn", "nn"), ("coul", "coulomb"), ("electronegativity", "electronegativity"))


def _lammps_entry(numbers: Any, positions: Any, molecule: Any) -> dict[str, Any]:
    model = published(long_range="none", splitting_per_A=0.0)
    batch = model.batch(Configuration.of(numbers, positions))
    geometry = Geometry.of(batch)
    terms = model.terms(batch, geometry)
    out = _short_range(model, batch, geometry, terms, molecule, prefix="forward_")
    bare = _part("coul_bare", batch, geometry, unscreened(model, batch, geometry, terms.charges.detach()))
    return out | {f"forward_{name}": value for name, value in bare.items()}


def _short_range(
    model: ForceField, batch: Batch, geometry: Geometry, terms: Terms, molecule: Any, *, prefix: str
) -> dict[str, Any]:
    """What the LAMMPS entry returns, whole and in parts, at fixed charges."""
    fixed = model._coulomb(batch, geometry, terms.charges.detach())["coulomb"]
    out: dict[str, Any] = {"charges": terms.charges, "eneg_energy": terms.energies["electronegativity"].sum()}
    out |= _part("nn", batch, geometry, terms.energies["nn"])
    out |= _part("coul_sr", batch, geometry, fixed)
    out |= _part("disp", batch, geometry, terms.energies["dispersion"])
    out["coul_sr_energy_chk"] = out["coul_sr_energy"]
    out["pair_energy"] = terms.total(batch)
    for kind in ("forces", "virial"):
        out[f"pair_{kind}"] = sum(out[f"{part}_{kind}"] for part in ("nn", "coul_sr", "disp"))
    pull = -_slopes(terms.energies["nn"].sum(), geometry.edges)[0]
    molecule = torch.from_numpy(np.asarray(molecule))
    outer = molecule[batch.edges.i] != molecule[batch.edges.j]
    out["nn_virial_outer"] = (pull * geometry.edges.detach())[outer].sum()
    out["n_edges"] = (len(batch.edges), 2 * len(batch.coulomb), 2 * len(batch.dispersion))
    return {prefix + name: value for name, value in out.items()}


def _part(name: str, batch: Batch, geometry: Geometry, energies: torch.Tensor) -> dict[str, Any]:
    force, virial = _slopes(energies.sum(), geometry.positions, geometry.strain)
    return {f"{name}_energy": energies.sum(), f"{name}_forces": -force, f"{name}_virial": -virial[0]}


def unscreened(model: ForceField, batch: Batch, geometry: Geometry, q: torch.Tensor) -> torch.Tensor:
    """Damped Coulomb energy of each atom over the listed pairs, nothing taken off for a reciprocal sum."""
    p = model.parameters_of
    r = geometry.coulomb.norm(dim=1)
    shape = coulomb.damped_everywhere_smooth(r, p.coulomb_beta, p.coulomb_r0_A)
    return coulomb.pair_energies(q, batch.coulomb.i, batch.coulomb.j, shape)


def response(geometry: Geometry, terms: Terms, energy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Force through the charges alone, -sum_i dE/dq_i dq_i/dr, and dE/dq."""
    field = _slopes(energy, terms.charges)[0]
    force = torch.autograd.grad(
        terms.charges, geometry.positions, field, retain_graph=True, materialize_grads=True, allow_unused=True
    )[0]
    return -force, field


def _slopes(energy: torch.Tensor, *variables: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if not energy.requires_grad:
        return tuple(map(torch.zeros_like, variables))
    return torch.autograd.grad(energy, variables, retain_graph=True, materialize_grads=True, allow_unused=True)


def _half_space_vectors(cell: np.ndarray, g: float) -> int:
    """Wave vectors, one of k and -k, whose Gaussian factor is above the truncation of the record."""
    reach = 2 * g * np.sqrt(-np.log(1e-9))
    n_max = (reach * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
    n = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in n_max), indexing="ij"), -1).reshape(-1, 3)
    k2 = ((n @ (2 * np.pi * np.linalg.inv(cell).T)) ** 2).sum(1)
    return int(((k2 > 0) & (k2 <= reach**2)).sum()) // 2


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
