"""INIT and RUN: reproducible, resumable, independent of threads and of the order of samples."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lsm import kernel
from lsm.encode import Events, Rates
from lsm.liquid import Liquid, build_liquid
from lsm.parameters import LiquidParameters
from lsm.protocol import InitState, init_schedule, initialise, input_counts, record, run_blocks, spike_counts
from lsm.streams import stream


def _case(**changes: object) -> tuple[Liquid, LiquidParameters, Rates]:
    values = {"n_neurons": 100, "input_density": 0.5, "init_snippets": 1200, "run_ms": 80, **changes}
    parameters = LiquidParameters(**values)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (30, 64)).astype(np.uint8)
    liquid = build_liquid(parameters, 64, stream(1, "wiring"))
    return liquid, parameters, Rates(pixels, np.full(30, 0.0015, np.float32))


def test_interrupted_init_ends_with_the_same_weights_bit_for_bit() -> None:
    liquid, parameters, inputs = _case()
    whole = initialise(liquid, parameters, inputs, seed=3)
    kept: list[InitState] = []
    initialise(liquid, parameters, inputs, seed=3, save=lambda state: kept.append(copy.deepcopy(state)))
    middle = kept[1]
    assert 0 < middle.done < parameters.init_snippets
    resumed = initialise(liquid, parameters, inputs, seed=3, state=middle)
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    assert resumed.course == whole.course and not np.array_equal(whole.weights, liquid.w_start)


def test_init_repeats_permutations_of_a_small_set() -> None:
    _, parameters, inputs = _case(init_snippets=75)
    samples, first = init_schedule(30, inputs, parameters, seed=0)
    assert sorted(samples[:30]) == sorted(samples[30:60]) == list(range(30))
    assert len(samples) == 75 and not first.any() and list(samples[:30]) != list(samples[30:60])


def test_init_windows_of_events_lie_inside_the_recording() -> None:
    events = Events.from_lists([np.array([5])] * 4, [np.array([0])] * 4, n_in=3, n_steps=300)
    _, first = init_schedule(4, events, LiquidParameters(init_snippets=20_000), seed=0)
    assert first.min() == 1 and first.max() == 278


def test_carried_traces_matter_in_init() -> None:
    liquid, parameters, inputs = _case()
    _, reset, _ = _case(init_carries_traces=False)
    carried = initialise(liquid, parameters, inputs, seed=3).weights
    assert not np.allclose(carried, initialise(liquid, reset, inputs, seed=3).weights, atol=0.05)


@pytest.mark.parametrize("learning", ["none", "stdp", "astro_stdp"])
def test_counts_do_not_depend_on_threads_or_block_size(learning: str) -> None:
    liquid, parameters, inputs = _case(learning=learning)
    one = spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "train", threads=1)
    two = spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "train", threads=3)
    np.testing.assert_array_equal(one.counts, two.counts)
    blocks = list(run_blocks(liquid, parameters, liquid.w_start, inputs, 5, "train", start=20, block=7))
    np.testing.assert_array_equal(np.concatenate([b.counts for _, b in blocks]), one.counts[20:])
    assert [s.start for s, _ in blocks] == [20, 27] and one.counts.any()


def test_parts_and_seeds_have_their_own_noise() -> None:
    liquid, parameters, inputs = _case()
    runs = [(5, "train"), (5, "test"), (6, "train"), (5, "train")]
    a, b, c, d = (spike_counts(liquid, parameters, liquid.w_start, inputs, s, p).counts for s, p in runs)
    np.testing.assert_array_equal(a, d)
    assert not np.array_equal(a, b) and not np.array_equal(a, c)


def test_carried_traces_make_a_sample_depend_on_the_one_before_in_its_slot() -> None:
    liquid, parameters, inputs = _case(run_carries_traces=True, run_batch=10)
    _, reset, _ = _case()
    carried = spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "train", threads=2).counts
    plain = spike_counts(liquid, reset, liquid.w_start, inputs, 5, "train").counts
    np.testing.assert_array_equal(carried[:10], plain[:10])  # the first batch starts from traces of zero
    assert not np.array_equal(carried[10:], plain[10:])
    again = spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "train", threads=1).counts
    np.testing.assert_array_equal(carried, again)


@pytest.mark.parametrize("carries", [False, True])
@pytest.mark.parametrize("sample", [0, 17, 29])
def test_recording_shows_the_spikes_that_were_counted(carries: bool, sample: int) -> None:
    liquid, parameters, inputs = _case(run_carries_traces=carries, run_batch=7)
    counted = spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "test")
    recording = record(liquid, parameters, liquid.w_start, inputs, 5, "test", sample)
    np.testing.assert_array_equal(recording.spikes.sum(axis=0), counted.counts[sample])
    column = dict(zip(kernel.STATS, counted.stats[sample], strict=True))
    assert recording.inputs.sum() == column["input_spikes"] and column["plastic_updates"] > 0
    assert recording.eta[-1] == pytest.approx(0.15 * 0.99**80)


def test_threads_without_work_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    liquid, parameters, inputs = _case()
    made: list[int] = []
    monkeypatch.setattr("lsm.protocol.ThreadPoolExecutor", lambda n: made.append(n) or ThreadPoolExecutor(n))
    spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "test", threads=100_000)
    assert made == [4]  # 30 samples, eight to a task


def test_frozen_run_leaves_plasticity_out() -> None:
    liquid, plastic, inputs = _case(learning="stdp")
    _, frozen, _ = _case(learning="stdp", run_plastic=False)
    _, static, _ = _case(learning="none")
    a, b, c = (spike_counts(liquid, p, liquid.w_start, inputs, 5, "test").counts for p in (frozen, static, plastic))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_operations_are_counted_from_the_spikes() -> None:
    liquid, parameters, inputs = _case(learning="none")
    out = spike_counts(liquid, parameters, liquid.w_start, inputs, 5, "test")
    recording = record(liquid, parameters, liquid.w_start, inputs, 5, "test", sample=0)
    fan_out = np.diff(liquid.row_ptr.astype(int))
    spikes = np.concatenate([recording.spikes.sum(axis=0), recording.inputs.sum(axis=0)])
    column = dict(zip(kernel.STATS, out.stats[0], strict=True))
    assert column["propagations"] == np.sum(spikes * fan_out) and column["plastic_updates"] == 0
    assert column["liquid_spikes"] == recording.spikes.sum() and column["input_spikes"] == recording.inputs.sum()


def test_input_counts_are_those_of_the_same_part() -> None:
    _, parameters, inputs = _case()
    a, b = (np.concatenate(list(input_counts(inputs, 80, 5, part, block=7))) for part in ("test", "train"))
    np.testing.assert_array_equal(a, next(input_counts(inputs, 80, 5, "test")))  # however many at a time
    assert a.shape == (30, 64) and a.dtype == np.uint16 and not np.array_equal(a, b)
    expected = 80 * np.minimum(inputs.pixels * inputs.scale[:, None], 1).sum()
    assert abs(int(a.sum()) - expected) < 5 * np.sqrt(expected) and parameters.run_ms == 80


def test_windows_add_up_to_the_counts_of_the_whole_sample() -> None:
    liquid, parameters, inputs = _case(run_ms=82)  # the last window is not longer than the others by rounding alone
    whole = spike_counts(liquid, parameters, liquid.w_start, inputs, 0, "test").counts
    parts = np.concatenate(
        [b.counts for _, b in run_blocks(liquid, parameters, liquid.w_start, inputs, 0, "test", windows=4)]
    ).reshape(len(inputs), 4, liquid.n)
    np.testing.assert_array_equal(parts.sum(axis=1), whole)
    spikes = record(liquid, parameters, liquid.w_start, inputs, 0, "test", 5).spikes
    window = np.arange(82) * 4 // 82
    np.testing.assert_array_equal(parts[5], [spikes[window == k].sum(axis=0) for k in range(4)])
