import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from raw_files import atis_bytes, picture_tree, png_bytes, random_recording, write_tree, zip_bytes

from lsm.datasets.files import Files, encode_files, file_names
from lsm.datasets.pictures import read_picture

TREE = picture_tree({"cat": 10, "dog": 20})
RECORDINGS = {f"{name}/{k}.bin": random_recording(k, size=20) for name in ("left", "right") for k in range(6)}


def load(path, seed=0, **options):
    return Files(path=str(path), **options).load(path, seed)


def members(data):
    return [data.train.names, data.valid.names, data.test.names]


def test_folders_by_class_are_split_by_the_given_fractions(tmp_path):
    data = load(write_tree(tmp_path, TREE))
    assert data.class_names == ("cat", "dog")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [21, 3, 6]
    assert sorted(sum(members(data), ())) == sorted(TREE)
    for split in (data.train, data.valid, data.test):
        assert [data.class_names[k] for k in split.labels] == [n.split("/")[0] for n in split.names]
    assert np.bincount(data.test.labels).tolist() == [2, 4]


def test_the_seed_decides_the_split(tmp_path):
    write_tree(tmp_path, TREE)
    assert members(load(tmp_path, 0)) == members(load(tmp_path, 0)) != members(load(tmp_path, 1))


@pytest.mark.parametrize("valid_name", ["valid", "val", "Validation"])
def test_part_folders_of_the_user_are_kept(valid_name, tmp_path):
    parts = {"train": 4, valid_name: 2, "test": 3}
    tree = {f"{p}/{k}": d for p, n in parts.items() for k, d in picture_tree({"a": n, "b": n}).items()}
    data = load(write_tree(tmp_path, tree))
    assert [{n.split("/")[0] for n in names} for names in members(data)] == [{"train"}, {valid_name}, {"test"}]
    assert [len(names) for names in members(data)] == [8, 4, 6]


def test_a_part_that_the_user_did_not_make_is_drawn_from_the_training_files(tmp_path):
    tree = {f"train/{k}": d for k, d in picture_tree({"a": 20, "b": 20}).items()}
    tree |= {f"test/{k}": d for k, d in picture_tree({"a": 3, "b": 3}).items()}
    data = load(write_tree(tmp_path, tree))
    assert [len(names) for names in members(data)] == [36, 4, 6]
    assert all(n.startswith("train/") for n in data.valid.names)


def test_classes_named_by_numbers_are_in_the_order_of_numbers(tmp_path):
    assert load(write_tree(tmp_path, picture_tree({"10": 3, "9": 3, "0": 3}))).class_names == ("0", "9", "10")


def test_a_zip_archive_gives_what_its_folder_would(tmp_path):
    folder = load(write_tree(tmp_path / "folder", TREE))
    (tmp_path / "set.zip").write_bytes(zip_bytes(TREE | {"__MACOSX/cat/._000.png": b"x"}))
    archive = load(tmp_path / "set.zip")
    assert members(archive) == members(folder)
    assert archive.checksums == folder.checksums
    np.testing.assert_array_equal(archive.train.inputs.pixels, folder.train.inputs.pixels)


def test_the_checksum_follows_the_contents(tmp_path):
    before = load(write_tree(tmp_path, TREE)).checksums
    write_tree(tmp_path, {"cat/000.png": png_bytes(np.zeros((28, 28), np.uint8))})
    assert load(tmp_path).checksums != before


def test_subsets_are_balanced(tmp_path):
    data = load(write_tree(tmp_path, TREE), n_train=6)
    assert np.bincount(data.train.labels).tolist() == [3, 3]
    with pytest.raises(ValueError, match=r"data\.n_test=7: only 6"):
        load(tmp_path, n_test=7)


def test_images_drive_the_liquid_as_mnist_does_unless_told_otherwise(tmp_path):
    write_tree(tmp_path, TREE)
    for options, rate in (({}, 19.95), ({"events_per_ms": 5.0}, 5)):
        inputs = load(tmp_path, **options).train.inputs
        np.testing.assert_allclose((inputs.pixels * inputs.scale[:, None].astype(float)).sum(1), rate, rtol=1e-5)
    assert load(tmp_path, events_per_ms=None).notes["events_per_ms"] > 100
    assert Files(path=str(tmp_path)).load(tmp_path, 0, maximum=0.1).notes["events_per_ms"] == pytest.approx(10)


