from __future__ import annotations

import numpy as np
import pytest

from mlff.frames import Configuration, Cutoffs, collate

WATER = ([8, 1, 1], [[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": []}, "without atoms"),
        ({"positions": [[0.0, 0, 0]]}, "for 3 atoms"),
        ({"positions": [[0.0, 0, 0], [np.nan, 0, 0], [1.0, 0, 0]]}, "atom 1 has no finite position"),
        ({"numbers": [8, 1, 0]}, "atom 2 has atomic number 0"),
        ({"numbers": [8, 1, 95]}, "atom 2 has atomic number 95"),
        ({"pbc": True}, "a cell vector is zero"),
        ({"pbc": True, "cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "linearly dependent"),
        ({"fragments": [0, 0, 0]}, "go together"),
        ({"fragments": [0, 0, 2], "fragment_charges": [0.0, 0.0]}, "an index 0..1"),
        ({"fragments": [0, 0, 1], "fragment_charges": [1.0, 0.0]}, "add up to 1 e, total_charge is 0 e"),
    ],
)
def test_a_configuration_that_cannot_be_computed_says_why(change: dict, message: str) -> None:
    arguments = {"numbers": WATER[0], "positions": WATER[1]} | change
    with pytest.raises(ValueError, match=message):
        Configuration.of(**arguments)


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="empty set"):
        collate([], Cutoffs(5.0, 5.0, 10.0))


def test_three_cell_lengths_make_an_orthogonal_cell() -> None:
    assert Configuration.of(*WATER, cell=[8, 9, 10], pbc=True).cell.tolist() == np.diag([8.0, 9.0, 10.0]).tolist()


def test_a_batch_never_pairs_atoms_of_two_systems() -> None:
    c = Configuration.of(*WATER)
    batch = collate([c, c, c], Cutoffs(5.0, 5.0, 10.0))
    for pairs in (batch.edges, batch.coulomb, batch.dispersion):
        assert (batch.system[pairs.i] == batch.system[pairs.j]).all()
    assert len(batch.edges) == 3 * 6
    assert batch.system.tolist() == 3 * [0] + 3 * [1] + 3 * [2]


def test_one_number_of_a_file_is_the_charge_of_one_fragment() -> None:
    c = Configuration.of(*WATER, fragments=[0, 0, 0], fragment_charges=np.float64(1.0), total_charge=1.0)
    assert c.fragment_charges is not None and c.fragment_charges.tolist() == [1.0]
    assert Configuration.of([3], [[0.0, 0, 0]], fragments=0, fragment_charges=0).fragments is not None
