"""Pairs of seen and heard digits: sizes of both protocols, no unseen digit in training, errors in the words of the pair."""

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError
from raw_files import nmnist_members, spoken_members, write_ntidigits, write_tree

from lsm.datasets import fsdd, nmnist, ntidigits
from lsm.datasets.digit_pairs import MnistFsdd, NMnistNTidigits
from lsm.datasets.nmnist import PartialDataError
from lsm.datasets.nmnist_sim import NMnistSim
from lsm.datasets.recordings import EVENT

SPOKEN = spoken_members(("nicolas", "theo", "yweweler", "zoe"), n=11)


@pytest.fixture
def sounds(tmp_path, monkeypatch, looked):
    write_tree(tmp_path / "fsdd", SPOKEN)
    digest = hashlib.sha256()
    for name in sorted(SPOKEN):
        digest.update(f"{name.rpartition('/')[2]} {len(SPOKEN[name])}\n".encode() + SPOKEN[name])
    monkeypatch.setattr(fsdd, "DIGEST", f"sha256:{digest.hexdigest()}")
    return tmp_path


def per_class(split):
    return np.bincount(split.labels, minlength=10).tolist()


def test_all_sounds_of_unseen_digits_are_queries_and_none_is_trained_on(sounds, looked):
    pair = MnistFsdd(images="digits", images_per_test_class=10).load(sounds, seed=0)
    assert pair.seen == (1, 2, 3, 4, 5, 6, 7) and pair.unseen == (8, 9) and pair.modalities == ("image", "audio")
    image, audio = pair.first, pair.second
    assert per_class(audio.train) == per_class(image.train) == [0] + 7 * [4] + [0, 0]
    assert per_class(audio.valid) == per_class(image.valid) == [0] + 7 * [20] + [0, 0]
    assert per_class(audio.test) == [0] + 7 * [20] + 2 * [44]
    assert per_class(image.test) == [0] + 9 * [10]
    assert len(pair.train_pairs) == 28 and len(pair.valid_pairs) == 140
    assert sum(looked) == 28 + 140 + 90  # no image more than the pair needs
    assert pair.notes["image_simulated"] is True and pair.notes["audio_simulated"] is True
    only_test = MnistFsdd(images="digits", all_unseen_sounds=False).load(sounds, seed=0)
    assert per_class(only_test.second.test) == [0] + 9 * [20]


def test_the_published_protocol_trains_on_all_sounds_and_has_no_validation(sounds):
    pair = MnistFsdd(images="digits", protocol="published").load(sounds, seed=0)
    assert pair.protocol == "published" and len(pair.valid_pairs) == 0
    assert per_class(pair.second.train) == [0] + 7 * [24] + [0, 0] and len(pair.train_pairs) == 168
    assert per_class(pair.second.test) == [0] + 9 * [20]
    labels = pair.first.train.labels[pair.train_pairs[:, 0]]
    np.testing.assert_array_equal(labels, pair.second.train.labels[pair.train_pairs[:, 1]])


def test_voices_and_seen_digits_are_options(sounds):
    pair = MnistFsdd(images="digits", split="speaker", seen=(0 + 1, 2), unseen=(5,)).load(sounds, seed=0)
    train = {name.split("_")[1] for name in pair.second.train.names}
    valid = {name.split("_")[1] for name in pair.second.valid.names}
    assert train == {"zoe"} and valid == {"nicolas"}
    assert set(pair.second.test.labels.tolist()) == {1, 2, 5}
    with pytest.raises(ValidationError, match="digit 7 is also in seen"):
        MnistFsdd(unseen=(7, 8))
    with pytest.raises(ValidationError, match="seen"):
        MnistFsdd(seen=(0, 1))


def test_simulated_recordings_of_a_pair_are_kept(sounds, looked):
    first = MnistFsdd(images="digits").load(sounds, seed=0)
    shown = len(looked)
    again = MnistFsdd(images="digits").load(sounds, seed=0)
    assert len(looked) == shown
    np.testing.assert_array_equal(again.first.train.inputs.packed, first.first.train.inputs.packed)
    MnistFsdd(images="digits", keep=False).load(sounds, seed=0)
    assert len(looked) == shown + 3