def test_images_too_sparse_for_the_drive_asked_for_say_what_is_left_of_it(tmp_path):
    dots = np.zeros((28, 28), np.uint8)
    dots[10, 4:10] = 200
    write_tree(tmp_path, {f"{c}/{k}.png": png_bytes(dots) for c in "ab" for k in range(5)})
    notes = load(tmp_path).notes
    assert notes["events_per_ms"] == pytest.approx(6)  # one a ms from each of the bright pixels
    assert "6 events per ms on average, not 19.95" in notes["warning"]
    assert "warning" not in load(tmp_path, events_per_ms=6.0).notes


def test_dark_ink_on_light_paper_gets_a_warning_that_inverting_removes(tmp_path):
    paper = np.full((28, 28), 250, np.uint8)
    paper[5:20, 10:14] = 5
    write_tree(tmp_path, {f"{c}/{k}.png": png_bytes(paper) for c in "ab" for k in range(5)})
    assert "data.invert=true" in load(tmp_path).notes["warning"]
    data = load(tmp_path, invert=True)
    assert "warning" not in data.notes
    np.testing.assert_array_equal(data.train.inputs.pixels[0], 255 - paper.ravel())


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "no class folders"),
        ({"a.png": b"x"}, "no class folders"),
        (picture_tree({"only": 5}), r"1 class folder \(only\); at least 2"),
        (TREE | {"bird/": b""}, "class folder 'bird' has no .*; 0 other files"),
        (TREE | {"bird/notes.txt": b"x"}, "class folder 'bird' has no .*; 1 other files"),
        (TREE | {"bird/1.bin": random_recording(0)}, r"images and recordings mixed: cat/000\.png and bird/1\.bin"),
        (picture_tree({"a": 5, "b": 2}), r"7 files \(class 'b': 2\) are too few"),
        ({f"train/{k}": d for k, d in TREE.items()} | {"extra/x.png": b""}, "folder 'extra' beside 'train'"),
        (
            {f"train/{k}": d for k, d in TREE.items()} | {"test/bird/0.png": TREE["cat/000.png"]},
            "class 'bird' of the test part has no training files",
        ),
        (TREE | {"cat/999.png": b""}, r"cat/999\.png: the image is empty"),
        (TREE | {"cat/999.png": b"hello"}, r"cat/999\.png: not a readable image of 5 bytes \(format not recognised"),
        (TREE | {"cat/999.png": TREE["cat/000.png"][:-200]}, r"cat/999\.png: not a readable image of \d+ bytes"),
    ],
)
def test_a_bad_folder_is_refused_in_one_line(tree, message, tmp_path):
    folders = [name for name in tree if name.endswith("/")]
    write_tree(tmp_path, {k: v for k, v in tree.items() if k not in folders})
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_path_is_needed_and_must_exist():
    for options in ({}, {"path": None}, {"path": ""}):
        with pytest.raises(ValidationError, match=r"needed: data\.path="):
            Files(**options)
    with pytest.raises(FileNotFoundError, match=r"data\.path=/no/such"):
        load("/no/such")


def test_a_relative_path_may_lie_in_the_data_folder(tmp_path):
    write_tree(tmp_path / "mine-in-root", TREE)
    assert len(Files(path="mine-in-root").load(tmp_path, 0).test) == 6


def test_recordings_of_another_sensor_are_read_with_its_size(tmp_path):
    data = load(write_tree(tmp_path, RECORDINGS), height=20, width=24, n_steps=100)
    assert data.n_in == 2 * 20 * 24
    assert data.encoding == {"kind": "events", "height": 20, "width": 24, "polarities": 2, "n_steps": 100}
    assert (data.train.inputs.packed >> 16).max() < 100
    with pytest.raises(ValueError, match="outside the sensor of 8 x 34"):
        load(tmp_path, width=8)
    with pytest.raises(ValueError, match=r"data\.height=240 data\.width=256: at most 32768 pixels"):
        load(tmp_path, height=240, width=256)


def test_recordings_have_34_by_34_pixels_and_300_ms_by_default(tmp_path):
    data = load(write_tree(tmp_path, RECORDINGS))
    assert data.encoding == {"kind": "events", "height": 34, "width": 34, "polarities": 2, "n_steps": 300}


def grey(data, height=2, width=2, invert=False):
    return read_picture(data, "p.png", height, width, invert).tolist()


