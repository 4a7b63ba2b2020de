import numpy as np
import pytest

from lsm.datasets.cochlea import Cochlea
from lsm.datasets.cochlea_statistics import (
    COMPARED,
    STATISTICS,
    distance,
    fit_cochlea,
    measure,
    percentile_of,
    read_bs1,
    table,
)


def bs1_bytes(events):
    return b"".join(int(c).to_bytes(2, "big") + (1 << 23 | int(t)).to_bytes(3, "big") for t, c in events)


def test_a_file_of_five_bytes_an_event_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "a.bs1"
    path.write_bytes(bs1_bytes([(0, 63), (1500, 0), ((1 << 23) - 1, 7)]))
    times, channels = read_bs1(path)
    assert times.tolist() == [0, 1.5, 8388.607] and channels.tolist() == [63, 0, 7]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, no multiple of 5"),
        (bs1_bytes([(1, 1)])[:-1], "4 bytes, no multiple"),
        (bs1_bytes([(1, 64)]), "channel 64; a cochlea has 64"),
        (bs1_bytes([(5, 1), (9, 1), (8, 1)]), "time runs backwards at event 2"),
    ],
)
def test_a_damaged_file_is_told(tmp_path, data, message):
    path = tmp_path / "a.bs1"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_bs1(path)


def test_numbers_of_a_hand_made_recording():
    """A click at 0, then two channels that fire every 2 and every 4 ms for 80 ms."""
    fast, slow = np.arange(500, 580, 2.0), np.arange(500, 580, 4.0)
    times = np.concatenate([[0.0], fast, slow])
    channels = np.concatenate([[60], np.full(len(fast), 10), np.full(len(slow), 30)]).astype(int)
    order = np.argsort(times, kind="stable")
    found = measure((times[order], channels[order]))
    assert set(found) == set(STATISTICS)
    assert found["events"] == 61 and found["busiest"] == 60 and found["active_channels"] == 2
    assert found["mean_channel"] == pytest.approx((40 * 10 + 20 * 30) / 60)
    assert found["spread_channels"] == pytest.approx(np.std([10] * 40 + [30] * 20))
    assert found["median_interval_ms"] == 2 and found["short_intervals"] == 0
    assert found["filled"] == pytest.approx(60 / (129 * 64))


def test_one_event_is_too_few_and_counts_as_silence_in_a_table():
    single = (np.array([1.0]), np.array([3]))
    with pytest.raises(ValueError, match="1 events are too few"):
        measure(single)
    assert table([single])["events"].tolist() == [0]


def test_place_among_others_and_distance():
    real = dict.fromkeys(STATISTICS, 2.0)
    simulated = {name: np.array([1.0, 2.0, 3.0, 3.0]) for name in STATISTICS}
    assert percentile_of(real, simulated) == dict.fromkeys(STATISTICS, 37.5)
    same = {name: np.array([2.0]) for name in STATISTICS}
    assert distance(real, same) == 0
    off = same | {"mean_channel": np.array([2.0 + COMPARED["mean_channel"]])}
    assert distance(real, off) == pytest.approx(1)
    off = same | {"busiest": np.array([2.0 * np.exp(COMPARED["busiest"])])}
    assert distance(real, off) == pytest.approx(1)


def test_the_fit_brings_the_constants_nearer():
    t = np.arange(2400) / 8000
    sounds = [np.sin(2 * np.pi * f * t) * np.hanning(len(t)) for f in (400, 900)]
    from lsm.datasets.cochlea import recordings

    def made(cochlea):
        return list(recordings(sounds, 8000, ["0", "1"], 0, cochlea))

    real = made(Cochlea())[0]
    start = Cochlea(threshold_ms=0.5)
    found = fit_cochlea(sounds, 8000, real, start, evaluations=10)
    wanted = measure(real)
    assert distance(wanted, table(made(found))) < 0.8 * distance(wanted, table(made(start)))
    assert found.threshold_ms < start.threshold_ms
