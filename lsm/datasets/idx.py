"""The IDX format of MNIST and its relatives: a big-endian header, then bytes; plain or gzip."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LABELS_MAGIC, IMAGES_MAGIC = 2049, 2051  # unsigned bytes in one and in three dimensions
GZIP_MAGIC = b"\x1f\x8b"


def parse_images(data: bytes, path: Path) -> NDArray[np.uint8]:
    """Images of an IDX file as `(n, height, width)`; `path` is named in the `ValueError` of a bad file."""
    return _parse(data, path, IMAGES_MAGIC, "images")


def parse_labels(data: bytes, path: Path) -> NDArray[np.int64]:
    """Labels of an IDX file as `(n,)`; `path` is named in the `ValueError` of a bad file."""
    return _parse(data, path, LABELS_MAGIC, "labels").astype(np.int64)


def _parse(data: bytes, path: Path, magic: int, what: str) -> NDArray[np.uint8]:
    if not data:
        raise ValueError(f"{path}: the file is empty (0 bytes)")
    raw = _unzip(data, path) if data.startswith(GZIP_MAGIC) else data
    n_dims = magic & 0xFF
    header = 4 * (1 + n_dims)
    if len(raw) >= 4 and (found := int.from_bytes(raw[:4], "big")) != magic:
        raise ValueError(f"{path}: magic number {found}, IDX {what} have {magic}")
    if len(raw) < header:
        raise ValueError(f"{path}: truncated: {len(raw)} bytes, the header alone has {header}")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=n_dims, offset=4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(raw) != expected:
        fault = "truncated" if len(raw) < expected else "too long"
        raise ValueError(f"{path}: {fault}: {len(raw)} bytes unpacked, {shape[0]} {what} need {expected}")
    if 0 in shape:
        raise ValueError(f"{path}: holds no {what} (shape {shape})")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _unzip(data: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: truncated or damaged gzip file of {len(data)} bytes ({error})") from error