def test_pictures_of_every_mode_become_grey_values():
    plain = np.array([[0, 255], [100, 30]], np.uint8)
    assert grey(png_bytes(plain)) == plain.tolist()
    assert grey(png_bytes(plain), invert=True) == (255 - plain).tolist()
    assert grey(png_bytes(plain, "RGB")) == plain.tolist()
    assert grey(png_bytes(plain, kind="PPM")) == plain.tolist()
    assert grey(png_bytes(plain.astype(np.uint16) * 256)) == plain.tolist()
    assert grey(png_bytes(plain > 50)) == [[0, 255], [255, 0]]


def test_what_is_transparent_counts_as_white():
    ink = np.zeros((2, 2, 4), np.uint8)
    ink[0, 0, 3] = 255  # one opaque black pixel
    assert grey(png_bytes(ink)) == [[0, 255], [255, 255]]


def test_pictures_are_stretched_and_turned_as_their_exif_says():
    wide = np.zeros((10, 40), np.uint8)
    wide[:, :20] = 255
    assert grey(png_bytes(wide), 1, 4)[0][0] > 200 > 50 > grey(png_bytes(wide), 1, 4)[0][-1]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG", exif=exif)
    assert grey(buffer.getvalue(), 1, 4)[0][0] < 50


def test_new_images_are_encoded_as_the_training_images_were(tmp_path):
    data = load(write_tree(tmp_path, TREE), invert=True)
    paths = [tmp_path / name for name in data.test.names]
    inputs = encode_files(paths, data.encoding)
    np.testing.assert_array_equal(inputs.pixels, data.test.inputs.pixels)
    np.testing.assert_array_equal(inputs.scale, data.test.inputs.scale)


def test_new_recordings_are_encoded_as_the_training_recordings_were(tmp_path):
    data = load(write_tree(tmp_path, RECORDINGS), n_steps=120)
    inputs = encode_files([str(tmp_path / name) for name in data.test.names], data.encoding)
    np.testing.assert_array_equal(inputs.packed, data.test.inputs.packed)
    np.testing.assert_array_equal(inputs.offsets, data.test.inputs.offsets)


def test_new_files_may_be_files_folders_and_archives(tmp_path):
    encoding = {"kind": "images", "height": 28, "width": 28, "maximum": 0.05}
    write_tree(tmp_path / "deep" / "er", {"a.png": TREE["cat/000.png"], "notes.txt": b"ignored"})
    write_tree(tmp_path, {"b.PNG": TREE["cat/001.png"], "c.zip": zip_bytes({"x/c.png": TREE["cat/002.png"]})})
    paths = [tmp_path / "b.PNG", tmp_path / "deep", tmp_path / "c.zip"]
    seen = []
    inputs = encode_files(paths, encoding, lambda done, total: seen.append((done, total)))
    names = file_names(paths, encoding)
    assert names == (f"{tmp_path}/b.PNG", f"{tmp_path}/deep/er/a.png", f"{tmp_path}/c.zip/x/c.png")
    expected = [read_picture(TREE[f"cat/00{k}.png"], "", 28, 28, False).ravel() for k in (1, 0, 2)]
    np.testing.assert_array_equal(inputs.pixels, expected)
    assert seen[-1] == (3, 3)


def test_new_files_that_cannot_be_used_are_refused(tmp_path):
    encoding = {"kind": "images", "height": 28, "width": 28, "maximum": 0.05}
    write_tree(tmp_path, {"a.bin": random_recording(0), "notes/n.txt": b"x", "bad.png": b"bad"})
    cases = {
        "a.bin": (ValueError, r"a\.bin: this model reads images"),
        "notes": (ValueError, "none of its 1 files is one of"),
        "bad.png": (ValueError, r"bad\.png: not a readable image"),
        "gone.png": (FileNotFoundError, r"gone\.png: no such file"),
    }
    for name, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            encode_files([tmp_path / name], encoding)
    with pytest.raises(ValueError, match="no files given"):
        encode_files([], encoding)
    with pytest.raises(
        ValueError, match="this model reads recordings of ntidigits; only images and events can be read"
    ):
        encode_files([tmp_path / "a.bin"], {"kind": "ntidigits", "n_channels": 64, "n_steps": 900})
    with pytest.raises(ValueError, match=r"a\.bin: event 0 at x=30"):
        write_tree(tmp_path, {"a.bin": atis_bytes([(30, 1, 1, 1)])})
        encode_files([tmp_path / "a.bin"], {"kind": "events", "height": 20, "width": 20, "n_steps": 100})


@pytest.mark.parametrize(
    "bad",
    [{"valid_fraction": 0.7}, {"test_fraction": 0.0}, {"height": 0}, {"width": 300}, {"invert": "no"}, {"paths": "x"}],
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ValidationError):
        Files(path="x", **bad)
