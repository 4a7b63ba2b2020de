"""The simulated pixel does what a pixel of an event camera does."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from lsm.datasets.recordings import Sensor, read_events, to_bytes
from lsm.datasets.saccade import (
    MARGIN,
    N_STEPS,
    STEP_US,
    Camera,
    look,
    path_of_saccades,
    recordings,
    thresholds_of,
)

IDEAL = Camera(
    mismatch=0.0, threshold_noise=0.0, leak_hz=0.0, noise_hz=0.0, refractory_us=0.0, photoreceptor_us=1.0
)  # fmt: skip
STILL = np.zeros((N_STEPS + 1, 2))
DIGIT = np.zeros((28, 28), np.uint8)
DIGIT[6:22, 12:16] = 255


def moving(dx, dy=0.0, n_steps=200):
    """The image goes evenly from (-dx, -dy) / 2 to (dx, dy) / 2."""
    return np.linspace(-0.5, 0.5, n_steps + 1)[:, None] * [dx, dy]


def test_a_still_image_gives_no_events_without_noise_and_those_of_leak_and_noise_with_it():
    assert len(look(DIGIT, STILL, IDEAL, 1)) == 0
    seconds, n_pixels = N_STEPS * STEP_US * 1e-6, 34 * 34
    blank = np.zeros_like(DIGIT)
    leaky = [look(blank, STILL, dataclasses.replace(IDEAL, leak_hz=2.0), k) for k in range(20)]
    assert np.mean([len(e) for e in leaky]) == pytest.approx(2.0 * seconds * n_pixels, rel=0.03)
    assert all(e["p"].all() for e in leaky)
    noisy = np.concatenate([look(blank, STILL, dataclasses.replace(IDEAL, noise_hz=2.0), k) for k in range(20)])
    assert len(noisy) / 20 == pytest.approx(2 * 2.0 * seconds * n_pixels, rel=0.03)
    assert noisy["p"].mean() == pytest.approx(0.5, abs=0.02)


def test_the_leading_edge_of_dark_ink_is_off_and_the_trailing_edge_on():
    middle = 13.5 + MARGIN
    for axis, sign, path in (("x", 1, moving(3.0)), ("x", -1, moving(-3.0)), ("y", 1, moving(0.0, 3.0))):
        events = look(DIGIT, path, IDEAL, 1)
        ahead = sign * (events[axis] - middle) > 0
        assert (ahead == (events["p"] == 0)).mean() > 0.97  # a pixel that begins next to its threshold may differ


def test_each_threshold_of_log_contrast_that_is_passed_gives_one_event():
    camera = dataclasses.replace(IDEAL, black_level=0.1, theta_on=0.3, theta_off=0.3)
    wide = np.zeros((28, 28), np.uint8)
    wide[:, 14:] = 255  # all dark from column 14 on; 6 px of motion take a pixel from full light to full ink
    events = look(wide, moving(-6.0), camera, 1)
    pixel = events[(events["y"] == 16) & (events["x"] == 14 + MARGIN - 1)]
    assert (pixel["p"] == 0).all()
    expected = np.log(10) / 0.3  # less the phase in which the pixel begins
    assert expected - 2 <= len(pixel) <= expected + 1


def test_halved_thresholds_double_the_events():
    counts = [
        len(look(DIGIT, moving(4.0), dataclasses.replace(IDEAL, theta_on=theta, theta_off=theta), 1))
        for theta in (0.2, 0.1)
    ]
    assert counts[1] / counts[0] == pytest.approx(2.0, rel=0.1)


def test_no_pixel_fires_again_within_its_refractory_time_which_lowers_the_rate():
    dead = dataclasses.replace(IDEAL, theta_on=0.02, theta_off=0.02, refractory_us=5000.0)
    events = look(DIGIT, moving(4.0), dead, 1)
    where = events["y"] * 34 + events["x"]
    order = np.lexsort((events["t"], where))
    same = np.diff(where[order]) == 0
    gaps = np.diff(events["t"][order])[same]
    assert gaps.min() >= 4999  # time stamps are whole us
    per_pixel = np.bincount(where)
    assert per_pixel.max() <= 200 * STEP_US / 5000
    assert len(events) < 0.3 * len(look(DIGIT, moving(4.0), dataclasses.replace(dead, refractory_us=0.0), 1))


def test_a_slow_photoreceptor_delays_and_loses_events():
    fast, slow = (look(DIGIT, moving(4.0), dataclasses.replace(IDEAL, photoreceptor_us=t), 1) for t in (1.0, 20_000.0))
    assert len(slow) < len(fast)
    assert slow["t"].min() > fast["t"].min()


def test_the_image_is_seen_at_its_place_to_a_fraction_of_a_pixel():
    dot = np.zeros((28, 28), np.uint8)
    dot[10, 10] = 255
    for x, y in ((0.0, 0.0), (2.25, -1.5), (-5.5, 5.75)):
        path = np.array([x, y]) + np.linspace(0, 0.1, 201)[:, None]
        sensitive = dataclasses.replace(IDEAL, theta_on=1e-3, theta_off=1e-3, black_level=0.5)
        events = look(dot, path, sensitive, 1)
        off = events[events["p"] == 0]
        # moving by (+, +), the dot darkens what is below and to the right of it and lights up the opposite side
        centre = (events["x"].mean(), events["y"].mean())
        assert centre == pytest.approx((10 + MARGIN + x, 10 + MARGIN + y), abs=0.35)
        assert off["x"].mean() > centre[0] and off["y"].mean() > centre[1]


def test_a_black_image_set_gives_the_noise_of_a_blank_screen_only():
    (events,) = recordings(np.zeros((1, 28, 28), np.uint8), np.array([0]), 0, "train", Camera(noise_hz=0.0))
    expected = Camera().leak_hz * N_STEPS * STEP_US * 1e-6 * 34 * 34
    assert events["p"].all() and len(events) == pytest.approx(expected, rel=0.5)


def test_thresholds_differ_between_pixels_and_belong_to_the_camera_not_to_the_seed():
    first, again = thresholds_of(Camera(mismatch=0.1), 1156), thresholds_of(Camera(mismatch=0.1), 1156)
    np.testing.assert_array_equal(first, again)
    assert first[0].std() / Camera().theta_on == pytest.approx(0.1, rel=0.1)
    assert abs(np.corrcoef(first)[0, 1]) < 0.1


def test_the_saccades_make_a_triangle_in_three_tenths_of_a_second():
    path = path_of_saccades()
    assert N_STEPS * STEP_US == 310_000
    start, second, third, end = path[0], path[2 * 90], path[2 * 215], path[-1]
    assert second[1] - start[1] > 4.5 and start[1] - third[1] == pytest.approx(0, abs=0.5)
    assert third[0] - start[0] > 4.5 and end == pytest.approx(start, abs=0.2)
    late = path_of_saccades(np.array([0.0, 5000.0, 0.0]))
    np.testing.assert_allclose(late[310 + 10], path[310], atol=0.1)
    np.testing.assert_allclose(late[:97], path[:97])


@pytest.mark.parametrize("threads", [1, 2])
def test_seed_and_number_fix_a_recording_whatever_the_threads_and_the_neighbours(threads):
    images = np.stack([DIGIT, DIGIT.T, DIGIT])
    numbers = np.array([5, 9, 7])
    found = list(recordings(images, numbers, 3, "train", Camera(), threads))
    (alone,) = recordings(images[1:2], numbers[1:2], 3, "train", Camera())
    np.testing.assert_array_equal(found[1], alone)
    assert len(found[0]) and not np.array_equal(found[0], found[2])  # the same image, another recording
    (other,) = recordings(images[1:2], numbers[1:2], 4, "train", Camera())
    assert not np.array_equal(alone, other)


def test_events_are_in_order_and_survive_the_file_format():
    (events,) = recordings(DIGIT[None], np.array([0]), 0, "train", Camera())
    data = to_bytes(events)
    assert len(data) == 5 * len(events)
    np.testing.assert_array_equal(read_events(data, "r.bin", Sensor(34, 34, 310)), events)


def test_more_events_than_expected_are_all_kept():
    camera = dataclasses.replace(IDEAL, theta_on=2e-3, theta_off=2e-3)
    events = look(DIGIT, path_of_saccades(), camera, 1)
    assert len(events) > 16_384
    assert (np.diff(events["t"]) >= 0).all()


def test_a_time_that_the_format_does_not_hold_is_refused():
    (events,) = recordings(DIGIT[None], np.array([0]), 0, "train", Camera())
    events["t"][-1] = 1 << 23
    with pytest.raises(ValueError, match=r"8388608 us; the format holds 8388607"):
        to_bytes(events)


def test_a_path_off_the_screen_is_refused():
    with pytest.raises(ValueError, match=r"moves by 7\.0 px; at most 6"):
        look(DIGIT, moving(14.0), IDEAL, 1)


@pytest.mark.parametrize("bad", [{"black_level": 0.0}, {"theta_on": -0.1}, {"refractory_us": -1.0}, {"gain": 2.0}])
def test_bad_constants_are_refused(bad):
    with pytest.raises(ValidationError):
        Camera(**bad)
