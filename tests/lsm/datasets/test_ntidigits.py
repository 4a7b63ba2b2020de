"""N-TIDIGITS from small files in the official layout, through our reader and through tonic's."""

import hashlib

import h5py
import numpy as np
import pytest
from raw_files import write_ntidigits

from lsm.datasets.fetch import ChecksumError, DownloadError
from lsm.datasets.ntidigits import CLASSES, NTidigits

IDS = {
    "train": [f"man-{a}{k}-{c}" for k in range(10) for a in "ab" for c in CLASSES] + ["man-aa-12", "woman-ab-z5o"],
    "test": [f"woman-c{k}-{c}" for k in range(3) for c in CLASSES] + ["woman-ca-314"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "n-tidigits").mkdir()
    write_ntidigits(folder / "n-tidigits" / "n-tidigits.hdf5", IDS)
    return folder


def load(root, seed=0, **options):
    return NTidigits(**({"verify": False} | options)).load(root, seed=seed)


def test_single_digits_alone_are_read_in_eleven_classes(root):
    data = load(root)
    assert data.class_names == ("z", "1", "2", "3", "4", "5", "6", "7", "8", "9", "o") and data.n_in == 64
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [198, 22, 33]
    for split in (data.train, data.valid, data.test):
        assert [CLASSES[c] for c in split.labels] == [name.rpartition("-")[2] for name in split.names]
    assert np.bincount(data.valid.labels).tolist() == [2] * 11
    assert set(data.train.names) | set(data.valid.names) == set(IDS["train"][:-2])
    assert not set(data.train.names) & set(data.valid.names)
    assert data.notes["found_train"] == 220 and data.notes["found_test"] == 33


def test_events_land_in_the_step_of_their_ms_and_the_raster_is_as_wide_as_the_original(tmp_path):
    written = write_ntidigits(tmp_path / "n-tidigits.hdf5", IDS)
    data = load(tmp_path, path=str(tmp_path))
    longest = 0
    for split in (data.train, data.test):
        for k, name in enumerate(split.names):
            times, channels = written[name]
            expected = sorted({(int(t * 1000), int(c)) for t, c in zip(times, channels, strict=True)})
            packed = split.inputs.packed[split.inputs.offsets[k] : split.inputs.offsets[k + 1]]
            assert [(int(c) >> 16, int(c) & 0xFFFF) for c in packed] == expected
    longest = max(times.max() for times, _ in written.values() if len(times)) * 1000
    single = max(written[n][0].max() for part in IDS for n in IDS[part] if n.rpartition("-")[2] in CLASSES) * 1000
    assert data.encoding == {"kind": "ntidigits", "n_channels": 64, "n_steps": int(np.ceil(single)) + 1}
    assert longest >= single


def test_tonic_reads_the_same(root):
    ours, theirs = load(root), load(root, reader="tonic")
    for part in ("train", "valid", "test"):
        a, b = getattr(ours, part), getattr(theirs, part)
        assert a.names == b.names
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_array_equal(a.inputs.packed, b.inputs.packed)
        np.testing.assert_array_equal(a.inputs.offsets, b.inputs.offsets)


def test_the_seed_draws_the_validation_part_and_nothing_else(root):
    first, same, other = load(root), load(root), load(root, seed=1)
    assert first.valid.names == same.valid.names != other.valid.names
    assert first.test.names == other.test.names == tuple(IDS["test"][:-1])
    none = load(root, valid_fraction=0.0)
    assert len(none.valid) == 0 and none.train.names == tuple(IDS["train"][:-2])


def test_subsets_and_a_shorter_raster(root):
    data = load(root, n_train=22, n_test=11, n_steps=100)
    assert np.bincount(data.train.labels).tolist() == [2] * 11 and len(data.test) == 11
    assert data.encoding["n_steps"] == 100 and data.train.inputs.packed.max() >> 16 < 100


def test_the_checksum_is_that_of_tonic(root):
    from tonic.datasets import NTIDIGITS18

    data = (root / "n-tidigits" / "n-tidigits.hdf5").read_bytes()
    with pytest.raises(ChecksumError, match=f"{hashlib.md5(data).hexdigest()}, not md5:{NTIDIGITS18.file_md5}"):
        NTidigits().load(root, seed=0)


def test_a_missing_file_is_told(tmp_path, monkeypatch):
    import tonic

    with pytest.raises(FileNotFoundError, match=r"data\.path=.*n-tidigits\.hdf5 is missing"):
        load(tmp_path, path=str(tmp_path))
    monkeypatch.setattr(tonic.datasets.NTIDIGITS18, "base_url", "http://127.0.0.1:9/n-tidigits.hdf5")
    with pytest.raises(DownloadError, match=r"n-tidigits\.hdf5 is not in .* and could not be downloaded"):
        load(tmp_path)


def broken(change):
    def write(path):
        write_ntidigits(path, IDS)
        with h5py.File(path, "r+") as file:
            change(file)

    return write


def replace(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


FIRST = IDS["train"][0]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"not HDF5"), "not a readable HDF5 file"),
        (broken(lambda file: file.__delitem__("test_labels")), "no 'test_labels' in there"),
        (
            broken(lambda file: file.__delitem__(f"train_addresses/{FIRST}")),
            f"sample '{FIRST}' is in train_labels, but not in",
        ),
        (broken(replace(f"train_timestamps/{FIRST}", [0.1])), f"sample '{FIRST}' has 1 times and 40 addresses"),
        (
            broken(replace(f"train_addresses/{FIRST}", [64] * 40)),
            f"sample '{FIRST}' has address 64; a cochlea has channels 0 to 63",
        ),
        (broken(replace(f"train_timestamps/{FIRST}", [-0.1] * 40)), f"sample '{FIRST}' has a time stamp of -100"),
        (broken(replace("train_labels", [b"man-a-12"])), "none of the 1 samples in train_labels is a single digit"),
        (broken(replace("train_labels", [b"man-aa-12", FIRST.encode()])), "too few samples for a validation part"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, write, message):
    write(tmp_path / "n-tidigits.hdf5")
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path, path=str(tmp_path / "n-tidigits.hdf5"))
    assert "\n" not in str(caught.value)


def test_the_official_file_has_its_sizes(staged):
    data = NTidigits().load(staged("n-tidigits/n-tidigits.hdf5"), seed=0)
    assert len(data.test) == 2486 and np.bincount(data.test.labels).tolist() == [226] * 11
    assert len(data.train) + len(data.valid) in (2463, 2464)
