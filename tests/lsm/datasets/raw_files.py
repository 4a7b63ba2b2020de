"""Tiny raw files of the real formats, so that the real readers run."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

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