@pytest.fixture
def real(tmp_path, monkeypatch):
    """200 + 120 recordings of N-MNIST, and N-TIDIGITS with 12 + 11 samples of each class, all small."""
    monkeypatch.setattr(nmnist, "COMPLETE", {"Train": 200, "Test": 120})
    monkeypatch.setattr(nmnist, "LAST_TRAIN_ID", 150)
    write_tree(tmp_path / "n-mnist", nmnist_members(200, 120))
    (tmp_path / "n-tidigits").mkdir()
    path = tmp_path / "n-tidigits" / "n-tidigits.hdf5"
    ids = {"train": 12, "test": 11}
    write_ntidigits(
        path, {part: [f"man-{part}{k}-{c}" for k in range(n) for c in "z123456789o"] for part, n in ids.items()}
    )
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    remote = ntidigits.RemoteFile(ntidigits.FILE, f"md5:{digest}", ())
    monkeypatch.setattr(ntidigits, "_remote", lambda: remote)
    return tmp_path


def test_the_pair_of_the_original_in_both_protocols(real):
    pair = NMnistNTidigits(protocol="published").load(real, seed=0)
    assert per_class(pair.first.train) == per_class(pair.second.train)[:10] == [0] + 7 * [12] + [0, 0]
    assert per_class(pair.second.test) == [0] + 9 * [11] and per_class(pair.first.test) == [0] + 9 * [12]
    names = [(pair.first.train.names[a], pair.second.train.names[b]) for a, b in pair.train_pairs[:2]]
    assert names == [("Train/1/00001.bin", "man-train0-1"), ("Train/1/00011.bin", "man-train1-1")]
    honest = NMnistNTidigits(images_per_test_class=5).load(real, seed=0)
    trained = [a + b for a, b in zip(per_class(honest.second.train), per_class(honest.second.valid), strict=True)]
    assert trained[:10] == [0] + 7 * [12] + [0, 0]
    assert per_class(honest.second.test) == [0] + 7 * [11] + 2 * [23] and per_class(honest.first.test) == [0] + 9 * [5]
    assert len(honest.valid_pairs) >= 7


def test_errors_speak_of_the_keys_of_the_pair(real, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"^audio: data\.audio_path=.*nowhere.*is missing"):
        NMnistNTidigits(audio_path=str(tmp_path / "nowhere")).load(real, seed=0)
    with pytest.raises(FileNotFoundError, match=r"^image: .*nowhere"):
        NMnistNTidigits(image_path=str(tmp_path / "nowhere")).load(real, seed=0)
    monkeypatch.setattr(nmnist, "COMPLETE", {"Train": 300, "Test": 120})
    with pytest.raises(
        PartialDataError, match=r"^image: N-MNIST is incomplete: .* to use them: data\.allow_partial=true$"
    ):
        NMnistNTidigits().load(real, seed=0)
    assert len(NMnistNTidigits(allow_partial=True).load(real, seed=0).train_pairs) > 0


def test_a_digit_that_nobody_showed_is_told(real):
    for path in (real / "n-mnist" / "Test" / "8").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="nmnist_ntidigits: class '8' has no sample in image/test"):
        NMnistNTidigits(allow_partial=True).load(real, seed=0)


def test_the_staged_sets_make_the_full_pair(staged, monkeypatch, looked):
    root = staged("mnist/train-images-idx3-ubyte.gz", "fsdd/fsdd-recordings.zip")

    def look(self, split):
        looked.append(len(split))
        yield from (np.zeros(1, EVENT) for _ in split.names)

    monkeypatch.setattr(NMnistSim, "look", look)
    monkeypatch.setattr(fsdd.Fsdd, "_listen", lambda self, spoken, *_: [np.array([s.digit], np.uint32) for s in spoken])
    pair = MnistFsdd(keep=False).load(root, seed=0)
    assert len(pair.train_pairs) == 7 * 240 and len(pair.valid_pairs) == 7 * 30
    assert (per_class(pair.second.test)[8], per_class(pair.second.test)[9]) == (300, 300)
    assert per_class(pair.first.test) == [0] + 9 * [100] and sum(looked) == 1680 + 210 + 900
