"""What the liquid sees: crop, polarity, bins, time-normalised sounds, rate-coded images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lsm.encode import Events, Rates
from lsm.rram.encoder import dense
from lsm.rram.parameters import RramParameters
from lsm.rram.view import channel_counts, step_ms, steps_for
from tests.staged import DATA

CAMERA = {"kind": "events", "height": 34, "width": 34, "polarities": 2, "n_steps": 300}
SOUND = {"kind": "ntidigits", "n_channels": 64, "n_steps": 900}


def _channel(p: int, y: int, x: int) -> int:
    return (p * 34 + y) * 34 + x


def _camera(events: list[tuple[int, int, int, int]]) -> Events:
    """One recording from (ms, polarity, y, x)."""
    steps, channels = [e[0] for e in events], [_channel(*e[1:]) for e in events]
    return Events.from_lists([np.array(steps)], [np.array(channels)], 2 * 34 * 34, 300)


def _view(encoding: dict, inputs: Events | Rates, **values) -> Events:
    return steps_for(encoding, RramParameters(**values).for_data(encoding), inputs)


def test_recordings_of_nmnist_are_cropped_to_rows_and_columns_9_to_24_of_one_polarity() -> None:
    events = [(0, 0, y, x) for y in range(34) for x in range(34)] + [(0, 1, 12, 12)]
    seen = _view(CAMERA, _camera(events))
    assert (seen.n_in, seen.n_steps) == (256, 50)
    np.testing.assert_array_equal(seen.packed, np.arange(256))
    corner = _view(CAMERA, _camera([(0, 0, 9, 9), (0, 0, 8, 9), (0, 0, 24, 24), (0, 0, 25, 24), (0, 0, 9, 10)]))
    np.testing.assert_array_equal(corner.packed & 0xFFFF, [0, 1, 255])


def test_bins_of_6_ms_are_filled_or_not() -> None:
    seen = _view(CAMERA, _camera([(0, 0, 9, 9), (5, 0, 9, 9), (6, 0, 9, 9), (299, 0, 9, 9)]))
    np.testing.assert_array_equal(seen.packed >> 16, [0, 1, 49])
    five = _view(CAMERA, _camera([(0, 0, 9, 9), (5, 0, 9, 9), (249, 0, 9, 9), (250, 0, 9, 9)]), bin_ms=5.0)
    np.testing.assert_array_equal(five.packed >> 16, [0, 1, 49])


def test_polarity_and_crop_can_be_chosen() -> None:
    recording = _camera([(0, 0, 9, 9), (0, 1, 9, 9), (0, 1, 0, 33)])
    np.testing.assert_array_equal(_view(CAMERA, recording, polarity=1).packed, [0])
    both = _view(CAMERA, recording, polarity="both")
    assert both.n_in == 512 and both.packed.tolist() == [0, 256]
    whole = _view(CAMERA, recording, polarity=1, crop=0)
    assert whole.n_in == 34 * 34 and whole.packed.tolist() == [33, 9 * 34 + 9]
    with pytest.raises(ValueError, match=r"model.crop=35: the sensor has 34 x 34 pixels"):
        _view(CAMERA, recording, crop=35)


def test_other_cameras_are_seen_whole() -> None:
    other = {"kind": "events", "height": 10, "width": 12, "polarities": 2, "n_steps": 300}
    events = Events.from_lists([np.array([7])], [np.array([119])], 240, 300)
    seen = _view(other, events)
    assert seen.n_in == 120 and seen.packed.tolist() == [1 << 16 | 119]


def _published_chunks(raster: np.ndarray, ts: int) -> np.ndarray:
    """As the published code: torch.chunk along time, OR within a chunk, zeros on the right."""
    parts = torch.chunk(torch.from_numpy(raster), ts, dim=0)
    filled = torch.stack([part.any(dim=0) for part in parts])
    return np.vstack([filled.numpy(), np.zeros((ts - len(filled), raster.shape[1]), bool)])


@pytest.mark.parametrize(
    ("last_ms", "bin_ms", "steps"),
    [(ms, 1, 129) for ms in (5, 127, 128, 129, 257, 500, 899)]
    + [(ms, 10, 90) for ms in (5, 499, 889, 899, 1234, 2005)],
)
def test_sounds_are_squeezed_as_by_torch_chunk(last_ms: int, bin_ms: int, steps: int) -> None:
    rng = np.random.default_rng(last_ms)
    t_ms = np.sort(np.append(rng.uniform(0, last_ms, 2 * last_ms), last_ms + 0.3))
    ms, channels = t_ms.astype(int), rng.integers(0, 64, len(t_ms))
    raster = np.zeros((int(np.ceil(t_ms.max() / bin_ms)) + 1, 64), bool)  # as published: ceil(max t) + 1
    raster[ms // bin_ms, channels] = True
    events = Events.from_lists([ms], [channels], 64, 2100)
    own = {} if bin_ms == 1 else {"time": "normalised", "bin_ms": float(bin_ms), "steps": steps}
    seen = _view(SOUND, events, **own)
    np.testing.assert_array_equal(dense(seen, 0, 1, steps)[0], _published_chunks(raster, steps))


def test_an_empty_sound_stays_empty() -> None:
    nothing = Events.from_lists([np.zeros(0, int)], [np.zeros(0, int)], 64, 900)
    assert len(_view(SOUND, nothing).packed) == 0


def test_sounds_can_be_seen_in_bins_of_ms_instead() -> None:
    events = Events.from_lists([np.array([0, 9, 10, 800])], [np.array([1, 1, 1, 1])], 64, 900)
    seen = _view(SOUND, events, time="bins", bin_ms=10.0, steps=90)
    np.testing.assert_array_equal(seen.packed >> 16, [0, 1, 80])


def test_bins_of_the_set_itself_stay_as_they_are() -> None:
    for encoding, n_in, n_bins in (
        ({"kind": "handwriting", "n_channels": 192, "n_steps": 201, "step_ms": 10}, 192, 201),
        ({"kind": "emnist", "height": 28, "width": 28, "n_steps": 50}, 784, 50),
    ):
        events = Events.from_lists([np.array([0, 1, n_bins - 1])], [np.array([3, 3, n_in - 1])], n_in, n_bins)
        seen = _view(encoding, events)
        assert (seen.n_in, seen.n_steps) == (n_in, n_bins)
        np.testing.assert_array_equal(seen.packed, events.packed)
    wider = _view({"kind": "handwriting", "n_channels": 192, "n_steps": 201, "step_ms": 10},
                  Events.from_lists([np.array([0, 1, 2])], [np.array([3, 3, 3])], 192, 201), bin_ms=20.0)  # fmt: skip
    np.testing.assert_array_equal(wider.packed >> 16, [0, 1])


def test_images_spike_at_random_as_bright_as_they_are() -> None:
    """Chance max(0, 2 g - 1) 20 / 50 a step: 0.4 for white, nothing up to mid-grey."""
    grey = np.array([0, 100, 127, 160, 191, 255], np.uint8)
    images = Rates(np.tile(grey, (400, 1)), np.ones(400, np.float32))
    encoding = {"kind": "images", "height": 2, "width": 3}
    counts = channel_counts(_view(encoding, images))
    chance = np.maximum(2 * grey.astype(float) / 255 - 1, 0) * 20 / 50
    deviation = np.sqrt(50 * chance * (1 - chance) / 400)
    assert np.all(np.abs(counts.mean(axis=0) - 50 * chance) <= 4 * deviation)
    assert not counts[:, :3].any() and counts[:, 5].mean() == pytest.approx(20, abs=0.7)
    assert counts[:, 5].var() == pytest.approx(50 * 0.4 * 0.6, rel=0.25), "each image has a random field of its own"


def test_the_rate_code_follows_seed_and_part_alone() -> None:
    images = Rates(np.full((30, 9), 220, np.uint8), np.ones(30, np.float32))
    encoding = {"kind": "images", "height": 3, "width": 3}
    parameters = RramParameters().for_data(encoding)
    views = [
        steps_for(encoding, parameters, images, seed=s, part=p) for s, p in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    ]
    np.testing.assert_array_equal(views[0].packed, views[1].packed)
    assert not any(np.array_equal(views[0].packed, other.packed) for other in views[2:])


def test_steps_have_a_length_only_where_time_is_not_squeezed() -> None:
    parameters = RramParameters()
    assert step_ms(CAMERA, parameters) == 6 and step_ms(CAMERA, dataclasses.replace(parameters, bin_ms=5.0)) == 5
    assert step_ms(SOUND, parameters) is None and step_ms({"kind": "images"}, parameters) is None
    assert step_ms({"kind": "handwriting", "step_ms": 10}, parameters) == 10
    assert step_ms(SOUND, dataclasses.replace(parameters, time="bins", bin_ms=10.0)) == 10


def test_channel_counts_are_filled_bins() -> None:
    events = Events.from_lists([np.array([0, 1, 2]), np.array([5])], [np.array([2, 2, 0]), np.array([1])], 3, 10)
    np.testing.assert_array_equal(channel_counts(events), [[1, 0, 2], [0, 1, 0]])


def test_the_crop_of_real_recordings_is_as_full_as_measured() -> None:
    """0.087 +- 0.018 of all bins, on the 1,000 training recordings of the small set (polarity 0)."""
    from lsm.datasets.nmnist import NMnist

    if not (DATA / "n-mnist").is_dir():
        pytest.skip("n-mnist/ is missing in the data folder: set LSMRUN_DATA")
    dataset = NMnist(allow_partial=True, n_valid=10, n_test=10).load(DATA, seed=0)
    seen = _view(dataset.encoding, dataset.train.inputs)  # type: ignore[arg-type]
    density = np.diff(seen.offsets) / (256 * 50)
    assert density.mean() == pytest.approx(0.087, abs=0.002) and density.std() == pytest.approx(0.018, abs=0.002)
