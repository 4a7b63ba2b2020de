"""A user's own labelled images or event recordings, in folders by class; and new files for a saved model.

Layout: `<path>/<class>/<file>`, or `<path>/train|valid|test/<class>/<file>`; `path` is a folder or a zip archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from lsm.datasets.containers import Container, SingleFile, open_container
from lsm.datasets.digits import MNIST_EVENTS_PER_MS, drive_notes, rate_constant
from lsm.datasets.fetch import Progress
from lsm.datasets.layout import SUFFIXES, Labelled, class_names_of, find_labelled, kind_of
from lsm.datasets.pictures import read_picture
from lsm.datasets.recordings import MAX_HEIGHT, MAX_WIDTH, POLARITIES, Sensor, pack_recording
from lsm.datasets.subsets import PARTS, STRICT, SubsetOptions, stratified_split
from lsm.encode import MAX_STEPS, Dataset, Events, Inputs, Split, image_rates
from lsm.streams import generator

SIZES = {"images": 28, "events": 34}
BRIGHT = 0.5  # mean grey above which an image is taken for dark ink on light paper


@dataclass(frozen=True, config=STRICT)
class Files(SubsetOptions):
    """Options and loader of a user's own files; raises pydantic's `ValidationError` on a bad value."""

    name: str = "files"
    path: Annotated[str | None, Field(validate_default=True, description="folder or zip archive")] = None
    height: Annotated[int | None, Field(ge=1, le=MAX_HEIGHT, description="pixels; null = 28 images, 34 events")] = None
    width: Annotated[int | None, Field(ge=1, le=MAX_WIDTH, description="pixels; null = 28 images, 34 events")] = None
    invert: bool = False
    events_per_ms: Annotated[float | None, Field(gt=0, le=MAX_HEIGHT * MAX_WIDTH)] = MNIST_EVENTS_PER_MS
    n_steps: Annotated[int, Field(ge=1, le=MAX_STEPS, description="steps of 1 ms kept of each recording")] = 300
    valid_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2

    kind: ClassVar[str] = "images or events"

    @field_validator("path")
    @classmethod
    def _given(cls, path: str | None) -> str | None:
        if not path:
            raise ValueError("needed: data.path=<folder or zip with one folder for each class>")
        return path

    def load(self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None) -> Dataset:
        """Find, split, read and encode the files; `root` is only where a relative `path` is looked for second.

        `maximum` replaces the constant of the image rates. Raises `ValueError` for a bad file or layout and
        `FileNotFoundError` for a missing one.
        """
        with ExitStack() as stack:
            container = open_container(self._where(root), stack)
            files = find_labelled(container)
            kind = kind_of(files, container.path)
            class_names = class_names_of(files, container.path)
            parts = self._split(files, class_names, seed, container.path)
            height, width = self.height or SIZES[kind], self.width or SIZES[kind]
            encoding = self._encoding(kind, height, width)
            reader = _Reader(encoding, progress, total=sum(len(p) for p in parts.values()))
            raw = {part: [reader.read(container, f.member) for f in chosen] for part, chosen in parts.items()}
        notes: dict[str, Any] = {}
        if kind == "images":
            training = np.stack(raw["train"] + raw["valid"])
            encoding["maximum"] = maximum or rate_constant(training, self.events_per_ms)
            notes = drive_notes(image_rates(training, encoding["maximum"]), 1 / encoding["maximum"])
            notes["mean_grey"] = float(training.mean() / 255)
            if notes["mean_grey"] > BRIGHT:
                notes["warning"] = "the images are mostly bright; dark ink on light paper needs data.invert=true"
        splits = {}
        for part, chosen in parts.items():
            labels = np.array([class_names.index(f.label) for f in chosen], np.int64)
            splits[part] = Split(_join(raw[part], encoding), labels, tuple(f.member for f in chosen))
        return Dataset(
            name=self.name,
            class_names=class_names,
            **splits,
            encoding=encoding,
            source=container.path,
            checksums={"files": f"sha256:{reader.digest.hexdigest()}"},
            notes=notes,
        )

    def _where(self, root: Path) -> Path:
        path = Path(self.path or "").expanduser()
        if not path.exists() and (root / path).exists():
            return root / path
        if not path.exists():
            raise FileNotFoundError(f"data.path={self.path}: no such file or folder")
        return path

    def _encoding(self, kind: str, height: int, width: int) -> dict[str, Any]:
        size = {"kind": kind, "height": height, "width": width}
        if kind == "images":
            return size | {"invert": self.invert}
        if POLARITIES * height * width > 1 << 16:
            raise ValueError(f"data.height={height} data.width={width}: at most {(1 << 16) // POLARITIES} pixels")
        return size | {"polarities": POLARITIES, "n_steps": self.n_steps}

    def _split(
        self, files: list[Labelled], class_names: tuple[str, ...], seed: int, where: str
    ) -> dict[str, list[Labelled]]:
        """The chosen files of each part; parts that the user did not make are drawn from the training files."""
        given: dict[str, list[Labelled]] = {part: [f for f in files if f.part == part] for part in PARTS}
        pool = given["train"] or [f for f in files if f.part is None]
        labels = np.array([class_names.index(f.label) for f in pool], np.int64)
        n_valid, n_test = (
            0 if given[part] else max(round(fraction * len(pool)), len(class_names))
            for part, fraction in (("valid", self.valid_fraction), ("test", self.test_fraction))
        )
        try:
            indices = stratified_split(labels, n_valid, n_test, generator(seed, "split"))
        except ValueError as error:
            counts = np.bincount(labels, minlength=len(class_names))
            few = class_names[counts.argmin()]
            raise ValueError(
                f"{where}: {len(pool)} files (class '{few}': {counts.min()}) are too few for the parts: {error}"
            ) from error
        parts = {}
        for part, index in zip(PARTS, indices, strict=True):
            members = [pool[k] for k in index] if part == "train" or not given[part] else given[part]
            chosen = self.choose(part, np.array([class_names.index(f.label) for f in members], np.int64), seed)
            parts[part] = [members[k] for k in chosen]
        return parts


def encode_files(paths: Sequence[str | Path], encoding: dict[str, Any], progress: Progress | None = None) -> Inputs:
    """Encode unlabelled files as a saved model needs them; `encoding` is that of the `Dataset` it was trained on.

    `paths` are files, folders (searched recursively) and zip archives; the order is that of `file_names`.
    Raises `ValueError` for a bad or unsuitable file and `FileNotFoundError` for a missing one.
    """
    with ExitStack() as stack:
        found = _expand(paths, encoding["kind"], stack)
        reader = _Reader(encoding, progress, total=len(found))
        return _join([reader.read(container, member) for container, member in found], encoding)


def file_names(paths: Sequence[str | Path], encoding: dict[str, Any]) -> tuple[str, ...]:
    """Where each sample of `encode_files(paths, encoding)` comes from, in its order."""
    with ExitStack() as stack:
        return tuple(f"{container.path}/{member}" for container, member in _expand(paths, encoding["kind"], stack))


class _Reader:
    """Reads members of one kind, and keeps a digest over their names, sizes and contents."""

    def __init__(self, encoding: dict[str, Any], progress: Progress | None, total: int) -> None:
        self.encoding = encoding
        self.progress = progress
        self.total = total
        self.done = 0
        self.digest = hashlib.sha256()

    def read(self, container: Container, member: str) -> NDArray[Any]:
        """An image as `(height, width)` uint8, a recording as a packed raster."""
        data = container.read(member)
        self.digest.update(f"{member} {len(data)}\n".encode() + data)
        height, width = self.encoding["height"], self.encoding["width"]
        name = f"{container.path}/{member}"
        sample: NDArray[Any]
        if self.encoding["kind"] == "images":
            sample = read_picture(data, name, height, width, self.encoding.get("invert", False))
        else:
            sample = pack_recording(data, name, Sensor(height, width, self.encoding["n_steps"]))
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total)
        return sample


def _join(samples: list[NDArray[Any]], encoding: dict[str, Any]) -> Inputs:
    if encoding["kind"] == "images":
        return image_rates(np.stack(samples), encoding["maximum"])
    sensor = Sensor(encoding["height"], encoding["width"], encoding["n_steps"])
    return Events.from_packed(samples, sensor.n_in, sensor.n_steps)


def _expand(paths: Sequence[str | Path], kind: str, stack: ExitStack) -> list[tuple[Container, str]]:
    if kind not in SUFFIXES:
        raise ValueError(f"this model reads recordings of {kind}; only {' and '.join(SUFFIXES)} can be read from files")
    suffixes = SUFFIXES[kind]
    found: list[tuple[Container, str]] = []
    for path in (Path(p).expanduser() for p in paths):
        if path.is_file() and path.suffix.lower() != ".zip":
            if not path.name.lower().endswith(suffixes):
                raise ValueError(f"{path}: this model reads {kind}: *{', *'.join(suffixes)}")
            found.append((SingleFile(path), path.name))
            continue
        container = open_container(path, stack)
        members = [m for m in container.files if m.lower().endswith(suffixes)]
        if not members:
            raise ValueError(f"{path}: none of its {len(container.files)} files is one of *{', *'.join(suffixes)}")
        found += [(container, m) for m in members]
    if not found:
        raise ValueError("no files given")
    return found
