import numpy as np
import pytest
from pydantic import ValidationError

from lsm.datasets.digits import Digits, enlarge


def load(seed=0, **options):
    return Digits(**options).load(None, seed)


def test_the_digits_are_split_and_shaped_as_documented():
    data = load()
    assert (len(data.train), len(data.valid), len(data.test)) == (1197, 300, 300)
    assert data.n_in == 784
    for split in (data.train, data.valid, data.test):
        counts = np.bincount(split.labels)
        assert counts.min() > 0.09 * len(split)
        assert counts.max() < 0.11 * len(split)
    names = {n for split in (data.train, data.valid, data.test) for n in split.names}
    assert len(names) == 1797


def test_the_seed_decides_the_split():
    assert load(0).test.names == load(0).test.names != load(1).test.names


def test_every_digit_drives_the_liquid_as_an_mnist_digit_does():
    inputs = load().test.inputs
    p = inputs.pixels * inputs.scale[:, None].astype(np.float64)
    np.testing.assert_allclose(p.sum(axis=1), 19.95, rtol=1e-6)
    assert p.max() <= 1


def test_the_published_rule_can_be_had_and_drives_several_times_harder():
    data = load(events_per_ms=None)
    p = data.train.inputs.pixels * data.train.inputs.scale[:, None]
    assert p.max() == pytest.approx(1, abs=0.05)
    assert data.notes["events_per_ms"] > 60


def test_the_rate_constant_of_a_saved_model_overrides():
    assert Digits().load(None, 0, maximum=0.04).notes["events_per_ms"] == pytest.approx(25)


def test_digits_fill_a_box_of_20_with_their_centre_of_mass_in_the_middle():
    scan = np.zeros((1, 8, 8))
    scan[0, :, 0:4] = 16  # a bar at the left edge, full height
    image = enlarge(scan)[0].astype(float)
    assert image.shape == (28, 28)
    assert image.max() == 255
    assert (np.flatnonzero(image.any(axis=1))[[0, -1]] == [4, 23]).all()
    centre = (image.sum(axis=0) * np.arange(28)).sum() / image.sum()
    assert centre == pytest.approx(
        13.5, abs=1.6
    )  # the shift stops at the edge of the frame, as a 4-pixel border allows


def test_subsets_and_their_limits():
    assert np.bincount(load(n_train=50).train.labels).tolist() == [5] * 10
    with pytest.raises(ValueError, match=r"data\.n_test=301: only 300"):
        load(n_test=301)
    with pytest.raises(ValidationError):
        Digits(events_per_ms=0.0)
