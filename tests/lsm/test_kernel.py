"""The time step against recordings of the original classes, closed forms and invariants."""

from __future__ import annotations

import numpy as np
import pytest

from lsm import kernel
from lsm.encode import Events, Rates
from lsm.liquid import Liquid, assemble
from lsm.parameters import LiquidParameters
from lsm.protocol import drive_of
from tests.reference import FOLDER, replay

TOLERANCE = {"V_after_update": 1e-4, "S": 0, "spike_counts": 0, "refr_state": 0}
RECORDINGS = ("mnist_v1_nalsm", "mnist_v1_stdp", "mnist_v1_static", "mnist_v1_apstdp_ini")


@pytest.mark.parametrize("name", RECORDINGS)
def test_replays_the_original_step_by_step(name: str) -> None:
    path = FOLDER / "nalsm" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"recording {name}.npz is missing: set LSMRUN_REFERENCE to the folder that holds nalsm/")
    deviations = replay(path)
    assert len(deviations) >= 4
    too_far = {k: v for k, v in deviations.items() if v > TOLERANCE.get(k.split("_", 1)[1], 1e-5)}
    assert not too_far


def test_reset_traces_and_compact_lists_give_the_recorded_spikes_too() -> None:
    """RUN's fast path (traces reset, lists of active inputs) equals the general path from traces of zero."""
    liquid, parameters, inputs = _random_case(seed=4)
    general = _run(liquid, parameters, inputs, carried=np.zeros((len(inputs), liquid.n + liquid.n_in), np.float32))
    fast = _run(liquid, parameters, inputs)
    assert fast[0].sum() > 100
    np.testing.assert_array_equal(fast[0], general[0])


def _random_case(seed: int, n: int = 60, n_in: int = 40, **changes: object) -> tuple[Liquid, LiquidParameters, Rates]:
    rng = np.random.default_rng(seed)
    values = {"n_neurons": n, "input_density": 0.4, "c_ee": 1.0, "c_ie": 1.0, "run_ms": 120, **changes}
    parameters = LiquidParameters(**values)  # type: ignore[arg-type]
    pre, post = np.nonzero(rng.random((n + n_in, n)) < 0.3)
    sign = np.where(pre < parameters.n_excitatory, 1, np.where(pre < n, -1, rng.integers(0, 2, len(pre)) * 2 - 1))
    liquid = assemble(n, parameters.n_excitatory, n_in, np.zeros((n, 3)), pre, post, 3.0 * sign)
    pixels = rng.integers(0, 255, (6, n_in)).astype(np.uint8)
    return liquid, parameters, Rates(pixels, np.full(6, 0.001, np.float32))


