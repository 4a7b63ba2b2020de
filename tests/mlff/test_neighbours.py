from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlff.neighbours import all_pairs, complete_cell, neighbour_pairs
from tests.mlff.samples import TRICLINIC

CUTOFF = 5.0


def by_hand(positions: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...]) -> set[tuple[int, ...]]:
    found = set()
    for shift in itertools.product(*[range(-3, 4) if p else (0,) for p in pbc]):
        distance = np.linalg.norm(positions[:, None] - positions[None] - shift @ cell, axis=-1)
        found |= {(i, j, *shift) for i, j in np.argwhere((distance < CUTOFF) & (distance > 0)).tolist()}
    return found


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
def test_all_images_are_found_with_any_boundary_in_a_cell_smaller_than_the_cutoff(pbc: tuple[bool, ...]) -> None:
    cell = 0.6 * TRICLINIC
    # atoms outside the cell too
    positions = np.random.default_rng(1).uniform(-2, 7, (9, 3))
    pairs = neighbour_pairs(positions, cell, np.array(pbc), CUTOFF)
    found = [(*row[:2], *row[2:]) for row in np.c_[pairs.i, pairs.j, pairs.shift].astype(int).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == by_hand(positions, cell, pbc)


def test_receivers_come_sorted() -> None:
    pairs = neighbour_pairs(np.random.default_rng(2).uniform(0, 7, (30, 3)), TRICLINIC, np.ones(3, bool), CUTOFF)
    assert (np.diff(pairs.i.numpy()) >= 0).all()


def test_half_of_a_list_holds_each_pair_once() -> None:
    positions = np.random.default_rng(3).uniform(0, 7, (6, 3))
    pairs = neighbour_pairs(positions, 0.6 * TRICLINIC, np.ones(3, bool), CUTOFF)
    half = pairs.half()
    rows = set(map(tuple, np.c_[half.i, half.j, half.shift].astype(int).tolist()))
    mirrored = {(j, i, -a, -b, -c) for i, j, a, b, c in rows}
    assert rows.isdisjoint(mirrored)
    assert rows | mirrored == by_hand(positions, 0.6 * TRICLINIC, (True, True, True))


def test_pairs_of_an_open_system_are_all_pairs() -> None:
    pairs = all_pairs(4)
    assert sorted(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)) == list(itertools.combinations(range(4), 2))


def test_overlapping_atoms_are_named() -> None:
    positions = np.array([[0.0, 0, 0], [1.5, 0, 0], [1.5, 0, 0]])
    with pytest.raises(ValueError, match="atoms 1 and 2 overlap"):
        neighbour_pairs(positions, np.zeros((3, 3)), np.zeros(3, bool), CUTOFF)


def test_overlap_with_an_image_is_named() -> None:
    positions = np.array([[0.0, 0, 0], [8.0, 0, 0]])
    with pytest.raises(ValueError, match="overlap"):
        neighbour_pairs(positions, 8.0 * np.eye(3), np.ones(3, bool), CUTOFF)


def test_open_directions_are_completed_by_normals() -> None:
    full = complete_cell(TRICLINIC, np.array([True, False, True]))
    assert np.linalg.norm(full[1]) == pytest.approx(1.0)
    assert full[1] @ full[0] == pytest.approx(0.0)
    assert full[1] @ full[2] == pytest.approx(0.0)
