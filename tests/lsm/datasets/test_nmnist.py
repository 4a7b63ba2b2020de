import numpy as np
import pytest
from pydantic import ValidationError
from raw_files import atis_bytes, nmnist_members, random_recording, write_tree, zip_bytes

from lsm.datasets import nmnist
from lsm.datasets.fetch import DownloadError
from lsm.datasets.nmnist import NMnist, PartialDataError
from lsm.datasets.recordings import Sensor, pack_recording

SENSOR = Sensor(34, 34, 300)
SMALL = "n-mnist/nmnist-small.zip"
MEMBERS = nmnist_members(60, 20)


def by_part(members, part):
    return {name: data for name, data in members.items() if name.startswith(part)}


@pytest.fixture
def complete_at_60(monkeypatch):
    """Let 60 + 20 recordings count as the complete set."""
    monkeypatch.setattr(nmnist, "COMPLETE", {"Train": 60, "Test": 20})
    monkeypatch.setattr(nmnist, "LAST_TRAIN_ID", 50)


def test_events_land_in_the_bin_of_the_nearest_ms_half_to_even_and_in_their_channel():
    events = [(3, 2, 0, 0), (33, 33, 499, 1), (0, 0, 500, 0), (0, 0, 1500, 0), (1, 0, 2501, 1), (1, 0, 3400, 1)]
    packed = pack_recording(atis_bytes(events), "r.bin", SENSOR)
    found = [(int(c) >> 16, int(c) & 0xFFFF) for c in packed]
    assert found == [(0, 0), (0, 2 * 34 + 3), (0, 2 * 1156 - 1), (2, 0), (3, 1156 + 1)]


def test_time_stamps_use_all_23_bits_and_what_is_late_is_dropped():
    sensor = Sensor(34, 34, 9000)
    packed = pack_recording(atis_bytes([(1, 0, 70_000, 0), (1, 0, (1 << 23) - 1, 0)]), "r.bin", sensor)
    assert [int(c) >> 16 for c in packed] == [70, 8389]
    assert [
        int(c) >> 16 for c in pack_recording(atis_bytes([(1, 0, 299_400, 0), (1, 0, 300_000, 0)]), "r", SENSOR)
    ] == [299]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (random_recording(0)[:-2], "248 bytes, no multiple of 5"),
        (atis_bytes([(1, 1, 5, 0), (34, 1, 6, 0)]), "event 1 at x=34, y=1 is outside the sensor of 34 x 34"),
        (atis_bytes([(1, 200, 5, 0)]), "event 0 at x=1, y=200 is outside"),
        (atis_bytes([(1, 1, 5, 0), (1, 1, 9, 0), (1, 1, 8, 1)]), "time runs backwards at event 2, from 9 to 8 us"),
        (atis_bytes([(0, 240, 0, 0)]), "no events, only clock overflows"),
    ],
)
def test_a_bad_recording_is_named_with_what_was_found(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        pack_recording(data, "Train/3/00007.bin", SENSOR)
    assert "Train/3/00007.bin" in str(caught.value)


def test_a_bad_recording_inside_a_set_is_named_with_its_archive(tmp_path):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zip_bytes(MEMBERS | {"Test/1/00001.bin": b"1234"}))
    with pytest.raises(ValueError, match=r"set\.zip/Test/1/00001\.bin: 4 bytes"):
        NMnist(path=str(archive), allow_partial=True).load(tmp_path, seed=0)


LAYOUTS = {
    "folders in n-mnist": lambda root: write_tree(root / "n-mnist", MEMBERS),
    "folders in NMNIST": lambda root: write_tree(root / "NMNIST", MEMBERS),
    "the two official archives": lambda root: write_tree(
        root / "nmnist", {f"{p}.zip": zip_bytes(by_part(MEMBERS, p)) for p in ("Train", "Test")}
    ),
    "one archive of both": lambda root: write_tree(root / "n-mnist", {"all.zip": zip_bytes(MEMBERS)}),
    "archives in an archive": lambda root: write_tree(
        root / "n-mnist",
        {"N-MNIST.zip": zip_bytes({f"x/{p}.zip": zip_bytes(by_part(MEMBERS, p)) for p in ("Train", "Test")})},
    ),
    "a folder and an archive": lambda root: write_tree(
        root / "n-mnist", by_part(MEMBERS, "Train") | {"Test.zip": zip_bytes(by_part(MEMBERS, "Test"))}
    ),
}


