import itertools

import numpy as np
import pytest

from lsm.encode import Events, Split, brightest_share, concatenate, image_rates, pack_raster


def unpack(packed):
    return [(int(code) >> 16, int(code) & 0xFFFF) for code in packed]


def test_rates_share_one_total_and_the_brightest_pixel_of_the_set_has_rate_one():
    images = np.random.default_rng(0).integers(0, 256, (20, 7, 5), dtype=np.uint8)
    rates = image_rates(images, brightest_share(images))
    p = rates.pixels * rates.scale[:, None].astype(np.float64)
    np.testing.assert_allclose(p.sum(axis=1), 1 / brightest_share(images), rtol=1e-6)
    assert p.max() == pytest.approx(1, rel=1e-6)
    assert rates.n_in == 35


def test_a_black_image_has_rate_zero_and_does_not_disturb_the_others():
    images = np.zeros((2, 2, 2), np.uint8)
    images[1, 0, 0] = 7
    rates = image_rates(images, brightest_share(images))
    assert rates.scale[0] == 0
    assert rates.scale[1] * 7 == pytest.approx(1)
    assert brightest_share(np.zeros((3, 2, 2), np.uint8)) == 1.0


def test_rates_take_follows_the_index():
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    taken = image_rates(images, 0.5).take(np.array([2, 0]))
    np.testing.assert_array_equal(taken.pixels, images.reshape(3, 4)[[2, 0]])
    assert len(taken) == 2


def test_raster_is_sorted_collapsed_and_cut_to_size():
    packed = pack_raster(np.array([5, 0, 5, 5, 9, -1, 3]), np.array([2, 3, 2, 1, 0, 0, 4]), n_in=4, n_steps=9)
    assert unpack(packed) == [(0, 3), (5, 1), (5, 2)]
    assert packed.dtype == np.uint32


def test_raster_holds_the_last_step_and_channel_of_the_packed_form():
    assert unpack(pack_raster(np.array([65535]), np.array([65535]), 1 << 16, 1 << 16)) == [(65535, 65535)]


@pytest.mark.parametrize(("n_in", "n_steps"), [(65537, 10), (10, 65537), (0, 10), (10, 0)])
def test_raster_that_does_not_fit_is_refused(n_in, n_steps):
    with pytest.raises(ValueError, match=f"{n_in} channels x {n_steps} ms"):
        pack_raster(np.array([0]), np.array([0]), n_in, n_steps)


def test_samples_without_events_keep_their_place():
    empty = np.zeros(0, int)
    events = Events.from_lists([empty, np.array([1, 2]), empty], [empty, np.array([0, 1]), empty], 4, 10)
    assert events.offsets.tolist() == [0, 0, 2, 2]
    assert len(events) == 3
    assert len(Events.from_lists([], [], 4, 10)) == 0


@pytest.mark.parametrize("index", [np.array([2, 0, 2]), slice(1, 3), slice(None, None, -1), np.array([], int)])
def test_events_take_follows_the_index(index):
    samples = [np.array([0, 1]), np.array([3]), np.array([4, 5, 6])]
    events = Events.from_lists(samples, samples, 10, 10)
    taken = events.take(index)
    expected = [samples[k] for k in np.arange(3)[index]]
    assert len(taken) == len(expected)
    for k, sample in enumerate(expected):
        part = taken.packed[taken.offsets[k] : taken.offsets[k + 1]]
        assert unpack(part) == [(int(s), int(s)) for s in sample]


def test_joined_inputs_keep_every_sample() -> None:
    events = Events.from_lists([np.array([1, 2]), np.array([5])], [np.array([0, 1]), np.array([2])], 3, 10)
    joined = concatenate([events.take(slice(1, 2)), events])
    assert [joined.packed[a:b].tolist() for a, b in itertools.pairwise(joined.offsets)] == [
        [5 << 16 | 2],
        [1 << 16, 2 << 16 | 1],
        [5 << 16 | 2],
    ]
    rates = image_rates(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), 0.5)
    np.testing.assert_array_equal(concatenate([rates, rates]).scale, np.tile(rates.scale, 2))
    with pytest.raises(ValueError, match="cannot join"):
        concatenate([rates, events])


def test_a_split_keeps_samples_labels_and_names_together():
    events = Events.from_lists([np.array([k]) for k in range(4)], [np.array([1])] * 4, 2, 5)
    taken = Split(events, np.array([5, 6, 7, 8]), tuple("abcd")).take(np.array([3, 0]))
    assert unpack(taken.inputs.packed) == [(3, 1), (0, 1)]
    assert taken.labels.tolist() == [8, 5] and taken.names == ("d", "a")
    assert Split(events, np.arange(4)).take(np.array([2])).names == ()
