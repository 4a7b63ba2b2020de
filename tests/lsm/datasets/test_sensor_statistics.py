"""What is measured of recordings, on recordings whose answer is known, and simulated against real ones."""

import dataclasses

import numpy as np
import pytest

from lsm.datasets.images import Mnist
from lsm.datasets.nmnist import NMnist
from lsm.datasets.recordings import EVENT
from lsm.datasets.saccade import Camera, path_of_saccades, recordings
from lsm.datasets.sensor_statistics import closeness, distance, fit_camera, measure, track

SMALL = "n-mnist/nmnist-small.zip"


def events(*rows):
    """Rows of x, y, t (us), p."""
    return np.array(list(rows), EVENT)


@pytest.fixture(scope="module")
def drawn():
    """Images of random strokes, and what the camera sees of them."""
    rng = np.random.default_rng(0)
    images = np.zeros((24, 28, 28), np.uint8)
    for image in images:
        for _ in range(3):
            x, y = rng.integers(6, 20, 2)
            image[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = 255
    return images, list(recordings(images, np.arange(24), 0, "train", Camera(), 2))


def test_events_are_counted_by_time_place_polarity_and_interval():
    found = measure([events((1, 2, 0, 0), (1, 2, 900, 0), (1, 2, 5400, 1)), events((3, 2, 999, 1))])
    assert found.counts.tolist() == [3, 1]
    assert found.on_share == 0.5 and found.active_pixels == 1.0
    np.testing.assert_array_equal(found.rate[:, [0, 5]], [[1.0, 0.0], [0.5, 0.5]])
    assert found.maps[0, 2, 1] == 1.0 and found.maps[1, 2, 1] == 0.5 and found.maps[1, 2, 3] == 0.5
    assert found.intervals[0, 3] == 0.5 and found.intervals[2, 18] == 0.5 and found.intervals.sum() == 1.0
    np.testing.assert_array_equal(found.per_pixel[:4], [1155.0, 0.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="no recordings"):
        measure([])


def test_a_set_is_closest_to_itself(drawn):
    one = measure(drawn[1])
    same = closeness(one, one)
    for name, value in same.items():
        if name.startswith(("correlation", "overlap")):
            assert value == pytest.approx(1.0)
    assert distance(one, one) == 0.0
    half = measure([e[: len(e) // 2] for e in drawn[1]])
    assert distance(one, half) > 1.0 and closeness(one, half)["overlap/time_course"] < 0.7


def test_the_place_of_the_image_is_found_from_events_alone(drawn):
    images, seen = drawn
    found = track(seen, images)
    fast = found[:, 3] > 0.3
    assert fast.sum() > 25
    where = path_of_saccades()[np.minimum((found[:, 0] * 2).astype(int), 620)]
    error = found[fast, 1:3] - where[fast]
    assert np.abs(np.median(error, axis=0)).max() < 0.2 and np.abs(error).max() < 0.6  # events come after the motion


def test_fitting_finds_a_camera_that_is_closer(drawn):
    images, seen = drawn
    wrong = dataclasses.replace(Camera(), theta_on=0.35, theta_off=0.15)
    fitted = fit_camera(images[:6], seen[:6], wrong, 25, threads=2)
    near, far = (
        distance(measure(seen[:6]), measure(list(recordings(images[:6], np.arange(6), 0, "fit", camera))))
        for camera in (fitted, wrong)
    )
    assert near < 0.6 * far


def test_simulated_recordings_are_as_close_to_real_ones_of_the_same_images_as_documented(staged, tmp_path):
    """On test recordings, which no constant was measured on; the bounds lie just beyond what docs/results tells."""
    root = staged("mnist", SMALL)
    found = [(r.id, e) for part, r, e in NMnist(path=str(root / SMALL)).events(tmp_path) if part == "Test"]
    shown = Mnist(path=str(root / "mnist"), n_train=10, n_valid=10).load(tmp_path, seed=0).test
    index = np.array([number - 1 for number, _ in found])
    images = shown.inputs.pixels[index].reshape(-1, 28, 28)
    simulated = list(recordings(images, index, 0, "t10k-images", Camera(), 2))
    close = closeness(measure([e for _, e in found]), measure(simulated))
    assert close["simulated/events"] == pytest.approx(close["real/events"], rel=0.05)
    assert close["simulated/events_sd"] == pytest.approx(close["real/events_sd"], rel=0.12)
    assert close["simulated/on_share"] == pytest.approx(close["real/on_share"], abs=0.015)
    assert close["simulated/active_pixels"] == pytest.approx(close["real/active_pixels"], rel=0.1)
    assert close["correlation/events_per_image"] > 0.98
    assert close["correlation/time_course"] > 0.98
    assert min(close["correlation/map_off"], close["correlation/map_on"]) > 0.95
    assert close["overlap/maps"] > 0.9 and close["overlap/time_course"] > 0.93
    assert close["overlap/intervals"] > 0.86 and close["overlap/events_per_pixel"] > 0.88
