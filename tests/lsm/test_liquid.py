"""Wiring: counts, tables, reproducibility."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from lsm.liquid import Liquid, build_liquid
from lsm.parameters import LiquidParameters, most_cubic
from lsm.streams import stream

# mean over wirings of the published construction (analytic), 1,000 and 8,000 neurons, 784 inputs
EXPECTED = {
    1000: ({"ee": 11_029, "ei": 1_380, "ie": 4_141, "ii": 172}, 0.15),
    8000: ({"ee": 117_668, "ei": 14_711, "ie": 44_132, "ii": 1_838}, 0.05),
}


def _liquid(seed: int = 0, n_in: int = 784, **values: object) -> Liquid:
    return build_liquid(LiquidParameters(**values), n_in, stream(seed, "wiring"))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", EXPECTED)
def test_synapse_counts_are_those_of_the_paper(n: int) -> None:
    expected, tolerance = EXPECTED[n]
    counts = _liquid(n_neurons=n).synapse_counts()
    assert counts.pop("input") == int(0.15 * n * 784)
    for kind, mean in expected.items():
        # rare classes scatter by more than the tolerance of the common ones; four standard deviations of a count
        assert abs(counts[kind] - mean) < max(tolerance * mean, 4 * np.sqrt(mean)), kind


def test_input_synapses_of_event_cameras_and_their_fan_in() -> None:
    liquid = _liquid(n_in=2312)
    assert liquid.synapse_counts()["input"] == 346_800
    fan_in = np.bincount(_liquid().col[117_600 * -1 :], minlength=1000)
    assert fan_in.mean() == pytest.approx(117.6) and 8 < fan_in.std() < 12


def test_tables_by_sender_and_by_target_hold_the_same_synapses() -> None:
    liquid = _liquid(n_neurons=60, n_in=20)
    pre, post = liquid.pre, liquid.col
    by_target = np.repeat(np.arange(liquid.n), np.diff(liquid.col_ptr.astype(int)))
    np.testing.assert_array_equal(post[liquid.csc_pos], by_target)
    np.testing.assert_array_equal(pre[liquid.csc_pos], liquid.csc_pre)
    assert sorted(liquid.csc_pos) == list(range(liquid.n_synapses))
    for i in (0, 33, 59):
        senders = liquid.csc_pre[int(liquid.col_ptr[i]) : int(liquid.col_ptr[i + 1])]
        assert np.sum(senders < liquid.n_exc) == liquid.col_exc[i] - liquid.col_ptr[i]
        assert np.sum(senders < liquid.n) == liquid.col_liquid[i] - liquid.col_ptr[i]


def test_no_neuron_projects_to_itself_and_no_pair_twice() -> None:
    liquid = _liquid()
    assert not np.any(liquid.pre == liquid.col)
    assert len(np.unique(liquid.pre * 10_000 + liquid.col)) == liquid.n_synapses


def test_signs_follow_the_sender_and_inputs_toss_a_coin() -> None:
    liquid = _liquid()
    part = liquid.classes()
    assert set(liquid.w_start[part["excitatory"]]) == {3.0} and set(liquid.w_start[part["inhibitory"]]) == {-3.0}
    assert abs(liquid.w_start[part["input"]].mean()) < 3 * 4 / np.sqrt(117_600)
    assert set(np.abs(liquid.w_start[part["input"]])) == {3.0}


def test_every_site_of_the_lattice_holds_one_neuron() -> None:
    liquid = _liquid(n_neurons=150, lattice=(6, 5, 5), n_in=10)
    assert len(np.unique(liquid.positions, axis=0)) == 150
    assert tuple(liquid.positions.max(axis=0)) == (5, 4, 4)


def test_same_seed_same_wiring_other_seed_another() -> None:
    a, b, c = _liquid(seed=0), _liquid(seed=0), _liquid(seed=1)
    np.testing.assert_array_equal(a.col, b.col)
    np.testing.assert_array_equal(a.w_start, b.w_start)
    assert not np.array_equal(a.positions, c.positions)


def test_learning_rule_does_not_change_the_wiring() -> None:
    a, b = _liquid(learning="none", w_start=0.9), _liquid()
    np.testing.assert_array_equal(a.col, b.col)
    np.testing.assert_array_equal(np.sign(a.w_start), np.sign(b.w_start))


def test_astrocyte_senses_the_stated_share_of_liquid_and_inputs() -> None:
    sensed = _liquid(astro_density=0.25, n_neurons=30, n_in=9).sensed
    assert sensed[:30].sum() == 8 and sensed[30:].sum() == 3  # ceil of 7.5 and of 2.25


@pytest.mark.parametrize(("n", "shape"), [(1000, (10, 10, 10)), (8000, (20, 20, 20)), (150, (5, 5, 6)), (7, (1, 1, 7))])
def test_lattice_defaults_to_the_most_cubic_one(n: int, shape: tuple[int, int, int]) -> None:
    assert most_cubic(n) == shape


def test_trace_decay_is_the_grid_point_of_the_original() -> None:
    assert LiquidParameters().trace_decay == 0.9047744744744745


@pytest.mark.parametrize(
    "bad",
    [{"w_astro": -1.0}, {"n_neurons": 1}, {"lattice": (10, 10, 9)}, {"w_start": 4.0}, {"learning": "hebb"}, {"n": 10}],
)
def test_bad_parameters_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LiquidParameters(**bad)  # type: ignore[arg-type]
