"""GFN2-xTB by tblite: the same labels as the embedded frames, forces that are derivatives, gaps, and what it refuses."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from mlff.datasets import FrameFiles
from mlff.labelled import LabelKeys, Source, read_extxyz
from mlff.labels.isolated import write_isolated
from mlff.labels.methods import NotLabelled, Tblite, gap_eV
from mlff.units import DEBYE_EA, KCAL_PER_EV
from tests.mlff.cluster_samples import ion_pair, waters

pytest.importorskip("tblite", reason="tblite is missing: pip install 'lsmrun[qm]'")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    # the library is loaded by its first use: a team of its threads waits for ever on a busy machine
    Tblite().compute(np.array([3]), np.zeros((1, 3)), 1)
    threadpool_limits(1)


def test_isolated_atoms_of_the_packaged_sets_come_back(tmp_path) -> None:
    keys = LabelKeys("energy", "forces", charges="charges", dipole="dipole")
    carbonates = FrameFiles("carbonates", "package:carbonates_train.xyz", "included", keys=keys).load(tmp_path, 0)
    write_isolated(["H", "Li", "C", "O", "F", "P"], tmp_path / "atoms.xyz")
    found = read_extxyz(tmp_path / "atoms.xyz", Source(keys))[1]
    packaged = read_extxyz(files("mlff") / "data" / "electrolyte_atoms.xyz", Source(keys))[1]
    assert found == pytest.approx(packaged, abs=1e-4)
    assert {z: found[z] for z in (1, 6, 8)} == pytest.approx(carbonates.isolated, abs=0.05)


def test_the_labels_of_the_embedded_carbonates_come_back(tmp_path) -> None:
    keys = LabelKeys(["energy", "energy_xtb"], ["forces", "forces_xtb"], charges="charges", dipole="dipole")
    read = FrameFiles("carbonates", "package:carbonates_train.xyz", "included", keys=keys)
    frames = sorted(read.load(tmp_path, 0).train, key=lambda f: len(f.configuration.numbers))[:40:4]
    for frame in frames:
        c = frame.configuration
        found = Tblite().compute(c.numbers, c.positions, 0)
        # charges and dipoles were added with this program, energies and forces come from the set's authors
        assert abs(found.energy - frame.energy) / KCAL_PER_EV / len(c.numbers) < 6e-6
        np.testing.assert_allclose(found.forces, frame.forces, atol=1e-3 * KCAL_PER_EV)
        np.testing.assert_allclose(found.charges, frame.charges, atol=3e-4)
        np.testing.assert_allclose(found.dipole, frame.dipole, atol=5e-3)
        assert 1.0 < found.gap_eV < 15.0


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
@pytest.mark.parametrize("dispersion", [True, False])
def test_forces_are_derivatives_of_the_energy(method: str, dispersion: bool) -> None:
    theory, pair, h = Tblite(method, dispersion), waters(2.7), 1e-3
    found = theory.compute(pair.numbers, pair.positions, 0)
    for atom, axis in ((0, 2), (4, 0)):
        step = np.zeros((6, 3))
        step[atom, axis] = h
        up, down = (theory.compute(pair.numbers, pair.positions + s, 0).energy for s in (step, -step))
        assert found.forces[atom, axis] == pytest.approx(-(up - down) / (2 * h), abs=2e-2)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-4


def test_dispersion_can_be_left_out() -> None:
    full, bare = Tblite(), Tblite(include_dispersion=False)
    assert (full.dispersion, bare.dispersion) == ("included", "none")
    assert (full.title, bare.title) == ("GFN2-xTB", "GFN2-xTB without dispersion")

    def attraction(theory: Tblite, distance: float) -> float:
        near, far = (theory.compute(waters(d).numbers, waters(d).positions, 0).energy for d in (distance, 40.0))
        return near - far

    # what is left out binds, and dies away with the distance (but for what it does to the charges)
    lost = [attraction(bare, d) - attraction(full, d) for d in (3.0, 5.0, 9.0)]
    assert 0.2 < lost[0] < 3.0 and abs(lost[1]) < 0.3 * lost[0] and abs(lost[2]) < 0.02 * lost[0]


def test_ions_carry_their_charge_and_separated_ones_close_the_gap() -> None:
    gaps = []
    for distance in (3.1, 3.5, 5.0):
        pair = ion_pair(distance)
        found = Tblite().compute(pair.numbers, pair.positions, 0)
        assert found.charges.sum() == pytest.approx(0.0, abs=1e-6) and found.charges[-1] > 0.7
        gaps.append(found.gap_eV)
    assert gaps[0] > 2.5 and gaps[-1] < 0.5 and gaps == sorted(gaps, reverse=True)
    lithium = Tblite().compute(np.array([3]), np.zeros((1, 3)), 1)
    assert lithium.charges == pytest.approx([1.0]) and lithium.gap_eV == np.inf


def test_the_dipole_is_about_the_origin_of_the_positions() -> None:
    pf6 = ion_pair(3.1)
    numbers, places = pf6.numbers[:7], pf6.positions[:7] - pf6.positions[0]
    centred = Tblite().compute(numbers, places, -1)
    moved = Tblite().compute(numbers, places + np.array([0.0, 0.0, 2.0]), -1)
    np.testing.assert_allclose(moved.dipole - centred.dipole, [0.0, 0.0, -2.0 / DEBYE_EA], atol=1e-4)


def test_what_has_no_closed_shell_or_no_solution_is_refused() -> None:
    with pytest.raises(NotLabelled, match=r"3 electrons \(charge \+0\) are no closed shell"):
        Tblite().compute(np.array([3]), np.zeros((1, 3)), 0)
    pair = waters()
    with pytest.raises(NotLabelled, match=r"GFN2-xTB: .*not converged in 2 cycles"):
        Tblite(most_cycles=2).compute(pair.numbers, pair.positions, 0)


def test_the_gap_is_between_the_last_occupied_and_the_first_empty_orbital() -> None:
    assert gap_eV(np.array([0.3, -0.5, -0.2]), 2) == pytest.approx(0.5 * 27.211386, rel=1e-6)
    assert gap_eV(np.array([-0.5]), 1) == np.inf
