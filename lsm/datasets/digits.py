"""The 1,797 scanned digits inside scikit-learn (Alpaydin & Kaynak, UCI 1998), brought to the frame of MNIST.

The originals are 8x8 pixels with values 0..16 and fill all 8 rows. MNIST was made by fitting each digit into a box of
20x20, anti-aliased, and putting its centre of mass at the centre of 28x28; so the same is done here: bicubic to 20x20,
grey values 0..255, whole-pixel shift of the centre of mass to the centre. Mean grey 0.16 of white (MNIST: 0.13).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.fetch import Progress, digest_of
from lsm.datasets.subsets import STRICT, SubsetOptions, stratified_split
from lsm.encode import Dataset, Rates, Split, brightest_share, image_rates
from lsm.streams import generator

N_VALID, N_TEST = 300, 300  # of 1,797; 1,197 remain for training
FRAME, BOX = 28, 20
LARGEST = 16  # grey value of a full 4x4 block of the scan
MNIST_EVENTS_PER_MS = 19.95
"""Input events per ms of every MNIST training image under the published encoding."""
CLEARLY_LESS = 0.9
"""Share of the events per ms asked for below which images are told to be too sparse for them."""


@dataclass(frozen=True, config=STRICT)
class Digits(SubsetOptions):
    """Options and loader of the embedded digits; raises pydantic's `ValidationError` on a bad value."""

    name: str = "digits"
    events_per_ms: Annotated[float | None, Field(gt=0, le=FRAME * FRAME)] = MNIST_EVENTS_PER_MS

    kind: ClassVar[str] = "images"
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def load(self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None) -> Dataset:
        """Enlarge, split (1,197 / 300 / 300, stratified, by `seed`) and encode; needs no file and no network.

        `maximum` replaces the constant of the rates. Raises `ValueError` for a subset that is too large.
        """
        from sklearn.datasets import load_digits

        scans = load_digits()
        images, labels = enlarge(scans.images), scans.target.astype(np.int64)
        train, valid, test = stratified_split(labels, N_VALID, N_TEST, generator(seed, "split"))
        seen = images[np.concatenate([train, valid])]
        used = maximum or rate_constant(seen, self.events_per_ms)
        splits = {}
        for part, index in (("train", train), ("valid", valid), ("test", test)):
            chosen = index[self.choose(part, labels[index], seed)]
            names = tuple(f"digits[{k}]" for k in chosen)
            splits[part] = Split(image_rates(images[chosen], used), labels[chosen], names)
        return Dataset(
            name=self.name,
            class_names=self.class_names,
            **splits,
            encoding={"kind": "images", "height": FRAME, "width": FRAME, "maximum": used, "invert": False},
            source="sklearn.datasets.load_digits",
            checksums={"digits": digest_of(scans.images.tobytes() + labels.tobytes())},
            notes=drive_notes(image_rates(seen, used), 1 / used),
        )


def rate_constant(images: NDArray[np.uint8], events_per_ms: float | None) -> float:
    """What image shares are divided by: so many events per ms for each image, or by the brightest share if `None`.

    The brightest share of a set falls with the number of images (it belongs to the one sparsest image), so a small set
    would drive the liquid several times harder than MNIST does: 76 instead of 20 events per ms for the digits.
    """
    return brightest_share(images) if events_per_ms is None else 1 / events_per_ms


def drive_notes(rates: Rates, asked: float) -> dict[str, Any]:
    """Events per ms that images drive a liquid with on average, and a warning where these are clearly fewer than asked for.

    A pixel has at most one event per ms, so an image of few bright pixels cannot have as many events as others.
    """
    means = []
    for first in range(0, len(rates), 1000):  # a block at a time: as numbers, pixels take four times the memory
        block = rates.take(slice(first, first + 1000))
        per_ms = np.minimum(block.pixels * block.scale[:, None], 1).sum(axis=1, dtype=np.float64)
        means.append(per_ms[block.scale > 0])
    drive = float(np.concatenate(means).mean()) if any(map(len, means)) else 0.0
    notes: dict[str, Any] = {"events_per_ms": drive}
    if 0 < drive < CLEARLY_LESS * asked:
        notes["warning"] = (
            f"few pixels of the images are bright, and each has at most one event per ms: {drive:.3g} events per ms on "
            f"average, not {asked:.4g}"
        )
    return notes


def enlarge(scans: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Digits of `(n, 8, 8)`, grey 0..16, as `(n, 28, 28)` uint8 in the frame of MNIST."""
    from PIL import Image

    border = (FRAME - BOX) // 2
    frames = np.zeros((len(scans), FRAME, FRAME), np.uint8)
    y, x = np.mgrid[:BOX, :BOX]
    for frame, scan in zip(frames, scans, strict=True):
        small = Image.fromarray((scan * (255 / LARGEST)).astype(np.float32))
        box = np.clip(np.rint(np.asarray(small.resize((BOX, BOX), Image.Resampling.BICUBIC))), 0, 255)
        centre = (BOX - 1) / 2
        down = int(np.clip(np.rint(centre - (y * box).sum() / box.sum()), -border, border))
        right = int(np.clip(np.rint(centre - (x * box).sum() / box.sum()), -border, border))
        frame[border + down : border + down + BOX, border + right : border + right + BOX] = box
    return frames
