"""N-MNIST as the authors of the random-RRAM liquid have it: two MATLAB files of binned recordings.

`NMNIST_train_data.mat` is v7.3 (HDF5), `NMNIST_test_data.mat` v5; `image` is `(n, 34, 34, 2, n_bins)`, `label` `(n, 10)`
one-hot (published code, and that of He et al. 2020, Neural Networks 132:108). The width of a bin is stated nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsm.datasets.matfile import MatFile
from lsm.datasets.recordings import POLARITIES, Sensor
from lsm.encode import pack_raster

FILES = {"Train": "NMNIST_train_data.mat", "Test": "NMNIST_test_data.mat"}
N_CLASSES = 10


@dataclass(frozen=True)
class Binned:
    """One part of the set: its file, the size of its arrays, and the digit of each recording `(n,)`."""

    file: MatFile
    shape: tuple[int, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def path(self) -> str:
        """Of the file."""
        return str(self.file.path)


def find_mat(place: Path) -> dict[str, Path]:
    """The two files in a folder, by part; those that are there."""
    return {part: place / name for part, name in FILES.items() if (place / name).is_file()}


def open_binned(path: Path, sensor: Sensor, stack: ExitStack) -> Binned:
    """Check one file and read its labels; raises `ValueError` for another shape or labels that are not one-hot."""
    file = MatFile(path, stack)
    shape, labels = file.shape("image"), file.read("label")
    if len(shape) != 5 or shape[1:4] != (sensor.height, sensor.width, POLARITIES) or 0 in shape:
        expected = f"(n, {sensor.height}, {sensor.width}, {POLARITIES}, n_bins)"
        raise ValueError(f"{path}: image has the shape {shape} in MATLAB's order, not {expected}")
    if labels.shape != (shape[0], N_CLASSES):
        raise ValueError(f"{path}: label has the shape {labels.shape}, not ({shape[0]}, {N_CLASSES})")
    wrong = np.flatnonzero(((labels != 0).sum(axis=1) != 1) | (labels.max(axis=1) != 1))
    if len(wrong):
        raise ValueError(f"{path}: label of recording {wrong[0]} is not one-hot: {labels[wrong[0]].tolist()}")
    return Binned(file, shape, labels.argmax(axis=1).astype(np.int64))


def pack_binned(
    part: Binned, index: NDArray[np.int64], sensor: Sensor, bin_ms: int, tick: Callable[[], None]
) -> list[NDArray[np.uint32]]:
    """Packed rasters (see `lsm.encode`) of the recordings at `index`: bin k is put into step `k * bin_ms`.

    The first spatial axis is taken for rows, as the second index of the array in MATLAB. Only blocks of the file that hold
    chosen recordings are read.
    """
    rasters: dict[int, NDArray[np.uint32]] = {}
    wanted, size = set(index.tolist()), part.file.block("image")
    for first in range(0, len(part), size):
        inside = [k for k in range(first, min(first + size, len(part))) if k in wanted]
        if not inside:
            continue
        block = part.file.read("image", first, first + size)
        for k in inside:
            y, x, p, t = np.nonzero(block[k - first])
            channels = (p * sensor.height + y) * sensor.width + x
            rasters[k] = pack_raster(t * bin_ms, channels, sensor.n_in, sensor.n_steps)
            tick()
    return [rasters[k] for k in index.tolist()]
