"""Reading an array: wires against an exact nodal solve, noise and ADC against closed forms, tiles, the kernel's fast way."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from lsm.rram import kernel
from lsm.rram.array import Crossbar, column_current, digitise, foreign_reader, row_drop
from lsm.rram.device import Device
from lsm.rram.encoder import Encoder, build_encoder
from lsm.rram.parameters import RramParameters

N_IN, N = 37, 24
RNG = np.random.default_rng(0)


def _encoder(n_in: int = N_IN, n: int = N, **device: Any) -> Encoder:
    parameters = RramParameters(
        n_neurons=n, steps=20, decay=0.9, v_threshold=5.0, weight_per_uS=0.2, window=20, device=Device(**device)
    )
    return build_encoder(parameters, n_in, seed=3)


def nodal_currents(wires_uS: np.ndarray, driven: np.ndarray, row_ohm: float, column_ohm: float) -> np.ndarray:
    """Column currents over the read voltage, in uS, of an array with wires: Kirchhoff's laws at every node.

    Drivers are one segment before column 0, the virtual ground one segment below the last row; rows that are not driven are
    cut off.
    """
    rows, columns = wires_uS.shape
    row_node = np.arange(rows * columns).reshape(rows, columns)
    column_node = row_node + rows * columns
    matrix: dict[tuple[int, int], float] = {}
    source = np.zeros(2 * rows * columns)

    def connect(a: int, b: int | None, siemens: float, voltage: float = 0.0) -> None:
        matrix[a, a] = matrix.get((a, a), 0.0) + siemens
        if b is None:
            source[a] += siemens * voltage
            return
        matrix[b, b] = matrix.get((b, b), 0.0) + siemens
        matrix[a, b] = matrix[b, a] = -siemens

    for j, c in itertools.product(range(rows), range(columns)):
        connect(row_node[j, c], row_node[j, c - 1] if c else None, 1 / row_ohm, 1.0)
        connect(column_node[j, c], column_node[j + 1, c] if j + 1 < rows else None, 1 / column_ohm)
        if driven[j]:
            connect(row_node[j, c], column_node[j, c], wires_uS[j, c] * 1e-6)
    at = np.array(list(matrix)).T
    voltages = spsolve(sparse.csc_matrix((list(matrix.values()), at), shape=(len(source), len(source))), source)
    return voltages[column_node[-1]] / column_ohm * 1e6


@cache
def _wires() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(0, 25, (30, 16)), (rng.random(30) < 0.5).astype(np.float64)


def _first_order(row_ohm: float, column_ohm: float) -> np.ndarray:
    wires, driven = _wires()
    return column_current(driven[None], wires / (1 + row_drop(wires, row_ohm)), column_ohm)[0]


@pytest.mark.parametrize(("row_ohm", "column_ohm"), [(8.0, 1e-6), (1e-6, 8.0), (4.0, 4.0)])
def test_ir_drop_is_right_to_first_order(row_ohm: float, column_ohm: float) -> None:
    """Against an exact solve: the error is a small part of the drop, and falls with the square of the resistance."""
    wires, driven = _wires()
    ideal = driven @ wires
    errors, drops = [], []
    for factor in (1.0, 0.5, 0.25):
        exact = nodal_currents(wires, driven, factor * row_ohm, factor * column_ohm)
        ours = _first_order(factor * row_ohm, factor * column_ohm)
        assert np.all(exact < ideal) and np.all(ours < ideal)
        errors.append(np.abs(ours - exact).max())
        drops.append(np.abs(exact - ideal).max())
    assert drops[0] > 0.01 * ideal.max(), "the drop is worth a test"
    assert errors[-1] < 0.05 * drops[-1]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2) and errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_currents_stay_positive_however_bad_the_wires_are() -> None:
    wires, driven = _wires()
    for ohm in (1e3, 1e5):
        ours = _first_order(ohm, ohm)
        assert np.all(ours > 0) and np.all(ours < driven @ wires)


def test_wires_without_resistance_change_nothing() -> None:
    wires, driven = _wires()
    np.testing.assert_array_equal(_first_order(0.0, 0.0), driven @ wires)
    plain, zero = _encoder(), _encoder(row_ohm=0.0, column_ohm=0.0)
    np.testing.assert_array_equal(plain.tables.difference, zero.tables.difference)


def _fast_readings(encoder: Encoder, driven: np.ndarray, key: int = 0, sample: int = 0, step: int = 0) -> np.ndarray:
    """A reading of the kernel with all effects."""
    rows = np.flatnonzero(driven)
    tables = encoder.tables
    out = np.zeros((tables.difference.shape[0], tables.difference.shape[2]))
    for stripe in range(len(out)):
        kernel._read_tiles(
            tables, encoder.constants, stripe, rows, len(rows), np.uint64(key), sample, step, out[stripe]
        )
    return out.ravel()[: encoder.n_neurons]


@pytest.mark.parametrize(
    "device",
    [
        {},
        {"draw": "breakdown", "row_ohm": 3.0},
        {"column_ohm": 5.0},
        {"row_ohm": 2.0, "column_ohm": 2.0, "tile_rows": 16, "tile_columns": 20},
        {"adc_bits": 6, "adc_full_scale_uS": 30.0},
        {"adc_bits": 8, "adc_full_scale_uS": 60.0, "tile_rows": 10, "column_ohm": 4.0},
    ],
)
def test_the_kernel_reads_what_the_definition_says(device: dict) -> None:
    encoder = _encoder(**device)
    for _ in range(5):
        driven = RNG.random(N_IN + N) < 0.3
        expected = encoder.crossbar.read(driven[None])[0]
        np.testing.assert_allclose(_fast_readings(encoder, driven), expected, rtol=1e-12, atol=1e-12)


def test_each_tile_has_wires_of_its_own() -> None:
    """Cut into four arrays, the drop is that of four small arrays, hence smaller."""
    whole, cut = (
        _encoder(row_ohm=5.0, column_ohm=5.0),
        _encoder(row_ohm=5.0, column_ohm=5.0, tile_rows=31, tile_columns=24),
    )
    assert (whole.crossbar.n_tiles, cut.crossbar.n_tiles) == (1, 4)
    driven = np.ones((1, N_IN + N), bool)
    ideal, far, near = (e.crossbar.read(driven)[0] for e in (_encoder(), whole, cut))
    assert np.abs(near - ideal).sum() < np.abs(far - ideal).sum()
    corner = cut.crossbar.pairs
    wires = np.stack([corner.plus[:31, :12], corner.minus[:31, :12]], axis=2).reshape(31, 24)
    attenuated = wires / (1 + row_drop(wires, 5.0))
    np.testing.assert_allclose(cut.crossbar.as_read.plus[:31, :12], attenuated[:, 0::2], atol=1e-11)


def _noise(device: dict, reads: int = 4000) -> tuple[np.ndarray, Encoder, np.ndarray]:
    encoder = _encoder(**device)
    driven = np.random.default_rng(5).random(N_IN + N) < 0.4
    clean = encoder.crossbar.read(driven[None])[0]
    noisy = np.array([_fast_readings(encoder, driven, 11, k // 50, k % 50) for k in range(reads)])
    return noisy - clean, encoder, driven


def _cells(encoder: Encoder, driven: np.ndarray) -> np.ndarray:
    return np.concatenate([part[driven] for part in encoder.crossbar.as_read])


def test_multiplicative_noise_has_the_spread_of_all_its_devices() -> None:
    noise, encoder, driven = _noise({"read_noise": 0.05})
    expected = 0.05 * np.sqrt((_cells(encoder, driven) ** 2).sum(axis=0))
    np.testing.assert_allclose(noise.std(axis=0), expected, rtol=0.05)
    assert np.abs(noise.mean(axis=0) / expected).max() < 4 / np.sqrt(len(noise))


def test_additive_noise_grows_with_the_number_of_devices() -> None:
    noise, _, driven = _noise({"read_noise_uS": 0.3})
    np.testing.assert_allclose(noise.std(axis=0), 0.3 * np.sqrt(2 * driven.sum()), rtol=0.05)


def test_both_noises_together_add_their_variances() -> None:
    noise, encoder, driven = _noise({"read_noise": 0.03, "read_noise_uS": 0.4})
    variance = 0.03**2 * (_cells(encoder, driven) ** 2).sum(axis=0) + 0.4**2 * 2 * driven.sum()
    np.testing.assert_allclose(noise.var(axis=0), variance, rtol=0.1)


def test_noise_is_normal_and_independent_from_read_to_read_and_column_to_column() -> None:
    noise, _, _ = _noise({"read_noise": 0.05})
    standard = noise / noise.std(axis=0)
    assert np.mean(standard**4) == pytest.approx(3, abs=0.1) and abs(np.mean(standard**3)) < 0.05
    correlation = np.corrcoef(standard.T) - np.eye(N)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(noise))
    assert abs(np.mean(standard[1:] * standard[:-1])) < 4 / np.sqrt(standard.size)


def test_the_definition_draws_device_by_device_what_the_kernel_draws_at_once() -> None:
    encoder = _encoder(read_noise=0.05, read_noise_uS=0.2)
    driven = np.random.default_rng(5).random((1, N_IN + N)) < 0.4
    rng = np.random.default_rng(0)
    slow = np.array([encoder.crossbar.read(driven, rng)[0] for _ in range(3000)])
    expected = np.sqrt(0.05**2 * (_cells(encoder, driven[0]) ** 2).sum(axis=0) + 0.2**2 * 2 * driven.sum())
    np.testing.assert_allclose(slow.std(axis=0), expected, rtol=0.06)


def test_an_adc_errs_by_its_step_over_the_root_of_twelve_and_clips() -> None:
    values = np.random.default_rng(0).uniform(-9.9, 9.9, 200_000)
    for bits in (4, 8, 14):
        step = 20 / 2**bits
        error = digitise(values, np.array(10.0), bits) - values
        inside = values < 10 - step
        assert np.abs(error[inside]).max() <= step / 2 * (1 + 1e-9)
        assert error[inside].std() == pytest.approx(step / np.sqrt(12), rel=0.01)
    np.testing.assert_array_equal(digitise(np.array([50.0, -50.0]), np.array(10.0), 3), [7.5, -10.0])


def test_the_rows_of_all_tiles_are_added_digitally() -> None:
    """Six row tiles of 4 bits: the sum of six readings, each on its own codes."""
    encoder = _encoder(adc_bits=4, adc_full_scale_uS=40.0, tile_rows=11)
    driven = np.ones((1, N_IN + N), bool)
    starts, pairs = encoder.crossbar.row_starts, encoder.crossbar.pairs
    parts = [(pairs.plus - pairs.minus)[a:b].sum(axis=0) for a, b in itertools.pairwise(starts)]
    assert len(parts) == 6
    expected = sum(np.clip(np.rint(part / 5.0), -8, 7) * 5.0 for part in parts)
    np.testing.assert_array_equal(encoder.crossbar.read(driven)[0], expected)


def test_the_image_liquid_fits_one_macro_and_the_brain_liquid_many() -> None:
    def crossbar(n_in: int, n: int) -> Crossbar:
        encoder = _encoder(8, 8)
        zeros = np.zeros((n_in + n, n))
        return dataclasses.replace(encoder.crossbar, pairs=type(encoder.crossbar.pairs)(zeros, zeros), n_in=n_in)

    assert crossbar(256, 200).n_tiles == 1 and crossbar(64, 200).n_tiles == 1
    assert crossbar(192, 2048).n_tiles == 5 * 8


class Lossy:
    """Another simulator of arrays, as a user would bring it."""

    def __init__(self, crossbar: Crossbar) -> None:
        self.difference = 0.9 * (crossbar.pairs.plus - crossbar.pairs.minus)

    def read(self, driven: np.ndarray) -> np.ndarray:
        return driven @ self.difference


def test_a_foreign_simulator_reads_the_programmed_pairs() -> None:
    encoder = _encoder(simulator=f"{__name__}.Lossy")
    driven = np.ones((1, N_IN + N), bool)
    assert encoder.reader is not None
    np.testing.assert_allclose(encoder.reader.read(driven), 0.9 * _encoder().crossbar.read(driven))


@pytest.mark.parametrize(
    ("path", "told"), [("nowhere.Tile", "No module"), ("os.path", "os.path"), ("os.nothing", "nothing")]
)
def test_a_simulator_that_is_none_is_told(path: str, told: str) -> None:
    crossbar = dataclasses.replace(_encoder().crossbar, device=Device(simulator=path))
    with pytest.raises(ValueError, match=told):
        foreign_reader(crossbar)
