"""Clusters cut from boxes: whole molecules, nearest neighbours over the border, charges carried; moved; told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from mlff.labels.clusters import Cut, cut
from mlff.labels.duplicates import without_duplicates
from mlff.labels.perturbation import CONTACT, Perturbation, closest_contact, perturbed
from tests.mlff.cluster_samples import box, ion_pair, waters
from tests.mlff.samples import rotation

NAMES = tuple({5: "Li", 20: "F"}.get(k, "water") for k in range(27))


def _cuts(n: int = 20, wrapped: bool = False, **settings: object):
    atoms = box(wrapped=wrapped)
    return [cut(atoms, Cut(**settings), np.random.default_rng(seed), names=NAMES, source="box") for seed in range(n)]


def _without_ions():
    atoms = box()
    keep = np.isin(atoms.arrays["fragments"], (0, 1, 2))
    atoms = atoms[keep]
    atoms.info["fragment_charges"] = np.zeros(3)
    return atoms


def test_a_cluster_is_a_molecule_and_its_nearest_ones() -> None:
    atoms = box()
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ atoms.cell.array
    molecules = [atoms.positions[atoms.arrays["fragments"] == k] for k in range(27)]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        found = cut(atoms, Cut(fewest=4, most=4, ions_first=0.0), rng, names=[str(k) for k in range(27)])
        parts = [found.positions[found.fragments == k] for k in range(4)]
        near = [np.linalg.norm(part[:, None] - parts[0], axis=2).min() for part in parts[1:]]
        first, *others = map(int, found.names)
        # by brute force over many images, ions left out where they would charge the cluster
        gaps = {
            k: np.linalg.norm(m[:, None, None] + images - molecules[first][:, None], axis=3).min()
            for k, m in enumerate(molecules)
        }
        wanted = sorted((k for k in gaps if k != first), key=gaps.__getitem__)[:5]
        assert near == pytest.approx([gaps[k] for k in others], abs=1e-9)
        assert others == [k for k in wanted if k in others] and others[0] == wanted[0]


@pytest.mark.parametrize("wrapped", [False, True])
def test_molecules_are_whole_wherever_the_box_ends(wrapped: bool) -> None:
    for found in _cuts(wrapped=wrapped, most=8):
        for k, name in enumerate(found.names):
            if name == "water":
                oh = found.positions[found.fragments == k][1:] - found.positions[found.fragments == k][0]
                assert np.linalg.norm(oh, axis=1) == pytest.approx([0.96, 0.96047], abs=1e-4)
    same = [
        a.key == b.key or np.allclose(a.positions, b.positions)
        for a, b in zip(_cuts(), _cuts(wrapped=True), strict=True)
    ]
    assert all(same)


def test_charges_are_carried_and_limited() -> None:
    found = _cuts(60, ions_first=1.0, fewest=2, most=8, largest_charge=1)
    assert {c.charge for c in found} <= {-1, 0, 1} and {1, -1} <= {c.charge for c in found}
    for c in found:
        assert c.fragment_charges.sum() == c.charge and ("Li" in c.names or "F" in c.names)
        assert c.configuration().total_charge == c.charge
    assert found[0].composition.split(":") == sorted(found[0].composition.split(":"))


def test_sizes_stay_within_their_limits() -> None:
    found = _cuts(40, fewest=2, most=5, most_atoms=10)
    assert {len(c.names) for c in found} <= {2, 3, 4, 5} and max(map(len, found)) <= 10
    assert all(np.abs(c.positions.mean(axis=0)).max() < 1e-12 for c in found)
    with pytest.raises(ValueError, match="fewest=4: is more than most=3"):
        Cut(fewest=4, most=3)
    with pytest.raises(ValidationError):
        Cut(fewest=0)
    with pytest.raises(ValueError, match="most_atoms=2: every molecule of box has more"):
        cut(_without_ions(), Cut(most_atoms=2), np.random.default_rng(0), source="box")


def test_a_box_that_does_not_say_what_belongs_together_is_refused() -> None:
    atoms = box()
    del atoms.arrays["fragments"]
    with pytest.raises(ValueError, match="does not say which molecule an atom belongs to"):
        cut(atoms, Cut(), np.random.default_rng(0))
    atoms = box()
    atoms.info["fragment_charges"] = np.zeros(5)
    with pytest.raises(ValueError, match="numbered 0 to 4"):
        cut(atoms, Cut(), np.random.default_rng(0))


def test_moved_molecules_keep_their_atoms_apart_and_their_shape_where_only_molecules_move() -> None:
    rng = np.random.default_rng(0)
    start = waters(n=5)
    rigid = Perturbation(displacement_A=0.0, shift_A=1.0, turn_deg=60.0, squeeze=0.3)
    for _ in range(20):
        found = perturbed(start, rigid, rng)
        assert closest_contact(found, found.positions) >= CONTACT
        assert not np.allclose(found.positions, start.positions)
        for k in range(5):
            atoms = found.fragments == k
            before = np.linalg.norm(start.positions[atoms][:, None] - start.positions[atoms], axis=2)
            after = np.linalg.norm(found.positions[atoms][:, None] - found.positions[atoms], axis=2)
            np.testing.assert_allclose(after, before, atol=1e-12)
    still = perturbed(start, Perturbation(displacement_A=0.0, shift_A=0.0, turn_deg=0.0, squeeze=0.0), rng)
    np.testing.assert_allclose(still.positions, start.positions, atol=1e-12)


def test_lithium_may_come_nearer_than_its_van_der_waals_radius() -> None:
    pair = ion_pair(2.5)
    assert closest_contact(pair, pair.positions) > CONTACT
    hydrogen = replace(waters(1.6), numbers=np.array([8, 1, 1, 8, 1, 1]))
    assert closest_contact(hydrogen, hydrogen.positions) < CONTACT


def test_the_same_arrangement_is_known_however_it_lies() -> None:
    rng = np.random.default_rng(1)
    clusters = [perturbed(waters(n=3), Perturbation(), rng) for _ in range(4)]
    turned = [replace(c, positions=c.positions @ rotation(k).T + 3.0) for k, c in enumerate(clusters)]
    swapped = replace(turned[0], positions=turned[0].positions[[3, 4, 5, 0, 1, 2, 6, 7, 8]])
    kept, dropped = without_duplicates([*clusters, *turned, swapped], 0.02)
    assert kept == clusters and dropped == 5
    nudged = replace(clusters[0], positions=clusters[0].positions + 0.1 * rng.normal(size=(9, 3)))
    assert without_duplicates([nudged], 0.02, known=clusters) == ([nudged], 0)
    assert without_duplicates(turned, 0.02, known=clusters) == ([], 4)
