"""Lists hold every neighbour through every image, and exactly one of the two entries of a pair stands for it."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from mlff.fast.skin import SkinList
from mlff.fast.team import Team
from mlff.neighbours import neighbour_pairs
from tests.mlff.samples import TRICLINIC

NEAR, FAR, SKIN = 3.0, 5.0, 0.4


def scattered(n: int = 25) -> np.ndarray:
    """Atoms in and outside of the cell."""
    return np.random.default_rng(1).uniform(-2, 9, (n, 3))


def listed(lists: SkinList, kind: str, part: slice = slice(None)) -> list[tuple[float, ...]]:
    """Entries as (i, j, vector to the neighbour), atoms as the caller counts them."""
    rows, count = (lists.near, lists.n_near) if kind == "near" else (lists.far, lists.n_far)
    found = []
    for i, n in enumerate(count):
        for e in rows[i, :n][part]:
            vector = lists.position[e] - lists.position[lists.itself[i]]
            found.append((lists.order[i], lists.order[lists.owner[e]], *np.round(vector, 6) + 0.0))
    return found


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
def test_every_neighbour_is_listed_once(pbc: tuple[bool, ...]) -> None:
    positions, boundary = scattered(), np.array(pbc)
    lists = SkinList(NEAR, FAR, SKIN, Team(3))
    lists.update(positions, TRICLINIC, boundary)
    for kind, cutoff in (("near", NEAR), ("far", FAR)):
        pairs = neighbour_pairs(positions, TRICLINIC, boundary, cutoff + SKIN)
        vectors = positions[pairs.j] + pairs.shift.numpy() @ TRICLINIC - positions[pairs.i]
        wanted = [(int(i), int(j), *np.round(v, 6) + 0.0) for i, j, v in zip(pairs.i, pairs.j, vectors, strict=True)]
        assert Counter(listed(lists, kind)) == Counter(wanted)


def test_one_of_the_two_entries_of_a_pair_stands_for_it() -> None:
    lists = SkinList(NEAR, 0.0, SKIN, Team(2))
    lists.update(scattered(), TRICLINIC, np.ones(3, bool))
    front = Counter(
        entry
        for i, n in enumerate(lists.n_front)
        for entry in listed(lists, "near")[int(lists.n_near[:i].sum()) :][: int(n)]
    )
    both = Counter((j, i, *np.round(-np.array(v), 6) + 0.0) for i, j, *v in front) + front
    assert both == Counter(listed(lists, "near"))


def test_lists_last_until_an_atom_has_moved_half_the_skin() -> None:
    positions, cell, pbc = scattered(), TRICLINIC, np.ones(3, bool)
    lists = SkinList(NEAR, FAR, SKIN, Team(1))
    assert lists.update(positions, cell, pbc)
    nudged = positions + np.array([0.49 * SKIN, 0, 0])
    assert not lists.update(nudged, cell, pbc)
    np.testing.assert_allclose(lists.position[lists.itself], (nudged - lists_home(lists, positions))[lists.order])
    np.testing.assert_allclose(lists.single.T + lists.middle, lists.position, atol=1e-5)
    assert lists.update(positions + np.array([0.51 * SKIN, 0, 0]), cell, pbc)
    # and until the cell has moved the images as far
    assert lists.update(positions + np.array([0.51 * SKIN, 0, 0]), 1.05 * cell, pbc)


def lists_home(lists: SkinList, positions: np.ndarray) -> np.ndarray:
    """Whole cell vectors that bring atoms into the cell, as the lists were built with them."""
    return np.floor(positions @ np.linalg.inv(TRICLINIC)) @ TRICLINIC


def test_overlapping_atoms_are_named() -> None:
    positions = np.array([[0.0, 0, 0], [3.0, 0, 0], [3.0, 1e-6, 0]])
    with pytest.raises(ValueError, match=r"atom [12] overlaps another: 1e-06 Å apart"):
        SkinList(NEAR, 0.0, SKIN, Team(1)).update(positions, np.zeros((3, 3)), np.zeros(3, bool))
