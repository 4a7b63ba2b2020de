"""Tiny raw files of the real formats, so that the real readers run."""

from __future__ import annotations

import gzip
import io
import wave
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def idx_bytes(array: ArrayLike) -> bytes:
    """An IDX file of unsigned bytes: labels (1-D) or images (3-D)."""
    data = np.asarray(array, np.uint8)
    return bytes([0, 0, 8, data.ndim]) + np.array(data.shape, ">u4").tobytes() + data.tobytes()


def write_idx_set(folder: Path, n_train: int = 120, n_test: int = 40, seed: int = 0) -> Path:
    """The four files of an MNIST-like set of 6x5 images in four classes; label `k` sits in pixel 0 as `k + 1`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for part, n in (("train", n_train), ("t10k", n_test)):
        labels = np.arange(n) % 4
        images = rng.integers(0, 200, (n, 6, 5))
        images[:, 0, 0] = labels + 1
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder


def atis_bytes(events: Iterable[tuple[int, int, int, int]]) -> bytes:
    """Events `(x, y, t_us, p)` in the 5-byte format."""
    return b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for x, y, t, p in events)


def random_recording(seed: int, n: int = 50, size: int = 34) -> bytes:
    """A valid recording of `n` events within 300 ms."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 299_000, n))
    return atis_bytes(zip(*(rng.integers(0, size, n).tolist() for _ in "xy"), t.tolist(), [1] * n, strict=True))


def nmnist_members(n_train: int, n_test: int) -> dict[str, bytes]:
    """Members of a small set in the official layout; id `k` shows digit `k % 10`."""
    parts = (("Train", n_train), ("Test", n_test))
    return {f"{part}/{k % 10}/{k:05d}.bin": random_recording(k) for part, n in parts for k in range(1, n + 1)}


def write_tree(folder: Path, members: Mapping[str, bytes]) -> Path:
    """Members as files below `folder`."""
    for name, data in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """Members as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def png_bytes(pixels: ArrayLike, mode: str | None = None, kind: str = "PNG") -> bytes:
    """Grey values (or, for another `mode`, what Pillow makes of them) as an image file."""
    image = Image.fromarray(np.asarray(pixels))
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def picture_tree(counts: Mapping[str, int], size: int = 28) -> dict[str, bytes]:
    """`counts[class]` noise images for each class, named `<class>/<k>.png`."""
    rng = np.random.default_rng(1)
    return {
        f"{name}/{k:03d}.png": png_bytes(rng.integers(0, 256, (size, size), dtype=np.uint8))
        for name, n in counts.items()
        for k in range(n)
    }


def wav_bytes(sound: ArrayLike, rate_hz: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """A wav file of a sound with values in -1 .. 1."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(np.rint(np.asarray(sound) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def spoken_members(speakers: Iterable[str] = ("anna", "bert"), n: int = 12) -> dict[str, bytes]:
    """`n` recordings of 60 ms of each digit by each speaker: two tones of the digit, with noise."""
    rng, t = np.random.default_rng(3), np.arange(480) / 8000
    members = {}
    for digit in range(10):
        for speaker in speakers:
            for k in range(n):
                tones = np.sin(2 * np.pi * (300 + 60 * digit) * t) + np.sin(2 * np.pi * (1200 + 150 * digit) * t)
                sound = 0.2 * tones + 0.01 * rng.standard_normal(len(t))
                members[f"recordings/{digit}_{speaker}_{k}.wav"] = wav_bytes(sound)
    return members


def write_ntidigits(path: Path, ids: Mapping[str, Iterable[str]], n_events: int = 40) -> dict[str, tuple]:
    """The HDF5 file of N-TIDIGITS with samples of these ids in `train` and `test`; returns times (s) and channels of each."""
    rng, written = np.random.default_rng(4), {}
    with h5py.File(path, "w") as file:
        for part, names in ids.items():
            names = list(names)
            for name in names:
                # off the edges of the ms: readers may round differently there
                times = (np.sort(rng.integers(0, 600, n_events)) + rng.uniform(0.2, 0.8, n_events)) / 1000
                channels = rng.integers(0, 64, n_events)
                written[name] = times, channels
                file.create_dataset(f"{part}_timestamps/{name}", data=times)
                file.create_dataset(f"{part}_addresses/{name}", data=channels.astype(np.uint8))
            file.create_dataset(f"{part}_labels", data=np.array([name.encode() for name in names]))
    return written


def write_mat_v73(path: Path, arrays: Mapping[str, ArrayLike], chunks: bool = False) -> Path:
    """Arrays as MATLAB v7.3 writes them: HDF5 behind 512 bytes of its own, all axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=np.asarray(array).transpose(), chunks=True if chunks else None)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: test".ljust(512))
    return path


def letter_cubes(n_trials: int = 27, n_bins: int = 9) -> dict[str, np.ndarray]:
    """Counts of crossings, `(n_trials, n_bins, 192)` for each letter; electrode k of trial k has a crossing in bin 0."""
    rng, cubes = np.random.default_rng(5), {}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        cube = rng.poisson(0.1, (n_trials, n_bins, 192)).astype(np.float64)
        cube[:, 0] = 0
        cube[np.arange(n_trials), 0, np.arange(n_trials)] = 2
        cubes[f"neuralActivityCube_{letter}"] = cube
    return cubes


def emnist_members(n_train: int = 156, n_test: int = 78) -> dict[str, bytes]:
    """The four files of EMNIST letters as the archive has them; image k shows letter k % 26, bright in row k % 28."""
    members = {}
    for part, n in (("train", n_train), ("test", n_test)):
        images = np.zeros((n, 28, 28), np.uint8)
        images[np.arange(n), np.arange(n) % 28] = np.linspace(0, 255, 28)
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(n) % 26 + 1)):
            members[f"gzip/emnist-letters-{part}-{kind}-ubyte.gz"] = gzip.compress(idx_bytes(array))
    return members
