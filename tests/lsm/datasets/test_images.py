import gzip
import shutil

import numpy as np
import pytest
from pydantic import ValidationError
from raw_files import idx_bytes, write_idx_set

from lsm.datasets import fetch
from lsm.datasets.fetch import ChecksumError, DownloadError
from lsm.datasets.idx import parse_images, parse_labels
from lsm.datasets.images import FashionMnist, Mnist
from lsm.encode import brightest_share

MNIST_FILES = [f"mnist/{stem}.gz" for stem in Mnist.digests]
FASHION_FILES = [f"fashion-mnist/{stem}.gz" for stem in FashionMnist.digests]
IMAGES = np.arange(24).reshape(2, 4, 3)


def own_set(folder, **options):
    return Mnist(path=str(folder), verify=False, **options)


def total_rates(split):
    return (split.inputs.pixels * split.inputs.scale[:, None].astype(np.float64)).sum(axis=1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_are_read_plain_and_zipped(pack, tmp_path):
    np.testing.assert_array_equal(parse_images(pack(idx_bytes(IMAGES)), tmp_path), IMAGES)
    np.testing.assert_array_equal(parse_labels(pack(idx_bytes([3, 1])), tmp_path), [3, 1])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (idx_bytes([1, 2]), "magic number 2049, IDX images have 2051"),
        (b"\x89PNG\r\n\x1a\n" * 4, "magic number 2303741511"),
        (idx_bytes(IMAGES)[:9], "truncated: 9 bytes, the header alone has 16"),
        (idx_bytes(IMAGES)[:-1], "truncated: 39 bytes unpacked, 2 images need 40"),
        (idx_bytes(IMAGES) + b"x", "too long: 41 bytes"),
        (idx_bytes(np.zeros((0, 4, 3))), "holds no images"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-12], "damaged gzip file of"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:14] + b"\xff" * 30, "damaged gzip file of"),
    ],
)
def test_a_bad_idx_file_is_named_with_what_was_found(data, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        parse_images(data, tmp_path / "some-images")
    assert str(tmp_path / "some-images") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_last_sixth_of_the_training_images_is_for_validation_and_order_is_kept(tmp_path):
    data = own_set(write_idx_set(tmp_path)).load(tmp_path, seed=0)
    assert (len(data.train), len(data.valid), len(data.test)) == (100, 20, 40)
    np.testing.assert_array_equal(data.valid.labels, np.arange(100, 120) % 4)
    for split in (data.train, data.valid, data.test):  # the label is written into the first pixel
        np.testing.assert_array_equal(split.inputs.pixels[:, 0], split.labels + 1)
    assert data.valid.names[0] == "train-images[100]"
    assert data.test.names[-1] == "t10k-images[39]"
    assert data.n_in == 30
    assert (data.encoding["height"], data.encoding["width"]) == (6, 5)


def test_subsets_are_balanced_and_share_the_maximum_of_the_complete_training_images(tmp_path):
    folder = write_idx_set(tmp_path)
    whole = own_set(folder).load(tmp_path, seed=0)
    part = own_set(folder, n_train=8, n_valid=4, n_test=4).load(tmp_path, seed=0)
    assert np.bincount(part.train.labels).tolist() == [2, 2, 2, 2]
    assert np.bincount(part.test.labels).tolist() == [1, 1, 1, 1]
    assert part.encoding["maximum"] == whole.encoding["maximum"]
    np.testing.assert_array_equal(part.train.inputs.pixels[:, 0], part.train.labels + 1)


def test_test_images_use_the_training_maximum_unless_the_original_is_asked_for(tmp_path):
    folder = write_idx_set(tmp_path)
    common = own_set(folder).load(tmp_path, seed=0)
    original = own_set(folder, own_test_maximum=True).load(tmp_path, seed=0)
    test_images = common.test.inputs.pixels.reshape(-1, 6, 5)
    np.testing.assert_allclose(total_rates(common.test), 1 / common.encoding["maximum"], rtol=1e-6)
    np.testing.assert_allclose(total_rates(original.test), 1 / brightest_share(test_images), rtol=1e-6)
    np.testing.assert_allclose(total_rates(original.train), 1 / common.encoding["maximum"], rtol=1e-6)
    assert brightest_share(test_images) != common.encoding["maximum"]


def test_the_rate_constant_of_a_saved_model_overrides_that_of_the_set(tmp_path):
    data = own_set(write_idx_set(tmp_path)).load(tmp_path, seed=0, maximum=0.05)
    np.testing.assert_allclose(total_rates(data.test), 20, rtol=1e-6)
    assert data.encoding["maximum"] == 0.05


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
def test_files_are_found_in_either_layout_of_the_data_folder(folder, tmp_path):
    write_idx_set(tmp_path / folder)
    data = Mnist(verify=False).load(tmp_path, seed=0)
    assert data.source == str(tmp_path / folder)
    assert set(data.checksums) == {
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte",
    }


def test_a_readable_file_that_is_not_the_official_one_is_refused(tmp_path):
    write_idx_set(tmp_path / "mnist")
    with pytest.raises(ChecksumError, match=r"train-images-idx3-ubyte.gz: checksum md5:\w+, not md5:f68b3c2dc"):
        Mnist().load(tmp_path, seed=0)


def test_a_truncated_file_is_called_truncated_not_only_different(tmp_path):
    path = write_idx_set(tmp_path / "mnist") / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: truncated or damaged gzip file of 1000 bytes"):
        Mnist().load(tmp_path, seed=0)


def test_counts_of_images_and_labels_that_differ_are_reported(tmp_path):
    folder = write_idx_set(tmp_path)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes([0, 1]))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz has 40 images, t10k-labels-idx1-ubyte has 2"):
        own_set(folder).load(tmp_path, seed=0)


