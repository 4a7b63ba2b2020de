"""The model that comes with the package: it loads, its forces are derivatives, and an electrolyte stays in one piece."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import yaml

import mlff
from mlff.calculator import MLFFCalculator
from mlff.dynamics.relaxation import Relaxation, relax
from mlff.dynamics.simulation import Dynamics, Step, simulate
from mlff.model import ForceField
from mlff.system.liquid import System, pack
from tests.mlff.cluster_samples import ion_pair

ELEMENTS = [1, 3, 6, 8, 9, 15]
ELECTROLYTE = System("electrolyte", ["DMC", "EC"], [8.0, 9.0], "count", ["LiPF6"], [2.0], "count", density_g_cm3=1.15)


@cache
def shipped() -> ForceField:
    return mlff.load(mlff.default_model())


@pytest.mark.parametrize("name", ["default_model", "loop_model"])
def test_it_says_what_it_is(name: str) -> None:
    path = mlff.packaged(name)
    model = mlff.load(path)
    assert [z for z in range(87) if model.trained[z]] == ELEMENTS
    assert model.parameters_of.forces == "conservative" and model.parameters_of.charge_groups == "fragment"
    about = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert about["labels"]["dispersion"] == "included" and "GFN2-xTB" in about["labels"]["credit"]
    assert "data" not in about["config"] and "/" not in "".join(about["labels"]["checksums"])
    assert {"DMC", "EC", "EMC", "Li", "PF6"} <= set(about["labels"]["molecules"])
    card = (path.parent / "MODEL_CARD.md").read_text()
    assert "GFN2-xTB" in card and "Not validated for" in card
    assert path.stat().st_size < 500_000


def test_another_name_is_refused_with_those_that_there_are() -> None:
    assert mlff.packaged("default_model") == mlff.default_model()
    with pytest.raises(ValueError, match=r"loops: no model .* \(there are default_model, loop_model\)"):
        mlff.packaged("loops")


def test_forces_are_derivatives_of_the_energy() -> None:
    model, pair, h = shipped().double(), ion_pair(3.2).configuration(), 1e-4
    found = model.predict(model.batch(pair))
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        energies = []
        for sign in (1, -1):
            pair.positions[atom, axis] += sign * h
            energies.append(model.predict(model.batch(pair), forces=False).energy.item())
            pair.positions[atom, axis] -= sign * h
        assert found.forces[atom, axis].item() == pytest.approx((energies[1] - energies[0]) / (2 * h), abs=1e-5)
    assert found.charges.sum().item() == pytest.approx(0.0, abs=1e-9)
    model.float()


def test_it_binds_lithium_to_the_anion_as_its_labels_do() -> None:
    pytest.importorskip("tblite", reason="tblite is missing: pip install 'lsmrun[qm]'")
    from mlff.labels.methods import Tblite

    model = shipped()
    pairs = [ion_pair(d) for d in (2.7, 3.0, 3.4)]
    label = [Tblite().compute(p.numbers, p.positions, 0).energy for p in pairs]
    with torch.no_grad():
        own = [model.predict(model.batch(p.configuration()), forces=False).energy.item() for p in pairs]
    np.testing.assert_allclose(np.diff(own), np.diff(label), atol=4.0)


def test_an_electrolyte_stays_in_one_piece() -> None:
    box = pack(ELECTROLYTE, seed=0)
    calculator = MLFFCalculator(shipped(), fast=True, threads=1)
    start = relax(
        box.atoms, calculator, Relaxation(steps=60, soft_start_ps=0.05, time_step_fs=0.5), temperature_K=350.0, seed=0
    )
    steps: list[Step] = []
    nve = Dynamics(ensemble="nve", temperature_K=350.0, length_ps=0.3, time_step_fs=0.5, max_temperature_K=700.0)
    end = simulate(start, calculator, nve, seed=0, on_step=steps.append)
    conserved = np.array([s.conserved_kcal_mol for s in steps])
    assert len(steps) == 601 and np.ptp(conserved) / len(box.atoms) < 0.02
    after = end.put_on(box.atoms)
    for k, name in enumerate(box.names):
        atoms = np.flatnonzero(box.atoms.arrays["fragments"] == k)
        before_d = np.linalg.norm(box.atoms.positions[atoms][:, None] - box.atoms.positions[atoms], axis=2)
        after_d = np.linalg.norm(after.positions[atoms][:, None] - after.positions[atoms], axis=2)
        bonded = (before_d > 0) & (before_d < 1.75)
        assert (after_d[bonded] < 2.1).all(), name
