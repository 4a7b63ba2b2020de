"""Two made-up senses of classes that share latent factors, so that unseen classes can be reached; no download.

A class is a combination of levels, one of each factor: with factors (4, 4) class 6 is level 1 of the first, level 2 of the
second. Each level has a template in each sense, and a class shows the sum of its levels' templates. Seen classes teach what
every level looks and sounds like; an unseen class is a combination of known levels that was never shown. Without shared
factors zero-shot search is chance, whatever the method.

| sense | form | template of a level | varies from sample to sample |
|---|---|---|---|
| image | that of N-MNIST: 34 x 34 x 2, 300 ms | three blobs in the middle 16 x 16 pixels | place, brightness |
| audio | that of N-TIDIGITS: 64 channels | a band that glides over the channels | length, channel, loudness |

All events are Poisson, with a background of noise. Rates are near those of the recordings that they stand for: the share
of filled 6-ms bins of an image is 0.09 per pixel as in N-MNIST's crop. Chosen by us, none by an accuracy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lsm.datasets.fetch import Progress
from lsm.datasets.pairs import PairedDataset, pair_by_class
from lsm.datasets.recordings import POLARITIES, Sensor
from lsm.datasets.subsets import PARTS, STRICT
from lsm.encode import Dataset, Events, Split, pack_raster
from lsm.streams import generator

SENSOR = Sensor(34, 34, 300)
CROP, FIRST_PIXEL = 16, 9
CHANNELS, SHORTEST_MS, LONGEST_MS = 64, 500, 900
IMAGE_HZ, AUDIO_HZ = 16.0, 14.0
"""Mean events per second of a pixel (each polarity, in the middle) and of a channel."""

Count = Annotated[int, Field(ge=1)]
Level = Annotated[int, Field(ge=2, le=8)]


@dataclass(frozen=True, config=STRICT)
class SyntheticPairs:
    """Options and maker of the synthetic pair; raises pydantic's `ValidationError` on a bad value."""

    name: str = "synthetic_pairs"
    factors: Annotated[tuple[Level, Level], Field(strict=False, description="levels of the two factors")] = (4, 4)
    unseen: Annotated[tuple[int, ...], Field(strict=False, description="classes that training never sees")] = (
        0,
        5,
        10,
        15,
    )
    n_train: Annotated[Count, Field(description="samples of each seen class and sense")] = 40
    n_valid: Annotated[Count, Field(description="samples of each seen class and sense")] = 10
    n_test: Annotated[Count, Field(description="samples of each class and sense")] = 25
    noise: Annotated[float, Field(ge=0, lt=1, description="share of the events that is noise")] = 0.2
    seed: Annotated[int, Field(ge=0, description="of templates and samples, apart from the run's")] = 0

    kind: ClassVar[str] = "pairs"

    @model_validator(mode="after")
    def _reachable(self) -> SyntheticPairs:
        if strange := [c for c in self.unseen if not 0 <= c < self.n_classes]:
            raise ValueError(f"unseen class {strange[0]}: allowed are 0 to {self.n_classes - 1}")
        if not self.unseen:
            raise ValueError("unseen=[]: at least one class is needed")
        known = [{levels[k] for levels in map(self.levels, self.seen)} for k in range(2)]
        for c in self.unseen:
            for k, level in enumerate(self.levels(c)):
                if level not in known[k]:
                    raise ValueError(f"unseen class {c} has level {level} of factor {k}, which no seen class shows")
        return self

    @property
    def n_classes(self) -> int:
        """Combinations of the levels."""
        return self.factors[0] * self.factors[1]

    @property
    def seen(self) -> tuple[int, ...]:
        """Classes of the training part."""
        return tuple(c for c in range(self.n_classes) if c not in self.unseen)

    def levels(self, c: int) -> tuple[int, int]:
        """Level of each factor of class `c`."""
        return divmod(c, self.factors[1])

    def load(
        self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None
    ) -> PairedDataset:
        """Make all samples; `root`, `seed` and `maximum` change nothing, since every network sees the same set."""
        makers: dict[str, _Images | _Sounds] = {
            "image": _Images(self.factors, self.seed, self.noise),
            "audio": _Sounds(self.factors, self.seed, self.noise),
        }
        levels = [self.levels(c) for c in range(self.n_classes)]
        class_names = tuple("ABCDEFGH"[a] + "abcdefgh"[b] for a, b in levels)
        senses, done, total = {}, 0, 2 * sum(len(self._labels(part)) for part in PARTS)
        for sense, maker in makers.items():
            splits, digest = {}, hashlib.sha256()
            for part in PARTS:
                labels, rng = self._labels(part), generator(self.seed, f"synthetic/{sense}/{part}")
                events = Events.from_packed([maker.sample(levels[c], rng) for c in labels], maker.n_in, maker.n_steps)
                digest.update(events.packed.data)
                names = tuple(f"synthetic/{sense}/{part}[{k}]" for k in range(len(labels)))
                splits[part] = Split(events, labels, names)
                done += len(labels)
                if progress:
                    progress(done, total)
            senses[sense] = Dataset(
                name=f"{self.name}/{sense}",
                class_names=class_names,
                **splits,
                encoding=dict(maker.encoding),
                source="synthetic, lsm.datasets.synthetic_pairs",
                checksums={f"synthetic {sense}": f"sha256:{digest.hexdigest()}"},
                notes={"synthetic": True, "recording_seed": self.seed},
            )
        pairs = {part: pair_by_class(*(getattr(d, part).labels for d in senses.values())) for part in PARTS[:2]}
        return PairedDataset(
            self.name, ("image", "audio"), senses["image"], senses["audio"], self.seen, self.unseen, class_names,
            pairs["train"], pairs["valid"], notes={"synthetic": True},
        )  # fmt: skip

    def _labels(self, part: str) -> NDArray[np.int64]:
        classes = np.arange(self.n_classes) if part == "test" else np.array(self.seen)
        return np.repeat(classes, {"train": self.n_train, "valid": self.n_valid, "test": self.n_test}[part])


