"""The MATLAB files of N-MNIST as a source of `data=nmnist`."""

import numpy as np
import pytest
from raw_files import nmnist_members, write_mat_v73, write_tree
from scipy.io import savemat

from lsm.datasets import nmnist
from lsm.datasets.nmnist import NMnist, PartialDataError
from lsm.datasets.nmnist_mat import FILES


def arrays(n, n_bins=5, seed=0):
    """Images `(n, 34, 34, 2, n_bins)` with about 20 filled cells each, one-hot labels: recording k shows k % 10."""
    images = (np.random.default_rng(seed).random((n, 34, 34, 2, n_bins)) < 20 / (34 * 34 * 2 * n_bins)).astype(np.uint8)
    images[:, 3, 7, 1, 2] = 2  # a count above 1
    return {"image": images, "label": np.eye(10)[np.arange(n) % 10]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(nmnist, "COMPLETE", {"Train": 60, "Test": 20})
    monkeypatch.setattr(nmnist, "LAST_TRAIN_ID", 50)
    (tmp_path / "n-mnist").mkdir()
    write_mat_v73(tmp_path / "n-mnist" / FILES["Train"], arrays(60), chunks=True)
    savemat(tmp_path / "n-mnist" / FILES["Test"], arrays(20, seed=1))
    return tmp_path


def cells(split, k):
    packed = split.inputs.packed[split.inputs.offsets[k] : split.inputs.offsets[k + 1]]
    return {(int(c) >> 16, int(c) & 0xFFFF) for c in packed}


def test_bins_become_steps_and_pixels_the_channels_of_nmnist(folder):
    data = NMnist().load(folder, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [50, 10, 20]
    assert data.encoding["kind"] == "events" and data.n_in == 2312 and data.encoding["n_steps"] == 300
    images = arrays(60)["image"]
    for k in (0, 17, 49):
        expected = {(6 * t, (p * 34 + y) * 34 + x) for y, x, p, t in zip(*np.nonzero(images[k]), strict=True)}
        assert cells(data.train, k) == expected
        assert (12, (34 + 3) * 34 + 7) in expected
    assert cells(data.test, 3) == {
        (6 * t, (p * 34 + y) * 34 + x) for y, x, p, t in zip(*np.nonzero(arrays(20, seed=1)["image"][3]), strict=True)
    }
    assert data.train.labels.tolist() == [k % 10 for k in range(50)] and data.valid.labels[0] == 0


def test_width_of_a_bin_and_length_are_options(folder):
    data = NMnist(mat_bin_ms=5, n_steps=12).load(folder, seed=0)
    assert {t for t, _ in cells(data.train, 0)} == {0, 5, 10}


def test_bin_recordings_come_first_unless_asked_otherwise(folder):
    write_tree(folder / "n-mnist", nmnist_members(60, 20))
    assert NMnist().load(folder, seed=0).train.names[0].endswith(".bin")
    assert NMnist(format="mat").load(folder, seed=0).train.names[0] == "image[0]"
    with pytest.raises(FileNotFoundError, match=r"no NMNIST_train_data\.mat in there"):
        NMnist(format="mat", path=str(folder)).load(folder, seed=0)
    (folder / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no recordings Train/<digit>/<id>\.bin in there"):
        NMnist(format="bin", path=str(folder / "empty")).load(folder, seed=0)


def test_subsets_and_picks_are_read_in_blocks(folder, monkeypatch):
    monkeypatch.setattr("lsm.datasets.matfile.BLOCK_BYTES", 1)
    whole = NMnist().load(folder, seed=0)
    few = NMnist(n_train=10).load(folder, seed=0)
    assert np.bincount(few.train.labels).tolist() == [1] * 10
    for k, name in enumerate(few.train.names):
        assert cells(few.train, k) == cells(whole.train, int(name[6:-1]))
    picked = NMnist().load(folder, seed=0, pick=lambda part, labels: np.flatnonzero(labels == 3)[:2])
    assert picked.train.names == ("image[3]", "image[13]") and picked.valid.names == ("image[53]",)


def test_an_incomplete_set_is_refused_or_split(tmp_path):
    write_mat_v73(tmp_path / FILES["Train"], arrays(40))
    savemat(tmp_path / FILES["Test"], arrays(20))
    with pytest.raises(PartialDataError, match="40 of 60,000 training"):
        NMnist(path=str(tmp_path)).load(tmp_path, seed=0)
    data = NMnist(path=str(tmp_path), allow_partial=True).load(tmp_path, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [30, 10, 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((60, 28, 28, 2, 5), np.uint8)}, r"image has the shape \(60, 28, 28, 2, 5\)"),
        ({"label": np.zeros((60, 10))}, "label of recording 0 is not one-hot"),
        ({"label": np.eye(10)[:5]}, r"label has the shape \(5, 10\), not \(60, 10\)"),
    ],
)
def test_other_arrays_are_told(folder, change, message):
    write_mat_v73(folder / "n-mnist" / FILES["Train"], arrays(60) | change)
    with pytest.raises(ValueError, match=message):
        NMnist().load(folder, seed=0)


def test_bins_are_no_events_for_the_comparison_of_sensors(folder):
    with pytest.raises(ValueError, match="MATLAB files hold bins, not events"):
        next(NMnist().events(folder))
