"""Simulated recordings as a data set: labelled as such, the same whoever asks, and readable as real ones."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from lsm.datasets.nmnist import NMnist
from lsm.datasets.nmnist_sim import NMnistSim

FEW = {"n_train": 20, "n_valid": 10, "n_test": 10}


def sample(split, name):
    k = split.names.index(name)
    return split.inputs.packed[split.inputs.offsets[k] : split.inputs.offsets[k + 1]]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return NMnistSim(images="digits", **FEW).load(tmp_path_factory.mktemp("data"), seed=0)


def test_it_says_everywhere_that_it_is_simulated(digits):
    assert digits.name == "nmnist_sim" and digits.notes["simulated"] is True
    assert digits.source.startswith("simulated ATIS looking at")
    assert all(name.startswith("simulated/digits[") for name in digits.train.names)
    with pytest.raises(ValidationError, match="name"):
        NMnistSim(name="nmnist")


def test_form_and_sizes_are_those_of_event_recordings(digits):
    assert (len(digits.train), len(digits.valid), len(digits.test)) == (20, 10, 10)
    assert digits.n_in == 2312 and digits.encoding["n_steps"] == 300 and digits.encoding["kind"] == "events"
    assert np.bincount(digits.train.labels).tolist() == [2] * 10
    for split in (digits.train, digits.valid, digits.test):
        assert (np.diff(split.inputs.offsets) > 500).all()
        assert (split.inputs.packed >> 16).max() < 300


def test_a_recording_depends_on_its_image_and_the_recordings_seed_only(digits, tmp_path):
    more = NMnistSim(images="digits", n_train=40, n_valid=10, n_test=10)
    again = more.load(tmp_path, seed=0)
    shared = set(again.train.names) & set(digits.train.names)
    assert shared
    for name in shared:
        np.testing.assert_array_equal(sample(again.train, name), sample(digits.train, name))
    other = NMnistSim(images="digits", seed=1, **FEW).load(tmp_path, seed=0)
    assert other.train.names == digits.train.names
    assert not np.array_equal(other.train.inputs.packed, digits.train.inputs.packed)
    assert other.checksums["simulated recordings"] != digits.checksums["simulated recordings"]


def test_complete_parts_are_kept_and_used_again_but_not_for_anything_else(tmp_path, looked):
    source = NMnistSim(images="digits", n_train=20, n_valid=10)
    first = source.load(tmp_path, seed=0)
    (kept,) = (tmp_path / "nmnist-sim").iterdir()
    assert kept.name.startswith("digits-test-") and looked == [20, 10, 300]
    done = []
    second = source.load(tmp_path, seed=0, progress=lambda now, total: done.append((now, total)))
    assert looked[3:] == [20, 10] and done[-1] == (330, 330)
    np.testing.assert_array_equal(second.test.inputs.packed, first.test.inputs.packed)
    assert second.checksums == first.checksums
    source.load(tmp_path, seed=1)  # another split of the digits: other recordings
    NMnistSim(images="digits", n_train=20, n_valid=10, seed=1).load(tmp_path, seed=0)
    assert looked.count(300) == 3
    assert len(list((tmp_path / "nmnist-sim").iterdir())) == 3
    NMnistSim(images="digits", n_train=20, n_valid=10, keep=False, n_steps=250).load(tmp_path, seed=0)
    assert len(list((tmp_path / "nmnist-sim").iterdir())) == 3


def test_a_subset_is_taken_out_of_the_complete_part_where_that_is_kept(tmp_path, looked):
    few, every = NMnistSim(images="digits", **FEW), NMnistSim(images="digits")
    made = few.load(tmp_path, seed=0)
    every.load(tmp_path, seed=0)
    del looked[:]
    taken = few.load(tmp_path, seed=0)
    assert not looked and taken.checksums == made.checksums and taken.train.names == made.train.names
    dataclasses.replace(few, n_steps=250).load(tmp_path, seed=0)
    assert looked == [20, 10, 10], "other recordings"


def test_a_damaged_copy_is_made_again(tmp_path, looked):
    source = NMnistSim(images="digits", n_train=20, n_valid=10)
    first = source.load(tmp_path, seed=0)
    (kept,) = (tmp_path / "nmnist-sim").iterdir()
    (kept / "packed.npy").write_bytes(b"damaged")
    for _ in range(2):
        again = source.load(tmp_path, seed=0)
        np.testing.assert_array_equal(again.test.inputs.packed, first.test.inputs.packed)
    assert looked.count(300) == 2


def test_a_data_folder_that_cannot_be_written_is_no_hindrance(tmp_path, looked):
    blocked = tmp_path / "nmnist-sim"
    blocked.write_text("a file where a folder should be")
    assert len(NMnistSim(images="digits", n_train=20, n_valid=10).load(tmp_path, seed=0).test) == 300
    assert looked == [20, 10, 300] and blocked.is_file()


def test_written_recordings_are_read_by_the_reader_of_the_real_ones_as_the_same_rasters(tmp_path, staged):
    source = NMnistSim(path=str(staged("mnist") / "mnist"), **FEW)
    written = source.write_recordings(tmp_path, tmp_path / "out")
    assert [p.name for p in written] == ["Train.zip", "Test.zip"] and len(list((tmp_path / "out").iterdir())) == 2
    read = NMnist(path=str(tmp_path / "out"), allow_partial=True).load(tmp_path, seed=0)
    direct = source.load(tmp_path, seed=0)
    found = {name: sample(split, name) for split in (read.train, read.valid, read.test) for name in split.names}
    assert len(found) == 40
    for part, archive in (("train", "Train"), ("valid", "Train"), ("test", "Test")):
        split = getattr(direct, part)
        for name, label in zip(split.names, split.labels, strict=True):
            number = int(name[name.index("[") + 1 : -1]) + 1
            np.testing.assert_array_equal(found[f"{archive}/{label}/{number:05d}.bin"], sample(split, name))


def test_an_interrupted_writing_leaves_no_archive(tmp_path, monkeypatch):
    def broken(self, split):
        raise KeyboardInterrupt

    monkeypatch.setattr(NMnistSim, "look", broken)
    with pytest.raises(KeyboardInterrupt):
        NMnistSim(images="digits", **FEW).write_recordings(tmp_path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("bad", [{"images": "emnist"}, {"seed": -1}, {"n_steps": 0}, {"keep": 1}])
def test_bad_options_are_refused(bad):
    with pytest.raises(ValidationError):
        NMnistSim(**bad)
