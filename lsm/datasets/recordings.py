"""Event recordings of ATIS sensors: 5 bytes per event, read by tonic, checked, and packed into 1-ms rasters.

Bytes: x, y, then polarity (bit 7 of the third) and 23 bits of time stamp in us, big-endian.
Raster (input variant v2 of the published code): step = round(t / 1 ms) half to even, channel = p * h * w + y * w + x.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsm.encode import pack_raster

BYTES_PER_EVENT = 5
TIME_BITS = 23
POLARITIES = 2
MAX_HEIGHT, MAX_WIDTH = 240, 256  # y = 240 marks an overflow of the clock in this format; x is one byte
EVENT = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64), ("p", np.int64)])


@dataclass(frozen=True)
class Sensor:
    """Pixels of an event camera, and the steps of 1 ms that are kept of a recording."""

    height: int
    width: int
    n_steps: int

    @property
    def n_in(self) -> int:
        """Input channels: one plane of pixels for each polarity."""
        return POLARITIES * self.height * self.width


def read_events(data: bytes, name: str, sensor: Sensor) -> NDArray[Any]:
    """Events of one recording as a structured array of `x`, `y` (pixels), `t` (us) and `p` (0 or 1), in order of time.

    Raises `ValueError`, naming the file `name` and the first bad event, for an empty or cut-off file, an event outside
    the sensor and time that runs backwards.
    """
    from tonic.io import read_mnist_file

    if not data:
        raise ValueError(f"{name}: the recording is empty (0 bytes)")
    if len(data) % BYTES_PER_EVENT:
        raise ValueError(f"{name}: {len(data)} bytes, no multiple of {BYTES_PER_EVENT}: truncated or no ATIS recording")
    events = read_mnist_file(io.BytesIO(data), dtype=EVENT, is_stream=True)
    if not len(events):
        raise ValueError(f"{name}: the recording holds no events, only clock overflows")
    outside = (events["x"] >= sensor.width) | (events["y"] >= sensor.height)
    if outside.any():
        k = int(outside.argmax())
        x, y = events["x"][k], events["y"][k]
        raise ValueError(f"{name}: event {k} at x={x}, y={y} is outside the sensor of {sensor.width} x {sensor.height}")
    backwards = np.diff(events["t"]) < 0
    if backwards.any():
        k = int(backwards.argmax())
        before, after = events["t"][k], events["t"][k + 1]
        raise ValueError(f"{name}: time runs backwards at event {k + 1}, from {before} to {after} us")
    return events


def pack_recording(data: bytes, name: str, sensor: Sensor) -> NDArray[np.uint32]:
    """One recording as a packed raster (see `lsm.encode`); raises as `read_events`."""
    return pack_events(read_events(data, name, sensor), sensor)


def pack_events(events: NDArray[Any], sensor: Sensor) -> NDArray[np.uint32]:
    """Events of one recording, as `read_events` gives them, as a packed raster."""
    steps = np.rint(events["t"] / 1000).astype(np.int64)  # half to even, as Python's and NumPy's round
    channels = (events["p"] * sensor.height + events["y"]) * sensor.width + events["x"]
    return pack_raster(steps, channels, sensor.n_in, sensor.n_steps)


def to_bytes(events: NDArray[Any]) -> bytes:
    """Events of one recording in the 5-byte format: what `read_events` reads back as they are.

    Raises `ValueError` for a time stamp that 23 bits do not hold (8.4 s).
    """
    if len(events) and not 0 <= events["t"].min() <= events["t"].max() < 1 << TIME_BITS:
        raise ValueError(f"time stamps up to {events['t'].max()} us; the format holds {(1 << TIME_BITS) - 1}")
    rows = np.empty((len(events), BYTES_PER_EVENT), np.uint8)
    stamped = events["p"] << TIME_BITS | events["t"]
    rows[:, 0], rows[:, 1] = events["x"], events["y"]
    for column, shift in ((2, 16), (3, 8), (4, 0)):
        rows[:, column] = stamped >> shift & 0xFF
    return rows.tobytes()