@pytest.mark.usefixtures("complete_at_60")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_official_split(layout, tmp_path):
    LAYOUTS[layout](tmp_path)
    data = NMnist().load(tmp_path, seed=0)
    assert [int(n[-9:-4]) for n in data.train.names] == list(range(1, 51))
    assert [int(n[-9:-4]) for n in data.valid.names] == list(range(51, 61))
    assert [int(n[-9:-4]) for n in data.test.names] == list(range(1, 21))
    np.testing.assert_array_equal(data.valid.labels, np.arange(51, 61) % 10)
    assert data.n_in == 2312
    events = data.valid.inputs
    np.testing.assert_array_equal(
        events.packed[: events.offsets[1]], pack_recording(MEMBERS["Train/1/00051.bin"], "r", SENSOR)
    )


@pytest.mark.usefixtures("complete_at_60")
def test_the_fuller_of_two_copies_is_taken(tmp_path):
    write_tree(tmp_path / "n-mnist", nmnist_members(30, 10))
    write_tree(tmp_path / "NMNIST", MEMBERS)
    assert len(NMnist().load(tmp_path, seed=0).test) == 20


@pytest.mark.usefixtures("complete_at_60")
def test_only_the_chosen_recordings_are_read(tmp_path):
    seen = []
    write_tree(tmp_path / "n-mnist", MEMBERS | {"Train/9/00009.bin": b"damaged"})
    options = NMnist(n_train=10, n_valid=10, n_test=10)
    for seed in range(20):  # a draw without recording 9 must not fail, one with it must
        try:
            data = options.load(tmp_path, seed, lambda done, total: seen.append((done, total)))
        except ValueError as error:
            assert "00009.bin" in str(error)
            continue
        assert np.bincount(data.train.labels).tolist() == [1] * 10
        assert "Train/9/00009.bin" not in data.train.names
        break
    assert seen[-1] == (30, 30)


def test_an_incomplete_set_is_refused_with_the_setting_that_takes_it(tmp_path):
    write_tree(tmp_path / "n-mnist", MEMBERS)
    with pytest.raises(PartialDataError) as caught:
        NMnist().load(tmp_path, seed=0)
    message = str(caught.value)
    assert "60 of 60,000 training and 20 of 10,000 test recordings" in message
    assert message.endswith("; to use them: data.allow_partial=true")
    with pytest.raises(PartialDataError, match=r"; to use them: data\.allow_partial=true"):
        NMnist(path=str(tmp_path / "n-mnist")).load(tmp_path, seed=0)


def test_of_an_incomplete_set_a_stratified_tenth_is_for_validation(tmp_path):
    write_tree(tmp_path / "n-mnist", nmnist_members(200, 20))
    data = NMnist(allow_partial=True).load(tmp_path, seed=0)
    assert np.bincount(data.valid.labels).tolist() == [2] * 10
    assert np.bincount(data.train.labels).tolist() == [18] * 10
    assert len(data.test) == 20
    assert not set(data.train.names) & set(data.valid.names)


def test_an_incomplete_set_without_enough_of_a_digit_is_refused(tmp_path):
    write_tree(tmp_path / "n-mnist", nmnist_members(19, 10))
    with pytest.raises(ValueError, match=r"n-mnist: too few recordings .* class 0 has 1 samples"):
        NMnist(allow_partial=True).load(tmp_path, seed=0)


@pytest.mark.usefixtures("complete_at_60")
def test_a_gap_in_the_ids_makes_a_set_incomplete(tmp_path):
    members = {k: v for k, v in nmnist_members(61, 20).items() if k != "Train/5/00005.bin"}
    write_tree(tmp_path / "n-mnist", members)
    with pytest.raises(PartialDataError, match="60 of 60,000"):
        NMnist().load(tmp_path, seed=0)


