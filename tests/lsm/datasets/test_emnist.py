"""EMNIST letters from small files in the official layout, and their rate code."""

import dataclasses
import hashlib

import numpy as np
import pytest
from raw_files import emnist_members, idx_bytes, write_tree, zip_bytes

from lsm.datasets import emnist
from lsm.datasets.emnist import LETTERS, Emnist
from lsm.datasets.fetch import ChecksumError, DownloadError

MEMBERS = emnist_members()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "emnist").mkdir()
    (folder / "emnist" / "gzip.zip").write_bytes(
        zip_bytes(MEMBERS | {"gzip/emnist-digits-train-images-idx3-ubyte.gz": b""})
    )
    return folder


def cells(split, k):
    packed = split.inputs.packed[split.inputs.offsets[k] : split.inputs.offsets[k + 1]]
    return [(int(c) >> 16, int(c) & 0xFFFF) for c in packed]


def test_letters_are_numbered_from_a_and_the_last_sixth_validates(root):
    data = Emnist(verify=False).load(root, seed=0)
    assert [len(getattr(data, part)) for part in ("train", "valid", "test")] == [130, 26, 78]
    assert data.class_names == LETTERS and data.n_in == 784
    assert data.encoding == {"kind": "emnist", "height": 28, "width": 28, "n_steps": 50}
    assert data.train.labels.tolist() == [k % 26 for k in range(130)]
    assert data.valid.names[0] == "train-images[130]" and data.test.names[0] == "test-images[0]"


def test_letters_stand_upright_unless_the_published_way_is_asked_for(root):
    """Image k is bright in row k of the file: upright in column k, brightest at the lower end."""
    upright, as_is = (Emnist(verify=False, upright=u).load(root, seed=0).train for u in (True, False))
    for k in (3, 20):
        assert {c % 28 for _, c in cells(upright, k)} == {k} and {c // 28 for _, c in cells(as_is, k)} == {k}
        assert min(c // 28 for _, c in cells(upright, k)) >= 14  # darker half of the greys never spikes


def test_the_brightest_pixel_spikes_twenty_times_in_fifty_steps_and_the_dark_half_never():
    image = np.zeros((28, 28), np.uint8)
    image[:10], image[10:20], image[20:] = 255, 191, 127
    source = Emnist()
    packed = np.concatenate([source.spikes(image, f"x[{k}]") for k in range(20)])
    per_pixel = np.bincount(packed & 0xFFFF, minlength=784) / 20
    steps = np.bincount(packed >> 16, minlength=50)
    n = 280 * 20
    assert per_pixel[:280].mean() == pytest.approx(20, abs=4 * np.sqrt(50 * 0.4 * 0.6 / n))
    chance = (2 * 191 / 255 - 1) * 0.4
    assert per_pixel[280:560].mean() == pytest.approx(50 * chance, abs=4 * np.sqrt(50 * chance * (1 - chance) / n))
    assert per_pixel[560:].sum() == 0
    assert steps.min() > 0.9 * steps.mean() and len(steps) == 50
    half = np.concatenate([Emnist(max_spikes=10.0).spikes(image, f"x[{k}]") for k in range(20)])
    assert len(half) == pytest.approx(len(packed) / 2, rel=0.02)


def test_each_image_has_its_own_random_field_unless_the_published_one_is_asked_for():
    image = np.full((28, 28), 255, np.uint8)
    own = Emnist()
    assert own.spikes(image, "a").tolist() == own.spikes(image, "a").tolist() != own.spikes(image, "b").tolist()
    assert own.spikes(image, "a").tolist() != dataclasses.replace(own, seed=1).spikes(image, "a").tolist()
    shared = Emnist(shared_field=True)
    assert shared.spikes(image, "a").tolist() == shared.spikes(image, "b").tolist()
    field = np.random.RandomState(0).random_sample((50, 784))
    assert [(int(c) >> 16, int(c) & 0xFFFF) for c in shared.spikes(image, "a")] == list(
        zip(*(a.tolist() for a in np.nonzero(field < 0.4)), strict=True)
    )


def test_an_image_is_the_same_whatever_else_is_read(root):
    whole = Emnist(verify=False).load(root, seed=0)
    few = Emnist(verify=False, n_train=26).load(root, seed=4)
    assert np.bincount(few.train.labels).tolist() == [1] * 26
    for k, name in enumerate(few.train.names):
        assert cells(few.train, k) == cells(whole.train, whole.train.names.index(name))
    ticks = []
    picked = Emnist(verify=False).load(
        root, seed=0, pick=lambda part, labels: np.flatnonzero(labels == 2)[:1], progress=lambda *t: ticks.append(t)
    )
    assert picked.test.names == ("test-images[2]",) and ticks[-1] == (3, 3)


def test_unpacked_files_are_read_too(root, tmp_path):
    members = {name.removeprefix("gzip/"): data for name, data in MEMBERS.items()}
    write_tree(tmp_path / "EMNIST" / "raw", members)
    a, b = (Emnist(verify=False).load(where, seed=0) for where in (root, tmp_path))
    np.testing.assert_array_equal(a.train.inputs.packed, b.train.inputs.packed)
    assert a.checksums == b.checksums


def test_the_archive_is_checked_and_downloaded_where_it_is_missing(root, tmp_path, monkeypatch):
    with pytest.raises(ChecksumError, match="not md5:58c8d27c78d21e728a6bc7b3cc06412e as the official file"):
        Emnist().load(root, seed=0)
    data = (root / "emnist" / "gzip.zip").read_bytes()
    remote = dataclasses.replace(
        emnist.ARCHIVE, digest=f"md5:{hashlib.md5(data).hexdigest()}", mirrors=("http://127.0.0.1:9/",)
    )
    monkeypatch.setattr(emnist, "ARCHIVE", remote)
    assert len(Emnist().load(root, seed=0).test) == 78
    with pytest.raises(DownloadError, match=r"gzip\.zip is not in .*emnist and could not be downloaded"):
        Emnist().load(tmp_path, seed=0)
    assert emnist.ARCHIVE.name == "gzip.zip"


@pytest.mark.parametrize(
    ("member", "data", "message"),
    [
        ("train-labels-idx1", idx_bytes(np.zeros(156)), "has labels 0 to 0; letters have 1 to 26"),
        ("train-labels-idx1", idx_bytes(np.ones(9)), "has 156 images, .* has 9 labels"),
        ("test-images-idx3", b"", r"the file is empty \(0 bytes\)"),
    ],
)
def test_bad_files_are_told(tmp_path, member, data, message):
    write_tree(tmp_path, MEMBERS | {f"gzip/emnist-letters-{member}-ubyte.gz": data})
    with pytest.raises(ValueError, match=message):
        Emnist(verify=False, path=str(tmp_path / "gzip")).load(tmp_path, seed=0)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"emnist-letters-train-images-idx3-ubyte\(\.gz\) is missing there"):
        Emnist(path=str(tmp_path)).load(tmp_path, seed=0)
    write_tree(tmp_path, {name: data for name, data in MEMBERS.items() if "test-labels" not in name})
    with pytest.raises(
        FileNotFoundError, match=r"emnist-letters-test-labels-idx1-ubyte\(\.gz\) is missing; found there"
    ):
        Emnist(verify=False, path=str(tmp_path / "gzip")).load(tmp_path, seed=0)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        Emnist(path=str(tmp_path / "nowhere")).load(tmp_path, seed=0)
