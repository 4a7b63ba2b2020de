"""Radial distributions of an ideal gas and a crystal, and the species of cations in small made-up boxes."""

from __future__ import annotations

import numpy as np
import pytest

from mlff.transport import SolvationShells, radial_distribution, solvation_shells
from mlff.transport.structure import atoms_of, distances, first_minimum, half_height
from tests.mlff.transport.coverage import check_error_bars


def test_an_ideal_gas_has_no_structure() -> None:
    rng = np.random.default_rng(0)
    cell = np.array([[12.0, 0, 0], [3, 12, 0], [0, 2, 13]])
    positions = rng.random((40, 200, 3)) @ cell
    found = radial_distribution(
        [positions], [np.broadcast_to(cell, (40, 3, 3))], np.arange(50), np.arange(50, 200), bin_A=0.5
    )
    assert found.g[3:] == pytest.approx(np.ones(len(found.g) - 3), abs=0.06)
    assert found.r_A[-1] < half_height(cell)
    end = found.r_A[-1] + 0.25
    assert found.coordination[-1] == pytest.approx(150 / np.linalg.det(cell) * 4 / 3 * np.pi * end**3, rel=0.02)


def test_a_crystal_has_its_coordination_number() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    kind = grid.sum(axis=1) % 2  # rock salt, 2.8 Å between neighbours
    rng = np.random.default_rng(1)
    positions = 2.8 * grid + rng.normal(0, 0.1, (20, 64, 3))
    cells = np.broadcast_to(11.2 * np.eye(3), (20, 3, 3))
    found = radial_distribution([positions], [cells], np.flatnonzero(kind == 0), np.flatnonzero(kind == 1))
    assert found.r_A[np.argmax(found.g)] == pytest.approx(2.8, abs=0.15)
    assert found.first_minimum_A and 3.1 < found.first_minimum_A < 4.8
    assert found.n_first_shell and found.n_first_shell.value == pytest.approx(6.0, abs=0.05)
    # six in every frame: nothing says how sure that is
    assert found.n_first_shell.n_blocks == 0 and not found.n_first_shell.has_error


def test_a_shell_ends_only_where_g_rises_again() -> None:
    r = np.arange(0.025, 20.0, 0.05)
    g = np.where(r < 4.0, 0.0, 1.0 + np.exp(-(r - 4.0) / 6.0) * np.sin(2 * np.pi * (r - 4.0) / 5.0))  # least at 7.6
    assert first_minimum(r, g) == pytest.approx(7.6, abs=0.2)
    for largest in (6.0, 7.4):  # the box ends within the peak, and before the minimum
        assert first_minimum(r[r < largest], g[r < largest]) is None
    assert first_minimum(r, np.where(r < 4.0, 0.0, 1.0)) is None
    alone = np.where((r > 2.0) & (r < 3.0), 5.0, 0.0)  # one anion that never leaves, and nothing behind it
    assert first_minimum(r, alone) == pytest.approx(3.1, abs=0.1)


def test_pairs_of_one_molecule_are_left_out() -> None:
    positions = np.array([[[0.0, 0, 0], [1, 0, 0], [5, 0, 0], [6, 0, 0]]])
    fragments = np.array([0, 0, 1, 1])
    found = radial_distribution(
        [positions], [20 * np.eye(3)[None]], np.arange(4), np.arange(4), fragments=fragments, bin_A=0.5
    )
    assert found.coordination[found.r_A > 1.5][0] == 0.0 and found.coordination[-1] == 2.0
    with pytest.raises(ValueError, match="atoms of both kinds"):
        radial_distribution([positions], [20 * np.eye(3)[None]], np.arange(0), np.arange(4))


def test_distances_go_to_the_nearest_image() -> None:
    positions = np.array([[0.5, 0.5, 0.5], [9.5, 0.5, 9.0], [25.0, -4.0, 0.5]])
    found = distances(positions, 10 * np.eye(3), np.array([0]), np.array([1, 2]))
    assert found == pytest.approx(np.array([[np.hypot(1.0, 1.5), np.hypot(4.5, 4.5)]]))


