"""What a liquid sees: images as Bernoulli rates, event recordings as 1-ms binary rasters.

| name | shape, dtype | meaning |
|---|---|---|
| `pixels` | `(n_samples, n_in)` uint8 | grey values of an image, row by row |
| `scale` | `(n_samples,)` float32 | event probability per ms = `min(1, pixels * scale)` |
| `packed` | `(n_events,)` uint32 | `step << 16 | channel`, ascending inside each sample, no duplicates |
| `offsets` | `(n_samples + 1,)` int64 | sample `k` owns `packed[offsets[k]:offsets[k + 1]]` |
| `labels` | `(n_samples,)` int64 | class index |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CHANNELS = 1 << 16
MAX_STEPS = 1 << 16


@dataclass(frozen=True)
class Rates:
    """Images as independent Bernoulli draws per pixel and ms (input variant v1 of the original).

    Each image is divided by its own sum, so that every image of a set drives the liquid with the same total
    rate; `maximum`, the brightest pixel share of the training set, then brings the largest rate to one event per ms.
    """

    pixels: NDArray[np.uint8]
    scale: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def n_in(self) -> int:
        """Number of input channels (pixels)."""
        return int(self.pixels.shape[1])

    def take(self, index: NDArray[np.integer] | slice) -> Rates:
        """The samples at `index`, in that order."""
        return Rates(self.pixels[index], self.scale[index])


@dataclass(frozen=True)
class Events:
    """Recordings as binary rasters of 1-ms bins, stored sparsely (input variant v2 of the original)."""

    packed: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    n_in: int
    n_steps: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, index: NDArray[np.integer] | slice) -> Events:
        """The samples at `index`, in that order."""
        chosen = np.arange(len(self))[index]
        starts, ends = self.offsets[chosen], self.offsets[chosen + 1]
        return Events.from_packed(
            [self.packed[a:b] for a, b in zip(starts, ends, strict=True)], self.n_in, self.n_steps
        )

    @staticmethod
    def from_packed(parts: list[NDArray[np.uint32]], n_in: int, n_steps: int) -> Events:
        """Join the packed rasters of single samples, as `pack_raster` makes them."""
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(p) for p in parts], out=offsets[1:])
        packed = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
        return Events(packed, offsets, n_in, n_steps)

    @staticmethod
    def from_lists(
        steps: list[NDArray[np.integer]], channels: list[NDArray[np.integer]], n_in: int, n_steps: int
    ) -> Events:
        """Pack one `(steps, channels)` pair of arrays for each sample; what lies outside the raster is dropped.

        `steps` are ms bins, `channels` input indices; several events in one bin collapse to one.
        Raises `ValueError` where the raster does not fit the packed form.
        """
        parts = [pack_raster(t, c, n_in, n_steps) for t, c in zip(steps, channels, strict=True)]
        return Events.from_packed(parts, n_in, n_steps)


def pack_raster(
    steps: NDArray[np.integer], channels: NDArray[np.integer], n_in: int, n_steps: int
) -> NDArray[np.uint32]:
    """One sample in packed form: ascending, without duplicates, without what lies outside `n_in` x `n_steps`.

    `steps` (ms bins) and `channels` have one entry per event.
    Raises `ValueError` where the raster does not fit the packed form.
    """
    if not (0 < n_in <= MAX_CHANNELS and 0 < n_steps <= MAX_STEPS):
        raise ValueError(f"a raster of {n_in} channels x {n_steps} ms: at most {MAX_CHANNELS} x {MAX_STEPS}")
    t, c = np.asarray(steps, np.int64), np.asarray(channels, np.int64)
    inside = (t >= 0) & (t < n_steps) & (c >= 0) & (c < n_in)
    codes = np.sort((t[inside] << 16 | c[inside]).astype(np.uint32), kind="stable")
    return codes[np.concatenate([[True], codes[1:] != codes[:-1]])] if len(codes) else codes


Inputs = Rates | Events


def concatenate(parts: Sequence[Inputs]) -> Inputs:
    """The samples of several encoded inputs in a row; raises `ValueError` unless all are of one kind and width."""
    first = parts[0]
    if any(type(p) is not type(first) or p.n_in != first.n_in for p in parts):
        raise ValueError(f"cannot join inputs of {', '.join(f'{type(p).__name__} x {p.n_in}' for p in parts)} channels")
    if isinstance(first, Rates):
        rates = [p for p in parts if isinstance(p, Rates)]
        return Rates(np.concatenate([p.pixels for p in rates]), np.concatenate([p.scale for p in rates]))
    events = [p for p in parts if isinstance(p, Events)]
    samples = [e.packed[a:b] for e in events for a, b in zip(e.offsets[:-1], e.offsets[1:], strict=True)]
    return Events.from_packed(samples, first.n_in, max(e.n_steps for e in events))


@dataclass(frozen=True)
class Split:
    """One part (train, valid or test) of a labelled data set; `names` says where each sample comes from."""

    inputs: Inputs
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.integer]) -> Split:
        """The samples at `index`, in that order."""
        names = tuple(self.names[k] for k in index) if self.names else ()
        return Split(self.inputs.take(index), self.labels[index], names)


@dataclass(frozen=True)
class Dataset:
    """A labelled data set, encoded and split.

    `encoding` holds what a saved model needs to encode new files the same way (`kind`, `height`, `width`, and
    `maximum` for images); `checksums` maps file names to digests; `notes` are facts worth logging.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    encoding: dict[str, Any]
    source: str
    checksums: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return self.train.inputs.n_in


def brightest_share(images: NDArray[np.uint8]) -> float:
    """The largest `pixel / sum(image)` over a set of `(n, ...)` images: the constant that `image_rates` divides by."""
    flat = images.reshape(len(images), -1)
    total = flat.sum(axis=1, dtype=np.int64)
    lit = total > 0
    return float((flat[lit].max(axis=1) / total[lit]).max()) if lit.any() else 1.0


def image_rates(images: NDArray[np.uint8], maximum: float) -> Rates:
    """Bernoulli rates `(image / sum(image)) / maximum` of `(n, height, width)` uint8 images (published code).

    A black image has no events (scale 0) instead of the NaN that a division by its sum would give.
    """
    flat = np.ascontiguousarray(images.reshape(len(images), -1))
    total = flat.sum(axis=1, dtype=np.int64)
    scale = np.zeros(len(flat), np.float32)
    np.divide(1.0 / maximum, total, out=scale, where=total > 0, casting="unsafe")
    return Rates(flat, scale)