def _run(
    liquid: Liquid,
    parameters: LiquidParameters,
    inputs: Rates | Events,
    samples: np.ndarray | None = None,
    carried: np.ndarray | None = None,
    rec: kernel.Recorder | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    net, constants = kernel.net_of(liquid), kernel.constants_of(parameters)
    samples = np.arange(len(inputs)) if samples is None else samples
    counts = np.zeros((len(samples), liquid.n), np.uint16)
    stats = np.zeros((len(samples), len(kernel.STATS)))
    mode = kernel.mode_of(parameters) if parameters.learns_in_run else 0
    kernel.run_block(
        net, constants, mode, parameters.run_decay, parameters.run_ms, drive_of(inputs), np.uint64(7), samples, samples,
        liquid.w_start, liquid.w_start.copy(), np.zeros((0, 0), np.float32) if carried is None else carried,
        carried is not None, rec or kernel.recorder(net), counts, stats,
    )  # fmt: skip
    return counts, stats


def _single(events: list[tuple[int, int]], n_in: int, steps: int) -> Events:
    t, c = np.array(events).T
    return Events.from_lists([t], [c], n_in, steps)


def test_potential_follows_the_closed_form_of_one_input_spike() -> None:
    """One spike of weight w through exp(-t/tau_syn) onto a membrane that leaks 1/64 per ms."""
    steps, w, leak = 40, 2.0, 1 - 1 / 64
    liquid = assemble(2, 1, 1, np.zeros((2, 3)), np.array([2]), np.array([0]), np.array([w]))
    parameters = LiquidParameters(n_neurons=2, learning="none", run_ms=steps)
    rec = kernel.recorder(kernel.net_of(liquid), steps, details=True)
    _run(liquid, parameters, _single([(0, 0)], 1, steps), rec=rec)
    expected = [sum(w * np.exp(-k) * leak ** (t - 1 - k) for k in range(t)) for t in range(steps)]
    np.testing.assert_allclose(rec.potential[:, 0], expected, atol=2e-6)
    assert not rec.potential[:, 1].any()


def test_refractory_period_limits_liquid_and_input_neurons_to_one_spike_in_three_ms() -> None:
    steps = 90
    liquid = assemble(2, 1, 1, np.zeros((2, 3)), np.array([2]), np.array([0]), np.array([90.0]))
    parameters = LiquidParameters(n_neurons=2, learning="none", run_ms=steps)
    rec = kernel.recorder(kernel.net_of(liquid), steps)
    _run(liquid, parameters, _single([(t, 0) for t in range(steps)], 1, steps), rec=rec)
    at_input, at_liquid = np.flatnonzero(rec.inputs[:, 0]), np.flatnonzero(rec.spikes[:, 0])
    assert at_input[0] == 1 and at_liquid[0] == 2  # an event charges, one step later the input spikes, then the liquid
    assert set(np.diff(at_input)) == {3} and set(np.diff(at_liquid)) == {3}


def test_event_during_the_refractory_time_fires_at_its_end() -> None:
    liquid = assemble(2, 1, 1, np.zeros((2, 3)), np.array([2]), np.array([0]), np.array([1.0]))
    rec = kernel.recorder(kernel.net_of(liquid), 12)
    parameters = LiquidParameters(n_neurons=2, learning="none", run_ms=12)
    _run(liquid, parameters, _single([(0, 0), (2, 0), (9, 0)], 1, 12), rec=rec)
    assert list(np.flatnonzero(rec.inputs[:, 0])) == [1, 4, 10]


# Neuron 0 and 1 are excitatory, 2 is inhibitory; channel 0 drives neuron 0, 1 drives 1, 2 drives 2, 3 only touches 1.
PAIRS = {"excitatory": (0, 0, 1), "inhibitory": (2, 2, -1), "input": (6, 3, 1)}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("lag", [1, 4, 0, -1, -5])
def test_one_spike_pair_changes_a_weight_by_the_closed_form(kind: str, lag: int) -> None:
    """Pre-before-post by `lag` ms: eta (or A) x 0.1 x decay^lag; at equal times nothing, since the traces are older."""
    sender, channel, sign = PAIRS[kind]
    pre, post = np.array([3, 4, 5, sender]), np.array([0, 1, 2, 1])
    start = 1.0 * sign
    liquid = assemble(3, 2, 4, np.zeros((3, 3)), pre, post, np.array([22.0, 22.0, 22.0, start]))
    parameters = LiquidParameters(n_neurons=3, learning="stdp", w_max=100.0, eta=0.15)
    extra = 1 if kind == "input" else 0  # an input neuron spikes one step before the liquid neuron it would drive
    at_post = 10
    events = _single([(at_post, 1), (at_post - lag + extra, channel)], 4, 40)
    rec = kernel.recorder(kernel.net_of(liquid), 40)
    weights = liquid.w_start.copy()
    kernel.init_block(
        kernel.net_of(liquid), kernel.constants_of(parameters), 1, 40, drive_of(events), np.uint64(0), np.array([0]),
        np.array([0]), np.array([0]), weights, np.zeros(7, np.float32), np.zeros(3, np.float32), True, rec,
        np.zeros((1, len(kernel.STATS))),
    )  # fmt: skip
    assert rec.spikes[:, 1].sum() == 1
    where = int(np.flatnonzero((liquid.pre == sender) & (liquid.col == 1))[0])
    pair = 0.15 * 0.1 * parameters.trace_decay ** abs(lag)
    expected = 0.0 if lag == 0 else pair * (1 if lag > 0 else -1) * (1 if kind != "inhibitory" else -1)
    assert weights[where] - start == pytest.approx(expected, abs=2e-7)
    if kind == "excitatory" and lag == 1:
        assert expected == pytest.approx(0.0136, abs=5e-5)


def test_astrocyte_relaxes_exponentially_to_its_bias_without_spikes() -> None:
    liquid = assemble(2, 1, 1, np.zeros((2, 3)), np.array([2]), np.array([0]), np.array([1.0]))
    parameters = LiquidParameters(n_neurons=2, eta=0.15, astro_bias=0.4, run_ms=200, run_decay=1.0)
    rec = kernel.recorder(kernel.net_of(liquid), 200)
    _run(liquid, parameters, _single([(199, 0)], 1, 200), rec=rec)
    expected = 0.4 + (0.15 - 0.4) * 0.99 ** np.arange(1, 201)
    np.testing.assert_allclose(rec.scalars[:, 0], expected, atol=1e-12)


def test_astrocyte_balance_is_kept_while_plasticity_fades() -> None:
    liquid = assemble(2, 1, 1, np.zeros((2, 3)), np.array([2]), np.array([0]), np.array([1.0]))
    rec = kernel.recorder(kernel.net_of(liquid), 250)
    _run(liquid, LiquidParameters(n_neurons=2), _single([(249, 0)], 1, 250), rec=rec)
    eta = rec.scalars[:, 4]
    np.testing.assert_allclose(rec.scalars[:, 1] / eta, 1, rtol=1e-12)
    np.testing.assert_allclose(eta[[49, 99, 249]], [0.091, 0.055, 0.012], atol=5e-4)


def test_astrocyte_floor_keeps_depression_from_turning_into_potentiation() -> None:
    events = _single([(t, c) for t in range(100) for c in range(30)], 30, 100)  # inputs far outnumber the liquid
    liquid = assemble(2, 1, 30, np.zeros((2, 3)), np.array([2]), np.array([0]), np.array([0.1]))
    levels = {}
    for floor in (False, True):
        parameters = LiquidParameters(n_neurons=2, w_astro=0.5, astro_floor=floor, run_ms=100)
        rec = kernel.recorder(kernel.net_of(liquid), 100)
        _, stats = _run(liquid, parameters, events, rec=rec)
        levels[floor] = (rec.scalars[:, 1].min(), stats[0, kernel.STATS.index("astrocyte_negative_steps")])
    assert levels[False][0] < -0.1 and levels[False][1] > 50
    assert levels[True] == (0.0, 0)


@pytest.mark.parametrize("learning", ["stdp", "astro_stdp", "ap_stdp"])
def test_weights_stay_within_bounds_and_keep_their_sign(learning: str) -> None:
    liquid, parameters, inputs = _random_case(seed=1, learning=learning, eta=2.0)
    weights, before = liquid.w_start.copy(), liquid.w_start.copy()
    n = 30
    kernel.init_block(
        kernel.net_of(liquid), kernel.constants_of(parameters), kernel.mode_of(parameters), 50, drive_of(inputs),
        np.uint64(3), np.arange(n) % len(inputs), np.zeros(n, np.int64), np.arange(n), weights,
        np.zeros(liquid.n + liquid.n_in, np.float32), np.zeros(liquid.n, np.float32), True,
        kernel.recorder(kernel.net_of(liquid)), np.zeros((n, len(kernel.STATS))),
    )  # fmt: skip
    part = liquid.classes()
    assert np.abs(weights).max() <= parameters.w_max
    assert weights[part["excitatory"]].min() >= 0 and weights[part["inhibitory"]].max() <= 0
    assert learning == "ap_stdp" or (np.sign(weights[part["input"]]) != np.sign(before[part["input"]])).any()
    assert not np.array_equal(weights, before)


def test_private_weights_come_back_as_they_were() -> None:
    """A sample's plasticity must not leak into the next one: presented twice or after others, it counts the same."""
    liquid, parameters, inputs = _random_case(seed=2)
    forward, _ = _run(liquid, parameters, inputs)
    backward, _ = _run(liquid, parameters, inputs, samples=np.arange(len(inputs))[::-1].copy())
    np.testing.assert_array_equal(forward, backward[::-1])
    assert len({tuple(row) for row in forward}) == len(inputs)


def test_counted_events_are_those_that_are_presented() -> None:
    """Every input event reaches its channel: with no refractory time each charges one spike a step later."""
    liquid, parameters, inputs = _random_case(seed=3, t_ref_ms=0, learning="none")
    rec = kernel.recorder(kernel.net_of(liquid), parameters.run_ms)
    _run(liquid, parameters, inputs, samples=np.array([2]), rec=rec)
    counts = np.zeros((1, liquid.n_in), np.uint16)
    kernel.count_events(drive_of(inputs), parameters.run_ms - 1, np.uint64(7), np.array([2]), counts)
    np.testing.assert_array_equal(rec.inputs.sum(axis=0), counts[0])


def test_bernoulli_rate_equals_the_stated_probability() -> None:
    pixels = np.array([[0, 10, 100, 200, 255]], np.uint8)
    counts = np.zeros((1, 5), np.uint16)
    kernel.count_events(
        drive_of(Rates(pixels, np.array([0.005], np.float32))), 40_000, np.uint64(1), np.array([0]), counts
    )
    p = np.minimum(pixels[0] * 0.005, 1)
    assert counts[0, 0] == 0 and counts[0, 3] == 40_000  # a rate at or above 1 is certain
    np.testing.assert_allclose(counts[0] / 40_000, p, atol=4 * np.sqrt(0.25 / 40_000))


def test_an_empty_sample_is_silent_and_finite() -> None:
    liquid, parameters, _ = _random_case(seed=5)
    black = Rates(np.zeros((1, liquid.n_in), np.uint8), np.zeros(1, np.float32))
    counts, stats = _run(liquid, parameters, black)
    assert not counts.any() and np.isfinite(stats).all()
