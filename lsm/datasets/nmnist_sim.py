"""Simulated N-MNIST: any of our 28x28 image sets, seen by the camera of `lsm.datasets.saccade`; no real recordings.

For all who cannot have the 1.2 GB of N-MNIST, and for sets that nobody has recorded. Channels, steps, splits and the file
format are those of `data=nmnist`; recording k + 1 shows image k, as there. What is made is kept in the data folder, if that
can be written, and used again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.digits import Digits
from lsm.datasets.fetch import Progress
from lsm.datasets.images import FashionMnist, IdxImages, Mnist
from lsm.datasets.kept import read_kept, write_kept
from lsm.datasets.recordings import POLARITIES, Sensor, pack_events, to_bytes
from lsm.datasets.subsets import PARTS, STRICT, Pick, SubsetOptions
from lsm.encode import MAX_STEPS, Dataset, Events, Rates, Split

IMAGE, SIZE = 28, 34
"""Pixels of an image and of the sensor's crop in both directions."""
ARCHIVES = {"Train": ("train", "valid"), "Test": ("test",)}
Images = IdxImages | Digits
Seed = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class NMnistSim(SubsetOptions):
    """Options and loader of simulated recordings; raises pydantic's `ValidationError` on a bad value.

    `name` must say that they are simulated. `seed` is the recordings' own, so that every network sees the same set.
    """

    name: Annotated[str, Field(pattern="sim")] = "nmnist_sim"
    images: Literal["mnist", "fashion_mnist", "digits"] = "mnist"
    path: Annotated[str | None, Field(description="folder of the image files; null = as data=<images>")] = None
    seed: Annotated[Seed, Field(description="of the camera's noise and of the motors' timing")] = 0
    n_steps: Annotated[int, Field(ge=1, le=MAX_STEPS, description="steps of 1 ms kept of each recording")] = 300
    keep: Annotated[bool, Field(description="keep complete parts in the data folder for the next run")] = True

    kind: ClassVar[str] = "events"

    def load(
        self,
        root: Path,
        seed: int,
        progress: Progress | None = None,
        maximum: float | None = None,
        pick: Pick | None = None,
    ) -> Dataset:
        """Read the images, show them to the camera and pack what it sees; `seed` draws subsets (and splits of digits).

        `pick` chooses among the images of these subsets; `maximum` has no meaning for events. Raises as their loader.
        """
        pictures = self._source().load(root, seed)
        parts: dict[str, Split] = {part: getattr(pictures, part) for part in PARTS}
        if pick:
            parts = {part: split.take(pick(part, split.labels)) for part, split in parts.items()}
        total, done, splits, digest = sum(map(len, parts.values())), 0, {}, hashlib.sha256()
        for part, split in parts.items():
            count = None if progress is None else _shifted(progress, done, total)
            folder = self._folder(root, pictures, part, split, bool(pick))
            events = self._events_of(split, folder, count, lambda: self._out_of_complete(root, seed, part, split))  # noqa: B023
            digest.update(events.packed.data)
            digest.update(events.offsets.data)
            splits[part] = Split(events, split.labels, tuple(f"simulated/{name}" for name in split.names))
            done += len(split)
        return Dataset(
            name=self.name,
            class_names=pictures.class_names,
            **splits,
            encoding={
                "kind": "events",
                "height": SIZE,
                "width": SIZE,
                "polarities": POLARITIES,
                "n_steps": self.n_steps,
            },
            source=f"simulated ATIS looking at {pictures.source}",
            checksums=pictures.checksums | {"simulated recordings": f"sha256:{digest.hexdigest()}"},
            notes={"simulated": True, "images": self.images, "recording_seed": self.seed},
        )

    def write_recordings(self, root: Path, folder: Path, progress: Progress | None = None) -> list[Path]:
        """Write `Train.zip` and `Test.zip` in N-MNIST's layout and format; `data=nmnist data.path=<folder>` reads them.

        Training and validation images are both in `Train`, `<class>/<number of the image + 1>.bin`; a README says that
        they are simulated. Each archive gets its name only when it is complete. Raises as `load`.
        """
        pictures = self._source().load(root, self.seed)
        folder.mkdir(parents=True, exist_ok=True)
        total, done = sum(len(getattr(pictures, part)) for part in PARTS), 0
        written = []
        for archive, parts in ARCHIVES.items():
            target = folder / f"{archive}.zip"
            unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
            try:
                with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as out:
                    out.writestr(f"{archive}/README.txt", f"Simulated, not recorded: {dataclasses.asdict(self)}\n")
                    for name, data in self._members(archive, [getattr(pictures, part) for part in parts]):
                        out.writestr(name, data)
                        done += 1
                        if progress:
                            progress(done, total)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)
            written.append(target)
        return written

    def _members(self, archive: str, splits: list[Split]) -> Iterator[tuple[str, bytes]]:
        for split in splits:
            for label, number, events in zip(split.labels, _numbers(split), self.look(split), strict=True):
                yield f"{archive}/{label}/{number + 1:05d}.bin", to_bytes(events)

    def images_of(self, root: Path, archive: str, ids: list[int]) -> Split:
        """Images `id - 1` of `Train` or `Test`, those that N-MNIST's recordings `id` show; raises as `load`."""
        source = dataclasses.replace(self, n_train=None, n_valid=None, n_test=None)._source().load(root, self.seed)
        splits = [getattr(source, part) for part in ARCHIVES[archive]]
        where = {int(n): (k, i) for k, split in enumerate(splits) for i, n in enumerate(_numbers(split))}
        places = [where[number - 1] for number in ids]
        pixels = np.stack([splits[k].inputs.pixels[i] for k, i in places])
        labels = np.array([splits[k].labels[i] for k, i in places], np.int64)
        scale = np.zeros(len(ids), np.float32)
        return Split(Rates(pixels, scale), labels, tuple(splits[k].names[i] for k, i in places))

    def look(self, split: Split) -> Iterator[NDArray[Any]]:
        """Events of each image of a split of `data=<images>`, in full time resolution (see `recordings.EVENT`)."""
        from lsm.datasets.saccade import Camera, recordings

        images = cast(Rates, split.inputs).pixels.reshape(len(split), IMAGE, IMAGE)
        return recordings(images, _numbers(split), self.seed, _stem(split), Camera(), _threads())

    def _source(self) -> Images:
        source = {"mnist": Mnist, "fashion_mnist": FashionMnist, "digits": Digits}[self.images]()
        sizes = {"n_train": self.n_train, "n_valid": self.n_valid, "n_test": self.n_test}
        place = {} if isinstance(source, Digits) else {"path": self.path}
        return dataclasses.replace(source, **sizes, **place)

    def _events_of(
        self, split: Split, kept: Path | None, progress: Progress | None, elsewhere: Callable[[], Events | None]
    ) -> Events:
        sensor, parts = Sensor(SIZE, SIZE, self.n_steps), []
        found = read_kept(kept) if kept is not None else None
        there = Events(*found, sensor.n_in, self.n_steps) if found is not None else elsewhere()
        if there is not None:
            if progress:
                progress(len(split), len(split))
            return there
        for events in self.look(split):
            parts.append(pack_events(events, sensor))
            if progress:
                progress(len(parts), len(split))
        made = Events.from_packed(parts, sensor.n_in, self.n_steps)
        if kept is not None:
            write_kept(kept, made)
        return made

    def _out_of_complete(self, root: Path, seed: int, part: str, split: Split) -> Events | None:
        """The recordings of a subset from the complete part, where that is kept."""
        if not self.keep or not any((root / "nmnist-sim").glob(f"{self.images}-{part}-*")):
            return None
        every = dataclasses.replace(self, n_train=None, n_valid=None, n_test=None)
        pictures = every._source().load(root, seed)
        complete: Split = getattr(pictures, part)
        folder, where = (
            every._folder(root, pictures, part, complete, False),
            {n: k for k, n in enumerate(complete.names)},
        )
        found = read_kept(folder, mapped=True) if folder is not None and set(split.names) <= set(where) else None
        if found is None:
            return None
        events = Events(*found, Sensor(SIZE, SIZE, self.n_steps).n_in, self.n_steps)
        return events.take(np.array([where[name] for name in split.names], np.int64))

    def _folder(self, root: Path, pictures: Dataset, part: str, split: Split, picked: bool) -> Path | None:
        """Where a complete or picked part is kept, named by all that determines it; `None` for another subset."""
        if not self.keep or not len(split) or (getattr(self, f"n_{part}") is not None and not picked):
            return None
        from lsm.datasets import saccade

        about = [part, self.seed, self.n_steps, pictures.checksums, split.names]
        code = Path(saccade.__file__).read_bytes()
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode() + code).hexdigest()
        return root / "nmnist-sim" / f"{self.images}-{part}-{digest[:16]}"


def _numbers(split: Split) -> NDArray[np.int64]:
    """Index of each image in its file: `train-images[17]` is 17."""
    return np.array([int(name[name.index("[") + 1 : -1]) for name in split.names], np.int64)


def _stem(split: Split) -> str:
    """What images of a split are numbered in: `train-images` for training and validation images of MNIST."""
    return split.names[0].partition("[")[0] if split.names else ""


def _threads() -> int:
    from numba import get_num_threads

    return int(get_num_threads())


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda now, _: progress(done + now, total)
