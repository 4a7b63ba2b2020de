"""A user's conductance map: both layouts, units, and one clear error for everything that is no map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lsm.rram.conductance import GRID_uS, load_map
from lsm.rram.device import Device, draw_pairs

ROWS, N = 3, 2
PLUS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.5]])
MINUS = np.array([[0.5, 0.0], [7.0, 8.0], [0.0, 9.0]])


def _side_by_side() -> np.ndarray:
    return np.stack([PLUS, MINUS], axis=2).reshape(ROWS, 2 * N)


def _saved(path: Path, values: np.ndarray) -> str:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        np.savetxt(path, values, delimiter=",")
    return str(path)


@pytest.mark.parametrize("name", ["map.csv", "map.npy", "stacked.npy"])
@pytest.mark.parametrize(("unit", "scale"), [("uS", 1.0), ("S", 1e-6), ("nS", 1e3)])
def test_maps_are_read_in_both_layouts_and_all_units(tmp_path: Path, name: str, unit: str, scale: float) -> None:
    values = np.stack([PLUS, MINUS]) if "stacked" in name else _side_by_side()
    pairs = load_map(_saved(tmp_path / name, values * scale), unit, ROWS, N, "device.map_input")  # type: ignore[arg-type]
    np.testing.assert_allclose(pairs.plus, PLUS, atol=GRID_uS)
    np.testing.assert_allclose(pairs.minus, MINUS, atol=GRID_uS)


def test_a_larger_map_gives_its_first_rows_and_pairs(tmp_path: Path) -> None:
    pairs = load_map(_saved(tmp_path / "map.csv", _side_by_side()), "uS", 2, 1, "device.map_input")
    np.testing.assert_array_equal(pairs.plus, PLUS[:2, :1])
    np.testing.assert_array_equal(pairs.minus, MINUS[:2, :1])


def test_a_device_takes_its_weights_from_the_maps(tmp_path: Path) -> None:
    path = _saved(tmp_path / "map.npy", _side_by_side())
    device = Device(draw="map", map_input=path, map_recurrent=path)
    for matrix in ("input", "recurrent"):
        pairs = draw_pairs(device, matrix, ROWS, N, seed=5)
        np.testing.assert_array_equal(pairs.plus - pairs.minus, PLUS - MINUS)


def _with(value: float) -> np.ndarray:
    values = _side_by_side()
    values[1, 2] = value
    return values


@pytest.mark.parametrize(
    ("values", "unit", "told"),
    [
        (_with(np.nan), "uS", r"value nan uS at \(1, 2\) is not a number"),
        (_with(np.inf), "uS", r"value inf uS at \(1, 2\) is not a number"),
        (_with(-0.25), "uS", r"value -0.25 uS at \(1, 2\) is negative"),
        (_with(2e4), "uS", r"above 10000 uS; is device.map_unit=uS right"),
        (_side_by_side(), "S", r"value 1 S at \(0, 0\) is above 10000 uS"),
        (_side_by_side() * 1e-6, "uS", r"nothing conducts; is device.map_unit=uS right"),
        (_side_by_side()[:2], "uS", r"2 rows of 2 pairs, the liquid needs 3 rows of 2 pairs"),
        (_side_by_side()[:, :2], "uS", r"3 rows of 1 pairs, the liquid needs 3 rows of 2 pairs"),
        (_side_by_side()[:, :3], "uS", r"shape \(3, 3\), expected \(3, 4\) or \(2, 3, 2\)"),
        (np.zeros((2, 2, 2, 2)), "uS", r"shape \(2, 2, 2, 2\)"),
        (_side_by_side().astype(complex), "uS", "values of type complex128, expected real numbers"),
    ],
)
def test_a_bad_map_is_refused_in_one_line(tmp_path: Path, values: np.ndarray, unit: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        load_map(_saved(tmp_path / "map.npy", values), unit, ROWS, N, "device.map_input")  # type: ignore[arg-type]
    assert str(error.value).startswith("device.map_input=") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [("map.csv", "1,2,3,x\n", "could not convert"), ("map.txt", "1,2", "is a .csv or a .npy file"),
     ("map.npy", "no npy", "map.npy: "), (None, "", "no such file")],
)  # fmt: skip
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, name: str | None, content: str, told: str) -> None:
    path = tmp_path / (name or "missing.csv")
    if name:
        path.write_text(content)
    with pytest.raises(ValueError, match=told) as error:
        load_map(str(path), "uS", ROWS, N, "device.map_recurrent")
    assert str(error.value).startswith("device.map_recurrent=")