def test_labels_without_images_are_reported_with_what_is_there(tmp_path):
    folder = write_idx_set(tmp_path)
    (folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train-images-idx3-ubyte\(.gz\) is missing; found there: .*train-labels"
    ):
        own_set(folder).load(tmp_path, seed=0)


def test_a_given_folder_that_does_not_exist_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.path=/no/such: no such folder"):
        Mnist(path="/no/such").load(tmp_path, seed=0)


def test_without_files_and_network_the_error_tells_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Mnist, "mirrors", ("http://127.0.0.1:9/", "http://localhost:9/"))
    with pytest.raises(DownloadError, match=r"train-images-idx3-ubyte\.gz is not in .*mnist and could not"):
        Mnist().load(tmp_path, seed=0)


def test_missing_files_are_downloaded_from_the_mirrors(tmp_path, monkeypatch, staged):
    source = staged(*FASHION_FILES) / "fashion-mnist"
    asked = []

    def deliver(url, remote, target, progress):
        asked.append(url)
        shutil.copy(source / remote.name, target)

    monkeypatch.setattr(fetch, "_download_from", deliver)
    assert len(FashionMnist(n_train=10).load(tmp_path, seed=0).train) == 10
    assert asked == [f"{FashionMnist.mirrors[0]}{stem}.gz" for stem in FashionMnist.digests]
    FashionMnist().load(tmp_path, seed=0)
    assert len(asked) == 4


@pytest.mark.parametrize("bad", [{"n_train": -1}, {"own_test_maximum": "yes"}, {"pth": "x"}, {"path": 3}])
def test_bad_options_are_refused(bad):
    with pytest.raises(ValidationError):
        Mnist(**bad)


@pytest.mark.parametrize(
    ("source", "files", "train_rate", "test_rate"),
    [(Mnist, MNIST_FILES, 19.95, 22.04), (FashionMnist, FASHION_FILES, 15.20, 24.26)],
)
def test_the_real_sets_have_the_published_event_rates(source, files, train_rate, test_rate, staged):
    root = staged(*files)
    data = source(own_test_maximum=True).load(root, seed=0)
    assert (len(data.train), len(data.valid), len(data.test)) == (50_000, 10_000, 10_000)
    for split, rate in ((data.train, train_rate), (data.valid, train_rate), (data.test, test_rate)):
        np.testing.assert_allclose(total_rates(split), rate, atol=0.005)
    assert data.checksums == {f"{s}.gz": d[0] for s, d in source.digests.items()}


def test_unpacked_official_files_pass_the_check(tmp_path, staged):
    for name in MNIST_FILES:
        data = gzip.decompress((staged(name) / name).read_bytes())
        (tmp_path / name.removeprefix("mnist/").removesuffix(".gz")).write_bytes(data)
    data = Mnist(path=str(tmp_path), n_train=1000).load(tmp_path, seed=0)
    assert np.bincount(data.train.labels).tolist() == [100] * 10
