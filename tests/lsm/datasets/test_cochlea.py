"""The simulated cochlea does what its equations say, and its events are like those of the real one."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from lsm.datasets.cochlea import (
    CHANNELS,
    RATE_HZ,
    Cochlea,
    at_level,
    filtered,
    listen,
    recordings,
    responses,
    thresholds_of,
)
from lsm.datasets.cochlea_statistics import measure, percentile_of, read_bs1, table
from lsm.datasets.fsdd import RATE_HZ as SOUND_HZ
from lsm.datasets.fsdd import Fsdd

EXACT = dataclasses.replace(Cochlea(), mismatch=0.0, threshold_noise=0.0)
T = np.arange(4000) / SOUND_HZ  # 0.5 s


def tone(hz, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * hz * T)


def test_channels_fall_by_equal_ratios_and_each_is_tuned_near_its_corner():
    corner = Cochlea().corner_hz
    assert corner[0] == 8000 and corner[-1] == pytest.approx(65)
    np.testing.assert_allclose(corner[1:] / corner[:-1], (65 / 8000) ** (1 / 63))
    assert corner[37] == pytest.approx(480, rel=0.05)  # where a tone of 560 Hz ends in the real recording
    hz = np.geomspace(20, 16_000, 3000)
    gain = np.abs(responses(Cochlea(), hz))
    best = hz[gain.argmax(axis=1)]
    assert (np.diff(best) < 0).all() and (np.abs(best[12:] / corner[12:] - 1) < 0.05).all()
    np.testing.assert_allclose(gain.max(axis=1), (corner / 1000) ** Cochlea().emphasis, rtol=1e-3)


def test_the_first_two_sections_are_the_analog_filters_of_the_docstring():
    cochlea, hz = Cochlea(), np.array([100.0, 1000.0, 5000.0])
    s0, s1 = (1j * hz / corner for corner in cochlea.corner_hz[:2])
    h0, h1 = (1 / (1 + s / cochlea.q + s * s) for s in (s0, s1))
    found = responses(cochlea, hz)
    for k, expected in enumerate((s0 * h0, s1 * h0 * h1)):
        np.testing.assert_allclose(found[k] / found[k, 0], expected / expected[0], rtol=1e-12)


def test_an_octave_above_the_corner_a_tone_is_gone_and_two_below_it_is_still_heard():
    cochlea = Cochlea()
    gain = np.abs(responses(cochlea, cochlea.corner_hz[40] * np.array([0.25, 2.0])))[40]
    peak = (cochlea.corner_hz[40] / 1000) ** cochlea.emphasis
    assert gain[1] < 0.01 * peak and gain[0] > 0.04 * peak


@pytest.mark.parametrize("hz", [250, 1000, 2500])
def test_a_steady_tone_comes_out_of_each_channel_with_the_gain_of_its_filter(hz):
    outputs = filtered(tone(hz), SOUND_HZ, Cochlea())
    middle = outputs[:, RATE_HZ // 5 : RATE_HZ * 2 // 5]
    assert outputs.shape[0] == CHANNELS
    gain = np.abs(responses(Cochlea(), np.array([float(hz)])))[:, 0]
    np.testing.assert_allclose(np.sqrt(2 * (middle**2).mean(axis=1)), gain, rtol=0.01, atol=2e-3)


def test_a_neuron_fires_once_per_cycle_of_a_strong_low_tone():
    best = np.abs(responses(EXACT, np.array([200.0])))[:, 0].argmax()
    slow = dataclasses.replace(EXACT, threshold_ms=0.3)
    times, channels = listen(tone(200), SOUND_HZ, slow, 1)
    of_best = times[channels == best]
    np.testing.assert_allclose(np.diff(of_best[(of_best > 100) & (of_best < 450)]), 5.0, atol=0.02)


def test_intervals_under_a_constant_drive_are_the_time_to_threshold_plus_the_dead_time():
    from lsm.datasets.cochlea import _fire

    outputs, times, channels = np.full((2, 8000), 0.65, np.float32), np.empty(4000), np.empty(4000, np.int64)
    outputs[1] = 0.1  # less than the leak: silent
    n = _fire(outputs, np.array([1.0, 1.0]), 1000 / RATE_HZ, 0.15, 0.5, 0.0, np.uint64(1), times, channels)
    assert (channels[:n] == 0).all()
    assert times[0] == pytest.approx(2.0, abs=1e-5)  # 1.0 / (0.65 - 0.15)
    np.testing.assert_allclose(np.diff(times[:n]), 2.5, atol=1e-4)
    room = _fire(outputs, np.array([1.0, 1.0]), 1000 / RATE_HZ, 0.15, 0.5, 0.0, np.uint64(1), times[:3], channels[:3])
    assert room == n


def test_threshold_noise_spreads_intervals_by_its_share():
    from lsm.datasets.cochlea import _fire

    outputs, times, channels = np.full((1, 400_000), 0.5, np.float32), np.empty(20_000), np.empty(20_000, np.int64)
    n = _fire(outputs, np.array([1.0]), 1000 / RATE_HZ, 0.0, 0.0, 0.1, np.uint64(7), times, channels)
    intervals = np.diff(times[:n])  # mean 2 ms, sd 0.2 ms
    assert intervals.mean() == pytest.approx(2.0, rel=0.01)
    assert intervals.std() == pytest.approx(0.2, rel=0.1)


def test_thresholds_belong_to_the_chip():
    cochlea = Cochlea(mismatch=0.1)
    np.testing.assert_array_equal(thresholds_of(cochlea), thresholds_of(cochlea))
    assert thresholds_of(cochlea).std() / cochlea.threshold_ms == pytest.approx(0.1, rel=0.3)
    assert (thresholds_of(EXACT) == EXACT.threshold_ms).all()


def test_loudness_and_offset_of_a_recording_do_not_matter_and_silence_is_silent():
    sound = tone(700) * np.exp(-T * 8)
    reference = listen(sound, SOUND_HZ, Cochlea(), 5)
    for other in (0.01 * sound, 3 * sound + 0.5):
        times, channels = listen(other, SOUND_HZ, Cochlea(), 5)
        np.testing.assert_array_equal(channels, reference[1])
        np.testing.assert_allclose(times, reference[0], atol=1e-3)
    level = at_level(sound, SOUND_HZ)
    assert max(np.sqrt((level[k : k + 800] ** 2).mean()) for k in range(0, 3200, 50)) == pytest.approx(1, rel=0.02)
    assert len(listen(np.zeros(2000), SOUND_HZ, Cochlea(), 5)[0]) == 0


def test_events_are_in_order_and_no_interval_is_shorter_than_the_dead_time():
    rng = np.random.default_rng(0)
    times, channels = listen(rng.standard_normal(8000), SOUND_HZ, Cochlea(), 3)
    assert len(times) > 4096 and (np.diff(times) >= 0).all() and times.min() >= 0
    assert min(np.diff(times[channels == k]).min() for k in range(5, 25)) >= Cochlea().refractory_ms


def test_name_and_seed_fix_a_recording_for_any_number_of_threads():
    sounds = [tone(f) for f in (300, 600, 900)]
    names = ["a", "b", "c"]
    one = list(recordings(sounds, SOUND_HZ, names, 0, Cochlea(), threads=1))
    two = list(recordings(sounds[::-1], SOUND_HZ, names[::-1], 0, Cochlea(), threads=2))[::-1]
    for (t1, c1), (t2, c2) in zip(one, two, strict=True):
        np.testing.assert_array_equal(t1, t2)
        np.testing.assert_array_equal(c1, c2)
    other = next(iter(recordings(sounds, SOUND_HZ, names, 1, Cochlea())))
    assert not np.array_equal(one[0][0][:100], other[0][:100])


def test_bad_constants_and_sounds_are_refused():
    for wrong in ({"q": 0.4}, {"leak": -1.0}, {"threshold_ms": 0.0}, {"lowest_hz": 9000.0}, {"mismatch": 1.0}):
        with pytest.raises(ValidationError):
            Cochlea(**wrong)
    with pytest.raises(ValueError, match="44100 Hz: the rate must divide 16000 Hz"):
        listen(tone(300), 44_100, Cochlea(), 1)
    with pytest.raises(ValueError, match="empty sound"):
        listen(np.zeros(0), SOUND_HZ, Cochlea(), 1)


def test_the_real_recording_could_be_one_of_the_simulated(staged):
    """What is required to match: see docs/data.md, "Simulated cochlea"."""
    root = staged("fsdd/fsdd-recordings.zip", "n-tidigits/NTIDIGITS_1.bs1")
    real = measure(read_bs1(root / "n-tidigits" / "NTIDIGITS_1.bs1"))
    spoken = Fsdd().sounds(root)[::40]
    simulated = table(list(recordings([s.sound for s in spoken], SOUND_HZ, [s.name for s in spoken], 0, Cochlea())))
    places = percentile_of(real, simulated)
    assert all(5 < place < 95 for place in places.values()), places
    assert np.median(simulated["busiest"]) == pytest.approx(real["busiest"], rel=0.25)
    assert np.median(simulated["active_channels"]) == pytest.approx(real["active_channels"], abs=4)
    assert np.median(simulated["mean_channel"]) == pytest.approx(real["mean_channel"], abs=4)
    per_second = simulated["events"] / np.array([len(s.sound) / SOUND_HZ for s in spoken])
    # Liu et al. 2014: speech makes 10,000 to 100,000 events/s in 512 neurons; we have one of eight
    assert 10_000 / 8 < np.median(per_second) < 100_000 / 8