def test_the_same_recording_in_two_class_folders_is_refused(tmp_path):
    write_tree(tmp_path / "n-mnist", MEMBERS | {"Train/3/00005.bin": random_recording(5)})
    with pytest.raises(ValueError, match=r"Train/5/00005\.bin and Train/3/00005\.bin are the same recording"):
        NMnist(allow_partial=True).load(tmp_path, seed=0)


@pytest.mark.parametrize("cut", ["not a zip", "cut off", "one byte changed"])
def test_a_damaged_archive_is_named(cut, tmp_path):
    good = zip_bytes(MEMBERS)
    bad = bytearray(good)
    bad[60] ^= 0xFF
    data = {"not a zip": b"hello", "cut off": good[:-200], "one byte changed": bytes(bad)}[cut]
    write_tree(tmp_path / "n-mnist", {"Train.zip": data})
    with pytest.raises(ValueError, match=r"n-mnist/Train\.zip"):
        NMnist(allow_partial=True).load(tmp_path, seed=0)


def test_a_given_place_without_recordings_is_reported(tmp_path):
    write_tree(tmp_path, by_part(MEMBERS, "Train"))
    with pytest.raises(FileNotFoundError, match=r"no recordings Test/<digit>/<id>\.bin"):
        NMnist(path=str(tmp_path)).load(tmp_path, seed=0)
    with pytest.raises(FileNotFoundError, match="/no/such"):
        NMnist(path="/no/such").load(tmp_path, seed=0)


@pytest.mark.usefixtures("complete_at_60")
def test_a_missing_part_is_downloaded_from_the_address_and_with_the_checksum_of_tonic(tmp_path, monkeypatch):
    write_tree(tmp_path / "n-mnist", by_part(MEMBERS, "Train"))
    asked = []

    def deliver(remote, folder, progress):
        asked.append((remote.name, remote.digest, remote.mirrors[0].split("/")[2]))
        return write_tree(folder, {remote.name: zip_bytes(by_part(MEMBERS, "Test"))}) / remote.name

    monkeypatch.setattr(nmnist, "fetch", deliver)
    assert len(NMnist().load(tmp_path, seed=0).test) == 20
    assert asked == [("test.zip", "md5:69ca8762b2fe404d9b9bad1103e97832", "data.mendeley.com")]


def test_without_files_and_network_the_error_names_the_archive_and_the_folder(tmp_path, monkeypatch):
    import tonic.datasets

    monkeypatch.setattr(tonic.datasets.NMNIST, "train_url", "http://127.0.0.1:9/train")
    with pytest.raises(DownloadError, match=r"train\.zip is not in .*n-mnist and could not be downloaded"):
        NMnist().load(tmp_path, seed=0)


@pytest.mark.parametrize("bad", [{"n_steps": 0}, {"n_steps": 70_000}, {"allow_partial": 1}, {"partial": True}])
def test_bad_options_are_refused(bad):
    with pytest.raises(ValidationError):
        NMnist(**bad)


def test_the_real_recordings_have_the_published_event_rate(staged):
    data = NMnist(path=str(staged(SMALL) / SMALL), allow_partial=True).load(None, seed=0)
    assert (len(data.train), len(data.valid), len(data.test)) == (900, 100, 100)
    rates = []
    n_binary = 0
    for split in (data.train, data.valid):
        events = split.inputs
        n_binary += len(events.packed)
        for k in range(len(events)):
            steps = events.packed[events.offsets[k] : events.offsets[k + 1]] >> 16
            rates.append((steps < 250).sum() / 250)
    assert np.mean(rates) == pytest.approx(13.1, abs=0.05)
    assert np.std(rates) == pytest.approx(4.0, abs=0.1)


def test_collapsing_real_events_into_bins_removes_one_in_a_thousand(staged):
    import zipfile

    long = Sensor(34, 34, 400)  # no event lies behind 336 ms
    with zipfile.ZipFile(staged(SMALL) / SMALL) as archive:
        sizes = [
            (len(data := archive.read(n)) // 5, len(pack_recording(data, n, long))) for n in archive.namelist()[:200]
        ]
    raw, binary = np.sum(sizes, axis=0)
    assert 1 - binary / raw == pytest.approx(0.001, abs=0.0005)
