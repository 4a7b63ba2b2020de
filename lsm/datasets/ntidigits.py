"""N-TIDIGITS18: spoken digits heard by a CochleaAMS1b (Anumula et al. 2018, Front. Neurosci. 12:23), from its HDF5 file.

Groups `{train,test}_addresses` and `{train,test}_timestamps` (s) have one array for each sample, `{train,test}_labels` their
ids, such as `man-ae-3`. What is said stands behind the last `-`; only samples of a single digit are used, 11 classes.
Address and checksum of the file are tonic's, whose reader can be used instead of ours (`reader: tonic`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.fetch import Progress, RemoteFile, check_digest, digest_of, fetch
from lsm.datasets.sounds import CHANNELS, SoundOptions, pack_sound
from lsm.datasets.subsets import STRICT, stratified_split
from lsm.encode import Dataset, Split
from lsm.streams import generator

FILE = "n-tidigits.hdf5"
CLASSES = ("z", *"123456789", "o")
"""What is said, in the order of the classes (published code): zero, one ... nine, oh."""
Read = Callable[[str], tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Times (ms) and channels of the events of the sample with this id."""


@dataclass(frozen=True, config=STRICT)
class NTidigits(SoundOptions):
    """Options and loader of N-TIDIGITS; raises pydantic's `ValidationError` on a bad value."""

    name: str = "ntidigits"
    reader: Annotated[Literal["direct", "tonic"], Field(description="whose reader: ours or tonic's")] = "direct"
    verify: Annotated[bool, Field(description="insist on the official file")] = True
    valid_fraction: Annotated[
        float, Field(ge=0, lt=0.5, description="of the training part, stratified, by seed; 0 = none")
    ] = 0.1

    kind: ClassVar[str] = "events"
    folders: ClassVar[tuple[str, ...]] = ("n-tidigits", "ntidigits", "NTIDIGITS18", "NTIDIGITS")

    def load(self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None) -> Dataset:
        """Find or download the file, read the single digits and split off the validation part.

        `maximum` has no meaning for events and is ignored. Raises `ValueError` for a bad file and `FileNotFoundError` where
        it is not found and cannot be downloaded.
        """
        path = self._find(root, progress)
        checksum = digest_of(path, "md5")
        if self.verify:
            check_digest(path, checksum, _remote().digest or "")
        with _opened(path) as file:
            ids = {part: _single_digits(file, part, path) for part in ("train", "test")}
            parts = self._split(ids, seed, path)
            total, done = sum(map(len, parts.values())), 0
            rasters: dict[str, list[NDArray[np.uint32]]] = {part: [] for part in parts}
            for part, members in parts.items():
                read = self._reader(file, path, "test" if part == "test" else "train")
                for member in members:
                    rasters[part].append(_pack(read, member, path))
                    done += 1
                    if progress:
                        progress(done, total)
        n_steps = self.width([r for part in rasters.values() for r in part])
        splits = {
            part: Split(self.events_of(rasters[part], n_steps), _labels(members), tuple(members))
            for part, members in parts.items()
        }
        return Dataset(
            name=self.name,
            class_names=CLASSES,
            **splits,
            encoding=self.encoding(n_steps),
            source=str(path),
            checksums={FILE: checksum},
            notes={"found_train": len(ids["train"]), "found_test": len(ids["test"]), "reader": self.reader},
        )

    def _find(self, root: Path, progress: Progress | None) -> Path:
        if self.path is not None:
            path = Path(self.path).expanduser()
            path = path / FILE if path.is_dir() else path
            if not path.is_file():
                raise FileNotFoundError(f"data.path={self.path}: {path} is missing")
            return path
        for name in self.folders:
            if (root / name / FILE).is_file():
                return root / name / FILE
        return fetch(_remote(), root / self.folders[0], progress)

    def _split(self, ids: dict[str, list[str]], seed: int, path: Path) -> dict[str, list[str]]:
        train, labels = ids["train"], _labels(ids["train"])
        n_valid = round(self.valid_fraction * len(train))
        n_valid = max(n_valid, len(np.unique(labels))) if self.valid_fraction else 0
        try:
            inner, valid, _ = stratified_split(labels, n_valid, 0, generator(seed, "split"))
        except ValueError as error:
            raise ValueError(f"{path}: too few samples for a validation part: {error}") from error
        parts = {"train": [train[k] for k in inner], "valid": [train[k] for k in valid], "test": ids["test"]}
        return {
            part: [members[k] for k in self.choose(part, _labels(members), seed)] for part, members in parts.items()
        }

    def _reader(self, file: Any, path: Path, part: str) -> Read:
        return _through_tonic(path, part) if self.reader == "tonic" else _direct(file, path, part)


def _remote() -> RemoteFile:
    from tonic.datasets import NTIDIGITS18

    return RemoteFile(FILE, f"md5:{NTIDIGITS18.file_md5}", (NTIDIGITS18.base_url,))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error
    with file:
        yield file


def _single_digits(file: Any, part: str, path: Path) -> list[str]:
    """Ids of the samples of one digit, in the order of the file."""
    for key in (f"{part}_labels", f"{part}_addresses", f"{part}_timestamps"):
        if key not in file:
            raise ValueError(
                f"{path}: no '{key}' in there; N-TIDIGITS has train_ and test_labels, _addresses, _timestamps"
            )
    ids = [label.decode() if isinstance(label, bytes) else str(label) for label in file[f"{part}_labels"][:]]
    single = [name for name in ids if name.rpartition("-")[2] in CLASSES]
    if not single:
        raise ValueError(f"{path}: none of the {len(ids)} samples in {part}_labels is a single digit")
    return single


def _labels(ids: list[str]) -> NDArray[np.int64]:
    return np.array([CLASSES.index(name.rpartition("-")[2]) for name in ids], np.int64)


def _direct(file: Any, path: Path, part: str) -> Read:
    def read(name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        for key in (f"{part}_timestamps", f"{part}_addresses"):
            if name not in file[key]:
                raise ValueError(f"{path}: sample '{name}' is in {part}_labels, but not in {key}")
        times = np.asarray(file[f"{part}_timestamps"][name], np.float64) * 1000
        return times, np.asarray(file[f"{part}_addresses"][name], np.int64)

    return read


def _through_tonic(path: Path, part: str) -> Read:
    """tonic's reader on this very file, wherever it is and whatever its folder is called."""
    from tonic.datasets import NTIDIGITS18

    class Here(NTIDIGITS18):
        filename = path.name
        location_on_system = property(lambda self: str(path.parent), lambda self, value: None)

        def download(self) -> None:
            raise FileNotFoundError(f"{path} is missing")

    samples = Here(save_to=str(path.parent), train=part == "train", single_digits=True)
    where = {name: k for k, name in enumerate(samples._samples)}

    def read(name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        events, _ = samples[where[name]]
        return events["t"] / 1000, events["x"].astype(np.int64)

    return read


def _pack(read: Read, name: str, path: Path) -> NDArray[np.uint32]:
    times, channels = read(name)
    if len(times) != len(channels):
        raise ValueError(f"{path}: sample '{name}' has {len(times)} times and {len(channels)} addresses")
    if not len(times):
        raise ValueError(f"{path}: sample '{name}' has no events")
    if channels.min() < 0 or channels.max() >= CHANNELS:
        raise ValueError(
            f"{path}: sample '{name}' has address {channels.max()}; a cochlea has channels 0 to {CHANNELS - 1}"
        )
    if not (np.isfinite(times).all() and times.min() >= 0):
        raise ValueError(f"{path}: sample '{name}' has a time stamp of {times.min()} ms")
    return pack_sound(times, channels)