def test_lithium_is_free_paired_or_aggregated() -> None:
    # molecules: three Li, anions X (F), solvent S (O); Li at 0, 20 and 40 Å
    numbers = np.array([3, 3, 3, 9, 9, 9, 8, 8])
    names = ("Li", "Li", "Li", "X", "X", "X", "S", "S")
    charges = np.array([1.0, 1, 1, -1, -1, -1, 0, 0])
    at = {0: 0.0, 1: 20.0, 2: 23.6}
    frame = np.zeros((8, 3))
    frame[:3, 0] = [at[0], at[1], at[2]]
    frame[3:, 0] = [2.0, 21.8, 50.0, -2.0, 18.0]  # an ion pair; an anion between two Li; a free one; two solvents
    bare = frame.copy()
    bare[3:, 0] = 60.0
    found = solvation_shells(
        [np.stack([frame, bare])],
        [np.broadcast_to(100 * np.eye(3), (2, 3, 3))],
        numbers,
        np.arange(8),
        names,
        charges,
        "Li",
    )
    shares = {k: e.value for k, e in found.shares.items()}
    assert shares == pytest.approx({"SSIP": 0.5, "CIP": 1 / 6, "AGG": 1 / 3})
    assert found.coordination["X"].value == pytest.approx(0.5)
    assert found.coordination["S"].value == pytest.approx(1 / 3)
    assert found.shells[0] == ("bare", 0.5) and ("1 X 1 S", pytest.approx(1 / 3)) in found.shells
    with pytest.raises(ValueError, match="Na: not a molecule of one atom"):
        solvation_shells([frame[None]], [100 * np.eye(3)[None]], numbers, np.arange(8), names, charges, "Na")
    assert atoms_of(names, np.arange(8), "S", numbers, 8).tolist() == [6, 7]


N_IONS, PAIRED = 6, 0.6


def _pairs(bound: list[np.ndarray], anion_charge: float = -1.0) -> SolvationShells:
    """Li far from each other, each with an anion of its own that is in its shell where `bound` `(n_frames, n_ions)`."""
    at = np.zeros((2 * N_IONS, 3))
    at[:, 0] = np.tile(20.0 * np.arange(N_IONS), 2)
    replicas = []
    for b in bound:
        frames = np.tile(at, (len(b), 1, 1))
        frames[:, N_IONS:, 1] = np.where(b, 2.0, 6.0)
        replicas.append(frames)
    return solvation_shells(
        replicas,
        [np.broadcast_to(20.0 * N_IONS * np.eye(3), (len(b), 3, 3)) for b in bound],
        np.repeat([3, 9], N_IONS),
        np.arange(2 * N_IONS),
        ("Li",) * N_IONS + ("X",) * N_IONS,
        np.repeat([1.0, anion_charge], N_IONS),
        "Li",
    )


def _exchange(rng: np.random.Generator, n_frames: int, lifetime: float) -> np.ndarray:
    """Whether each ion is paired: at every frame it is drawn anew with probability 1 / lifetime."""
    drawn = rng.random((n_frames, N_IONS)) < PAIRED
    anew = rng.random((n_frames, N_IONS)) < 1 / lifetime
    anew[0] = True
    last = np.maximum.accumulate(np.where(anew, np.arange(n_frames)[:, None], 0), axis=0)
    return np.take_along_axis(drawn, last, axis=0)


@pytest.mark.parametrize(("lifetime", "replicas"), [(1.5, 2), (30.0, 3)], ids=["fast exchange", "slow exchange"])
def test_error_bars_of_shares_and_shells_cover(lifetime: float, replicas: int) -> None:
    rng = np.random.default_rng(5)
    found = [_pairs([_exchange(rng, 100, lifetime) for _ in range(replicas)]) for _ in range(200)]
    check_error_bars([f.shares["CIP"] for f in found], PAIRED, "CIP")
    check_error_bars([f.coordination["X"] for f in found], PAIRED, "X")
    for f in found:
        assert sum(e.value for e in f.shares.values()) == pytest.approx(1.0)


def test_ions_that_were_never_seen_to_exchange_have_no_error() -> None:
    rng = np.random.default_rng(6)
    stuck = [np.tile(rng.random(N_IONS) < PAIRED, (50, 1)) for _ in range(4)]
    assert len({s.sum() for s in stuck}) > 1
    for bound in (stuck, stuck[:1], [np.ones((50, N_IONS), bool)] * 4):
        found = _pairs(bound)
        for e in (*found.shares.values(), *found.coordination.values()):
            assert e.n_blocks == 0 and np.isinf(e.error)
        assert found.coordination["X"].value == pytest.approx(np.mean(bound))


def test_what_is_certain_is_no_measurement() -> None:
    assert not _pairs([np.ones((50, N_IONS), bool)], anion_charge=0.0).shares
    numbers, names = np.array([3, 9, 6]), ("Li", "X", "methane")
    frame = np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]])
    found = solvation_shells(
        [frame[None]], [20 * np.eye(3)[None]], numbers, np.arange(3), names, np.array([1.0, -1, 0]), "Li"
    )
    assert set(found.coordination) == {"X"} and found.shells == (("1 X", 1.0),)
