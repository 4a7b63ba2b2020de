"""`python -m benchmarks` measures what it says: columns, operations and sanity; times themselves are never judged."""

import csv
import importlib.util
import re

import numpy as np
import pytest

from benchmarks import cases, floor, growth, rram, table
from benchmarks.__main__ import main
from lsm import kernel, protocol
from lsm.rram.encoder import build_encoder, encode
from lsm.rram.parameters import RramParameters


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert main(["--quick", "--results", str(folder)]) == 0
    return folder


def rows_of(folder, name):
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_quick_tables_have_the_columns_and_rows_of_the_full_ones(quick):
    assert sorted(path.name for path in quick.iterdir()) == [
        "engine.csv", "growth.png", "growth_fan_in.csv", "growth_neurons.csv", "growth_rate.csv", "md.csv",
        "nalsm.csv", "rram.csv",
    ]  # fmt: skip
    rows = rows_of(quick, "nalsm")
    assert tuple(rows[0]) == table.COLUMNS
    kinds = [(row["what"].split(", ")[0], row["threads"]) for row in rows]
    assert kinds[0] == ("digits: INIT 50000 x 20 ms (first 300", "1")
    assert kinds[1:] == [(f"digits: {m}", t) for m in ("NALSM", "static LSM") for t in "12"]
    for row in rows:
        assert float(row["cpu_ms"]) > 0 and float(row["wall_ms"]) > 0
        assert row["peer"] == "lsmrun" and "numba" in row["versions"] and row["cpu_model"]


def test_steps_of_dynamics_are_split_into_engine_and_all_else(quick):
    rows = rows_of(quick, "md")
    assert [row["what"].split(", ")[1] for row in rows] == ["npt", "nvt", "nve", "npt"]
    assert rows[-1]["size"] == f"2 x {rows[0]['size']} side by side"
    for row in rows:
        share = float(re.findall(r"engine ([\d.]+) % of CPU time", row["what"])[0])
        assert 30 < share < 100 and float(row["cpu_ms"]) > 0 and "ns/day" in row["what"]


def test_rows_of_run_have_a_floor_from_their_operations(quick):
    for row in rows_of(quick, "nalsm")[1:]:
        assert float(row["floor_ms"]) > 0
        per_operation = int(row["bytes"]) / int(row["operations"])
        assert per_operation == pytest.approx(6, abs=0.01) if "static" in row["what"] else 10 < per_operation < 16


def test_growth_ends_with_its_fit_and_a_small_picture(quick):
    for name in ("growth_neurons", "growth_fan_in", "growth_rate"):
        *points, fit = rows_of(quick, name)
        operations = [int(row["operations"]) for row in points]
        assert operations == sorted(operations) and "fit: CPU time ~" in fit["what"]
    assert (quick / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert (quick / "growth.png").stat().st_size < 150_000


def test_fitted_exponent_is_the_power_of_a_power_law():
    assert growth.fitted_exponent([1, 2, 5, 10], [3 * v**1.4 for v in (1, 2, 5, 10)]) == pytest.approx(1.4)


def test_a_missing_data_set_is_a_row_that_says_so(tmp_path):
    from benchmarks.speed import QUICK, speed_rows

    (row,) = speed_rows(tmp_path, ("mnist",), QUICK, floor.Cost(1, 1, 1))
    assert row["versions"] == "missing: no folder mnist in the data folder" and row["cpu_ms"] == ""
    (tmp_path / "mnist").mkdir()
    (row,) = speed_rows(tmp_path, ("mnist",), QUICK, floor.Cost(1, 1, 1))
    assert "missing" in row["versions"] and "train-images" in row["versions"]


def test_floor_is_operations_times_cost():
    stats = np.zeros((2, len(kernel.STATS)))
    stats[:, kernel.STATS.index("propagations")] = (100, 300)
    stats[:, kernel.STATS.index("plastic_updates")] = (150, 450)
    cost = floor.Cost(row=2.0, column=5.0, static=1.0)
    assert floor.floor_of(stats, True, cost) == (300, 200 * 10 + 100 * 16, pytest.approx(1e-6 * (200 * 2 + 100 * 5)))
    assert floor.floor_of(stats, False, cost) == (200, 1200, pytest.approx(1e-6 * 200))


def test_init_goes_on_where_the_burn_in_left_it(tmp_path):
    """Snippets that are timed one block after another are those of one long INIT."""
    data = cases.load("digits", tmp_path)
    stepwise = cases.prepare(data, cases.nalsm(64), 40)
    stepwise.advance(20)
    whole = cases.prepare(data, cases.nalsm(64), 60)
    np.testing.assert_array_equal(stepwise.weights, whole.weights)
    assert stepwise.state.done == 60 and stepwise.init.cpu_ms > 0
    counts = protocol.spike_counts(whole.liquid, whole.parameters, whole.weights, data.test, 0, "test").counts
    assert counts.any()


def test_the_random_liquid_is_timed_with_ideal_and_noisy_devices(quick):
    rows = rows_of(quick, "rram")
    assert [row["threads"] for row in rows] == ["1", "2", "1", "2"] and tuple(rows[0]) == table.COLUMNS
    assert [("ideal" in row["what"], "chip_like" in row["what"]) for row in rows] == [(True, False)] * 2 + [
        (False, True)
    ] * 2
    for row in rows:
        assert "encode 500 samples" in row["what"] and row["size"] == "n=200, 91200 weights"
        assert float(row["cpu_ms"]) > 0 and 50 * 91_200 > int(row["operations"]) > 50_000


def test_samples_of_the_random_liquid_are_as_dense_as_recordings(tmp_path):
    what, steps = rram.samples(tmp_path, 1200)  # nothing is there
    assert "0.087" in what and len(steps) == 1200
    assert len(steps.packed) / (1200 * 50 * 256) == pytest.approx(0.087, rel=0.01)


def test_snntorch_gives_the_same_counts_of_the_random_liquid(tmp_path):
    if importlib.util.find_spec("snntorch") is None:
        pytest.skip("snntorch is missing: pip install 'lsmrun[oracles]'")
    _, steps = rram.samples(tmp_path, 20)
    encoder = build_encoder(RramParameters().for_data({"kind": "nmnist"}), 256, 0)
    answer = rram.time_snntorch(encoder, steps, 1)
    assert np.mean(np.array(answer["counts"]) == encode(encoder, steps).counts) > 0.99
    assert answer["cpu_ms"] > 0 and "snntorch" in answer["versions"]