class _Images:
    """Blobs of the two levels in the middle of an event camera, at rest, flickering."""

    n_in, n_steps = SENSOR.n_in, SENSOR.n_steps
    encoding: ClassVar[dict[str, Any]] = {
        "kind": "events", "height": 34, "width": 34, "polarities": POLARITIES, "n_steps": SENSOR.n_steps
    }  # fmt: skip

    def __init__(self, factors: tuple[int, int], seed: int, noise: float) -> None:
        rng, self.noise = generator(seed, "synthetic/image/templates"), noise
        self.centres = [rng.uniform(1, CROP - 2, (n, 3, 2)) for n in factors]

    def sample(self, levels: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint32]:
        """One packed raster: blobs moved by about a pixel, 0.8 to 1.25 times as bright."""
        grid = np.mgrid[:CROP, :CROP].transpose(1, 2, 0)
        shift, gain = rng.normal(0, 0.7, 2), np.exp(rng.uniform(-0.22, 0.22))
        centres = np.concatenate([of[level] for of, level in zip(self.centres, levels, strict=True)]) + shift
        drawn = np.exp(-((grid[:, :, None] - centres) ** 2).sum(axis=-1) / (2 * 1.5**2)).sum(axis=-1)
        rate = (1 - self.noise) * drawn / drawn.mean() + self.noise
        expected = gain * IMAGE_HZ * rate * self.n_steps / 1000
        counts = rng.poisson(np.broadcast_to(expected, (POLARITIES, CROP, CROP)))
        p, y, x = (np.repeat(index, counts.ravel()) for index in np.indices(counts.shape).reshape(3, -1))
        channels = (p * SENSOR.height + y + FIRST_PIXEL) * SENSOR.width + x + FIRST_PIXEL
        return pack_raster(rng.integers(0, self.n_steps, len(p)), channels, self.n_in, self.n_steps)


class _Sounds:
    """Bands of the two levels that glide over the channels of a cochlea."""

    n_in, n_steps = CHANNELS, LONGEST_MS
    encoding: ClassVar[dict[str, Any]] = {"kind": "ntidigits", "n_channels": CHANNELS, "n_steps": LONGEST_MS}

    def __init__(self, factors: tuple[int, int], seed: int, noise: float) -> None:
        rng, self.noise = generator(seed, "synthetic/audio/templates"), noise
        self.ends = [rng.uniform(4, CHANNELS - 5, (n, 2)) for n in factors]

    def sample(self, levels: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint32]:
        """One packed raster: bands moved by about two channels, 500 to 900 ms long, 0.8 to 1.25 times as loud."""
        n_ms, bins = int(rng.integers(SHORTEST_MS, LONGEST_MS)), 50
        shift, gain = rng.normal(0, 1.5), np.exp(rng.uniform(-0.22, 0.22))
        along = (np.arange(bins) + 0.5) / bins
        drawn = np.zeros((bins, CHANNELS))
        for of, level in zip(self.ends, levels, strict=True):
            start, end = of[level] + shift
            centre = start + (end - start) * along
            drawn += np.exp(-((np.arange(CHANNELS) - centre[:, None]) ** 2) / (2 * 3.0**2))
        rate = (1 - self.noise) * drawn / drawn.mean() + self.noise
        counts = rng.poisson(gain * AUDIO_HZ * rate * n_ms / bins / 1000)
        at, channels = (np.repeat(index, counts.ravel()) for index in np.indices(counts.shape).reshape(2, -1))
        steps = ((at + rng.uniform(0, 1, len(at))) * n_ms / bins).astype(np.int64)
        return pack_raster(steps, channels, self.n_in, self.n_steps)
