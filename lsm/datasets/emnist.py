"""EMNIST letters (Cohen et al. 2017, arXiv:1702.05373) as rate-coded spikes: 50 steps, 26 classes.

    spike of a pixel in a step with probability  max(0, 2 grey / 255 - 1) * max_spikes / n_steps

so dark pixels never spike and the brightest 20 times in 50 steps (published code: grey values brought to -1 .. 1). Files as
the official archive has them, IDX, read from it or unpacked; the images lie there on their side.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.containers import open_container
from lsm.datasets.fetch import Progress, RemoteFile, check_digest, digest_of, fetch
from lsm.datasets.idx import parse_images, parse_labels
from lsm.datasets.subsets import STRICT, Pick, SubsetOptions
from lsm.encode import MAX_STEPS, Dataset, Events, Split, pack_raster
from lsm.streams import generator

ARCHIVE = RemoteFile(
    "gzip.zip",
    "md5:58c8d27c78d21e728a6bc7b3cc06412e",
    (
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "http://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
    ),
)
STEMS = tuple(f"emnist-letters-{p}-{k}-ubyte" for p in ("train", "test") for k in ("images-idx3", "labels-idx1"))
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
VALID_SHARE = 6  # the last sixth of the training images is for validation: 20,800 of 124,800, as many as test


@dataclass(frozen=True, config=STRICT)
class Emnist(SubsetOptions):
    """Options and loader of EMNIST letters; raises pydantic's `ValidationError` on a bad value.

    `seed` is that of the spikes, so that every network sees the same set. `shared_field` draws one random field for all
    images, as the published code does by seeding anew in every call; else each image has a stream of its own.
    """

    name: str = "emnist"
    path: Annotated[str | None, Field(description="folder with the IDX files or the archive, or the archive")] = None
    verify: Annotated[bool, Field(description="insist on the official archive")] = True
    n_steps: Annotated[int, Field(ge=1, le=MAX_STEPS, description="steps of each image")] = 50
    max_spikes: Annotated[float, Field(gt=0, description="mean spikes of the brightest pixel in all steps")] = 20.0
    shared_field: Annotated[bool, Field(description="one random field for all images (published)")] = False
    upright: Annotated[bool, Field(description="turn the letters upright; false = as in the files (published)")] = True
    seed: Annotated[int, Field(ge=0, description="of the spikes")] = 0

    kind: ClassVar[str] = "events"
    folders: ClassVar[tuple[str, ...]] = ("emnist", "EMNIST/raw", "EMNIST")

    def load(
        self,
        root: Path,
        seed: int,
        progress: Progress | None = None,
        maximum: float | None = None,
        pick: Pick | None = None,
    ) -> Dataset:
        """Find or download the files, split and encode; `seed` draws subsets unless `pick` chooses the samples.

        `maximum` is ignored. Raises `ValueError` for a bad file or subset, `FileNotFoundError` for a missing one.
        """
        source, files, checksums = self._files(root, progress)
        train, test = (self._read(files, part, source) for part in ("train", "test"))
        first_valid = len(train[1]) - len(train[1]) // VALID_SHARE
        parts = {"train": (train, 0, first_valid), "valid": (train, first_valid, None), "test": (test, 0, None)}
        chosen = {}
        for part, ((_, labels), first, last) in parts.items():
            section = labels[first:last]
            chosen[part] = first + (pick(part, section) if pick else self.choose(part, section, seed))
        splits, done, total = {}, 0, sum(map(len, chosen.values()))
        for part, index in chosen.items():
            images, labels = parts[part][0]
            names = tuple(f"{'test' if part == 'test' else 'train'}-images[{k}]" for k in index)
            rasters = []
            for k, name in zip(index, names, strict=True):
                rasters.append(self.spikes(images[k], name))
                done += 1
                if progress:
                    progress(done, total)
            splits[part] = Split(Events.from_packed(rasters, images[0].size, self.n_steps), labels[index], names)
        height, width = (int(n) for n in train[0].shape[1:])
        return Dataset(
            name=self.name,
            class_names=LETTERS,
            **splits,
            encoding={"kind": "emnist", "height": height, "width": width, "n_steps": self.n_steps},
            source=source,
            checksums=checksums,
            notes={"shared_field": self.shared_field, "recording_seed": self.seed},
        )

    def spikes(self, image: NDArray[np.uint8], name: str) -> NDArray[np.uint32]:
        """Packed raster of one image `(height, width)`; its name and the seed fix the random numbers."""
        chance = np.maximum(2 * (image.ravel() / 255) - 1, 0) * self.max_spikes / self.n_steps
        if self.shared_field:
            channels = np.arange(image.size)
            field = np.random.RandomState(0).random_sample((self.n_steps, image.size))
        else:  # only pixels that can spike need numbers
            channels = np.flatnonzero(chance)
            field = generator(self.seed, f"emnist/{name}").random((self.n_steps, len(channels)))
        steps, hit = np.nonzero(chance[channels] > field)
        return pack_raster(steps, channels[hit], image.size, self.n_steps)

    def _files(self, root: Path, progress: Progress | None) -> tuple[str, dict[str, bytes], dict[str, str]]:
        """Where the four files are, their bytes by name without `.gz`, and checksums."""
        if self.path is not None:
            places = [Path(self.path).expanduser()]
            if not places[0].exists():
                raise FileNotFoundError(f"data.path={self.path}: no such file or folder")
        else:
            places = [root / name for name in self.folders if (root / name).is_dir()]
        for place in places:
            candidates = [place, *sorted(place.glob("*.zip"))] if place.is_dir() else [place]
            for candidate in candidates:
                if files := _members(candidate):
                    return self._checked(candidate, files)
        if self.path is not None:
            raise FileNotFoundError(f"data.path={self.path}: {STEMS[0]}(.gz) is missing there")
        archive = fetch(ARCHIVE, root / self.folders[0], progress)
        return self._checked(archive, _members(archive))

    def _checked(self, place: Path, files: dict[str, bytes]) -> tuple[str, dict[str, bytes], dict[str, str]]:
        for stem in STEMS:
            if stem not in files:
                raise FileNotFoundError(f"{place}: {stem}(.gz) is missing; found there: {', '.join(sorted(files))}")
        if self.verify and place.is_file():
            check_digest(place, digest_of(place, "md5"), str(ARCHIVE.digest))
        return str(place), files, {stem: digest_of(data) for stem, data in files.items()}

    def _read(self, files: dict[str, bytes], part: str, source: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        image_name, label_name = (stem for stem in STEMS if f"-{part}-" in stem)
        images = parse_images(files[image_name], Path(source) / image_name)
        labels = parse_labels(files[label_name], Path(source) / label_name)
        if len(images) != len(labels):
            raise ValueError(f"{source}: {image_name} has {len(images)} images, {label_name} has {len(labels)} labels")
        if labels.min() < 1 or labels.max() > len(LETTERS):
            raise ValueError(
                f"{source}: {label_name} has labels {labels.min()} to {labels.max()}; letters have 1 to 26"
            )
        return images.transpose(0, 2, 1) if self.upright else images, labels - 1


def _members(place: Path) -> dict[str, bytes]:
    """Those of the four files that a folder (not below it) or an archive holds."""
    if place.is_dir():
        found = [(stem, place / f"{stem}{end}") for end in (".gz", "") for stem in STEMS]
        return {stem: path.read_bytes() for stem, path in found if path.is_file()}
    with ExitStack() as stack:
        container = open_container(place, stack)
        names = {name.rpartition("/")[2].removesuffix(".gz"): name for name in container.files}
        return {stem: container.read(names[stem]) for stem in STEMS if stem in names}
