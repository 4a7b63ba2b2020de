"""Perturbed inputs: what noise changes, what it keeps, and where it ends."""

from __future__ import annotations

import numpy as np
import pytest

from lsm.encode import Events, Rates, brightest_share, image_rates
from lsm.noise import copies, jittered, noisy_images, shifted


@pytest.fixture
def rates() -> Rates:
    pixels = np.random.default_rng(0).integers(100, 150, (1200, 10, 10)).astype(np.uint8)
    pixels[0] = 0
    return image_rates(pixels, brightest_share(pixels))


@pytest.fixture
def events() -> Events:
    rng = np.random.default_rng(0)
    steps = [rng.integers(40, 60, 200), rng.integers(40, 60, 200), np.array([0, 0, 99])]
    return Events.from_lists(steps, [np.arange(200), np.arange(200), np.array([1, 2, 3])], 200, 100)


def _times(events: Events, sample: int) -> dict[int, int]:
    codes = events.packed[events.offsets[sample] : events.offsets[sample + 1]]
    return dict(zip((codes & 0xFFFF).tolist(), (codes >> 16).tolist(), strict=True))


def test_pixel_noise_has_its_deviation_and_keeps_the_drive(rates: Rates) -> None:
    noisy = noisy_images(rates, 8.0, np.random.default_rng(1))
    difference = noisy.pixels[1:].astype(float) - rates.pixels[1:]
    assert difference.std() == pytest.approx(8, rel=0.02) and abs(difference.mean()) < 0.1
    per_ms = [r.scale * r.pixels.sum(axis=1, dtype=int) for r in (rates, noisy)]
    assert per_ms[1][1:] == pytest.approx(per_ms[0][1:], rel=1e-5) and per_ms[1][0] == 0


def test_strong_noise_is_clipped_not_wrapped(rates: Rates) -> None:
    noisy = noisy_images(rates, 300.0, np.random.default_rng(1)).pixels
    assert (noisy == 0).mean() > 0.3 and (noisy == 255).mean() > 0.3


def test_as_published_the_noisy_set_is_scaled_by_its_own_maximum(rates: Rates) -> None:
    noisy = noisy_images(rates, 50.0, np.random.default_rng(1), own_maximum=True)
    assert float((noisy.pixels * noisy.scale[:, None]).max()) == pytest.approx(1)
    per_ms = noisy.scale * noisy.pixels.sum(axis=1, dtype=int)
    assert np.ptp(per_ms[per_ms > 0]) < 1e-3


def test_a_shift_moves_all_events_of_a_sample_alike(events: Events) -> None:
    moved = shifted(events, 10.0, np.random.default_rng(0))
    by = [{t - _times(events, k)[c] for c, t in _times(moved, k).items()} for k in (0, 1)]
    assert all(len(one) == 1 for one in by) and by[0] != by[1]


def test_jitter_moves_each_event_on_its_own_by_the_given_deviation(events: Events) -> None:
    moved = jittered(events, 5.0, np.random.default_rng(0))
    by = np.array([t - _times(events, 0)[c] for c, t in _times(moved, 0).items()])
    assert by.std() == pytest.approx(5, rel=0.2) and len(np.unique(by)) > 10
    codes = moved.packed[: moved.offsets[1]]
    assert (np.diff(codes.astype(np.int64)) > 0).all()  # packed anew: ascending


def test_events_are_reflected_at_both_ends_and_late_ones_are_dropped(events: Events) -> None:
    for seed in range(20):
        times = _times(jittered(events, 10.0, np.random.default_rng(seed)), 2)
        assert set(times) == {1, 2, 3} and all(0 <= t < 100 for t in times.values())
    cut = shifted(events, 0.0, np.random.default_rng(0), steps=50)
    assert set(_times(cut, 2)) == {1, 2} and max(_times(cut, 0).values()) < 50
    assert len(_times(cut, 0)) == sum(t < 50 for t in _times(events, 0).values())
    one = Events.from_lists([np.array([2])], [np.array([0])], 1, 10)
    reached = {_times(jittered(one, 3.0, np.random.default_rng(s)), 0)[0] for s in range(200)}
    assert reached == set(range(10))


def test_no_noise_changes_nothing(rates: Rates, events: Events) -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(noisy_images(rates, 0.0, rng).pixels, rates.pixels)
    assert np.array_equal(jittered(events, 0.0, rng).packed, events.packed)
    assert np.array_equal(shifted(events, 0.0, rng).offsets, events.offsets)


def test_copies_are_all_the_same_sample(rates: Rates, events: Events) -> None:
    assert (copies(rates, 7, 3).pixels == rates.pixels[7]).all() and len(copies(rates, 7, 3)) == 3
    assert [_times(copies(events, 1, 2), k) for k in (0, 1)] == [_times(events, 1)] * 2
