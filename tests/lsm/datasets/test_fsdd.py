"""Spoken digits: official and speaker split, the same events whoever asks, and always called simulated."""

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError
from raw_files import spoken_members, wav_bytes, write_tree, zip_bytes

from lsm.datasets import fsdd
from lsm.datasets.fetch import ChecksumError, DownloadError
from lsm.datasets.fsdd import Fsdd

MEMBERS = spoken_members()
SMALL = {"verify": False, "test_speakers": ("anna",), "valid_speakers": ("bert",)}


def sample(split, name):
    k = split.names.index(name)
    return split.inputs.packed[split.inputs.offsets[k] : split.inputs.offsets[k + 1]].tolist()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "fsdd").mkdir()
    (folder / "fsdd" / "any name.zip").write_bytes(zip_bytes(MEMBERS))
    return folder


def test_the_official_split_goes_by_the_index_of_the_recording(root):
    data = Fsdd(**SMALL).load(root, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [40, 100, 100]
    index = {
        part: {int(n[:-4].rpartition("_")[2]) for n in getattr(data, part).names} for part in ("train", "valid", "test")
    }
    assert index == {"train": {10, 11}, "valid": set(range(5, 10)), "test": set(range(5))}
    for split in (data.train, data.valid, data.test):
        assert [int(name.removeprefix("simulated/")[0]) for name in split.names] == split.labels.tolist()
        assert np.bincount(split.labels).tolist() == [len(split) // 10] * 10


def test_without_validation_its_recordings_train(root):
    data = Fsdd(validate=False, **SMALL).load(root, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [140, 0, 100]


def test_voices_of_the_test_part_are_unknown_in_a_split_by_speaker(tmp_path):
    write_tree(tmp_path / "fsdd", spoken_members(("anna", "bert", "carl"), n=2))
    data = Fsdd(split="speaker", **SMALL).load(tmp_path, seed=0)
    voices = {part: {n.split("_")[1] for n in getattr(data, part).names} for part in ("train", "valid", "test")}
    assert voices == {"train": {"carl"}, "valid": {"bert"}, "test": {"anna"}}


def test_form_is_that_of_ntidigits_and_everything_says_that_it_is_simulated(root):
    data = Fsdd(**SMALL).load(root, seed=0)
    assert data.name == "fsdd" and data.n_in == 64 and data.class_names == tuple("0123456789")
    assert data.encoding["kind"] == "ntidigits" and data.encoding["n_channels"] == 64
    assert data.notes["simulated"] is True and data.source.startswith("simulated cochlea listening to")
    assert all(name.startswith("simulated/") for name in data.test.names)
    last = max(int(split.inputs.packed.max() >> 16) for split in (data.train, data.valid, data.test))
    assert data.encoding["n_steps"] == data.train.inputs.n_steps == last + 2
    assert (np.diff(data.train.inputs.offsets) > 20).all()


def test_recordings_depend_on_the_file_and_the_recordings_seed_alone(root):
    first = Fsdd(**SMALL, keep=False).load(root, seed=0)
    few = Fsdd(**SMALL, keep=False, n_train=10).load(root, seed=3)
    assert len(few.train) == 10
    assert all(sample(few.train, name) == sample(first.train, name) for name in few.train.names)
    other = Fsdd(**SMALL, keep=False, seed=1).load(root, seed=0)
    assert other.train.inputs.packed.tolist() != first.train.inputs.packed.tolist()
    cut = Fsdd(**SMALL, keep=False, n_steps=20).load(root, seed=0)
    assert cut.encoding["n_steps"] == 20 and cut.train.inputs.packed.max() >> 16 == 19
    name = first.test.names[0]
    assert sample(cut.test, name) == [c for c in sample(first.test, name) if c >> 16 < 20]


def test_what_was_made_is_kept_and_used_again(tmp_path, monkeypatch):
    write_tree(tmp_path / "fsdd", MEMBERS)
    first = Fsdd(**SMALL).load(tmp_path, seed=0)
    (kept,) = (tmp_path / "fsdd-sim").iterdir()
    monkeypatch.setattr("lsm.datasets.cochlea.listen", lambda *a: pytest.fail("made again"))
    ticks = []
    again = Fsdd(**SMALL).load(tmp_path, seed=0, progress=lambda done, total: ticks.append((done, total)))
    np.testing.assert_array_equal(again.train.inputs.packed, first.train.inputs.packed)
    assert ticks == [(240, 240)]
    monkeypatch.undo()
    (kept / "packed.npy").write_bytes(b"damaged")
    repaired = Fsdd(**SMALL).load(tmp_path, seed=0)
    np.testing.assert_array_equal(repaired.train.inputs.packed, first.train.inputs.packed)
    (tmp_path / "fsdd" / "recordings" / "0_anna_0.wav").write_bytes(MEMBERS["recordings/1_anna_0.wav"])
    assert Fsdd(**SMALL).load(tmp_path, seed=0).checksums != first.checksums
    assert len(list((tmp_path / "fsdd-sim").iterdir())) == 2


def test_other_files_than_the_official_ones_need_a_word(root, monkeypatch):
    with pytest.raises(ChecksumError, match=r"any name.zip: checksum .* data.verify=false"):
        Fsdd().load(root, seed=0)
    digest = hashlib.sha256()
    for name in sorted(MEMBERS):
        digest.update(f"{name.rpartition('/')[2]} {len(MEMBERS[name])}\n".encode() + MEMBERS[name])
    monkeypatch.setattr(fsdd, "DIGEST", f"sha256:{digest.hexdigest()}")
    assert len(Fsdd().load(root, seed=0).test) == 100


def test_a_missing_set_is_downloaded_and_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch):
    asked = []

    def deliver(remote, folder, progress):
        asked.append((remote.name, folder))
        target = tmp_path / "elsewhere.zip"
        target.write_bytes(zip_bytes({f"free-spoken-digit-dataset-1.0.10/{k}": v for k, v in MEMBERS.items()}))
        return target

    with monkeypatch.context() as patch:
        patch.setattr(fsdd, "fetch", deliver)
        assert len(Fsdd(**SMALL).load(tmp_path, seed=0).test) == 100
    assert asked == [("free-spoken-digit-dataset-1.0.10.zip", tmp_path / "fsdd")]
    remote = fsdd.RemoteFile(fsdd.ARCHIVE.name, None, ("http://127.0.0.1:9/fsdd.zip",))
    monkeypatch.setattr(fsdd, "ARCHIVE", remote)
    with pytest.raises(DownloadError, match=r"is not in .*fsdd and could not be downloaded .*go online, .*any copy"):
        Fsdd().load(tmp_path / "empty", seed=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("0_anna_0", b"RIFFnonsense", "0_anna_0.wav: not a readable wav file of 12 bytes"),
        (
            "1_anna_0",
            wav_bytes(np.zeros(80), rate_hz=16_000),
            "1_anna_0.wav: 1 channels, 16 bits, 16000 Hz; expected 1, 16, 8000",
        ),
        ("2_anna_0", wav_bytes(np.zeros(80), channels=2), "2_anna_0.wav: 2 channels"),
        ("3_anna_0", wav_bytes(np.zeros(0)), "3_anna_0.wav: 0 bytes of sound"),
    ],
)
def test_a_bad_recording_is_named(tmp_path, name, data, message):
    write_tree(tmp_path / "fsdd", MEMBERS | {f"recordings/{name}.wav": data})
    with pytest.raises(ValueError, match=message):
        Fsdd(**SMALL).load(tmp_path, seed=0)


def test_bad_options_are_told(root, tmp_path):
    with pytest.raises(ValueError, match=r"data.test_speakers: no speaker 'theo'; there are anna, bert"):
        Fsdd(verify=False, split="speaker").load(root, seed=0)
    with pytest.raises(ValueError, match=r"'anna' is one of data.test_speakers, too"):
        Fsdd(verify=False, split="speaker", test_speakers=("anna",), valid_speakers=("anna",)).load(root, seed=0)
    with pytest.raises(ValueError, match=r"data.split=speaker: no recording of digit 0 in the train part"):
        Fsdd(split="speaker", **SMALL).load(root, seed=0)
    with pytest.raises(FileNotFoundError, match=r"data.path=.*: no recordings"):
        Fsdd(path=str(tmp_path)).load(root, seed=0)
    with pytest.raises(ValidationError):
        Fsdd(split="digit")


def test_the_official_set_has_its_sizes_and_its_digest(staged):
    data = Fsdd(keep=False, n_train=20, n_valid=10, n_test=10)
    spoken = data.sounds(staged("fsdd/fsdd-recordings.zip"))  # checks the digest
    assert len(spoken) == 3000
    parts = Fsdd()._parts(spoken)
    assert {part: len(members) for part, members in parts.items()} == {"train": 2400, "valid": 300, "test": 300}
    parts = Fsdd(split="speaker")._parts(spoken)
    assert {part: len(members) for part, members in parts.items()} == {"train": 1500, "valid": 500, "test": 1000}
