"""N-MNIST: MNIST digits shown to a moving ATIS camera (Orchard et al. 2015, Front. Neurosci. 9:437).

Read from the official folders, from the official archives or from a subset in the same layout; or from the MATLAB files of
the random-RRAM liquid's authors (`lsm.datasets.nmnist_mat`). The addresses, checksums
and the reader are tonic's; the download is ours, because tonic's writes under the final name, starts over when it
breaks off and unpacks 70,000 files, which we read straight from the archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.containers import open_container
from lsm.datasets.fetch import Progress, RemoteFile, fetch
from lsm.datasets.nmnist_files import Recording, containers_in, list_mat, list_recordings
from lsm.datasets.nmnist_mat import FILES, Binned, pack_binned
from lsm.datasets.recordings import POLARITIES, Sensor, pack_recording, read_events
from lsm.datasets.subsets import STRICT, Pick, SubsetOptions, stratified_split
from lsm.encode import MAX_STEPS, Dataset, Events, Split
from lsm.streams import generator

COMPLETE = {"Train": 60_000, "Test": 10_000}
LAST_TRAIN_ID = 50_000  # ids 50,001 to 60,000 are the validation part
PARTIAL_VALID_SHARE = 10  # of an incomplete training part, a tenth is for validation


class PartialDataError(ValueError):
    """Only a part of the data set is there; `override` is the setting that accepts it."""

    override = "data.allow_partial=true"


@dataclass(frozen=True, config=STRICT)
class NMnist(SubsetOptions):
    """Options and loader of N-MNIST; raises pydantic's `ValidationError` on a bad value."""

    name: str = "nmnist"
    path: str | None = None
    allow_partial: bool = False
    n_steps: Annotated[int, Field(ge=1, le=MAX_STEPS, description="steps of 1 ms kept of each recording")] = 300
    format: Annotated[Literal["auto", "bin", "mat"], Field(description="auto = .bin recordings, else .mat files")] = (
        "auto"
    )
    mat_bin_ms: Annotated[int, Field(ge=1, le=1000, description="ms of a bin of .mat files, stated nowhere")] = 6

    kind: ClassVar[str] = "events"
    folders: ClassVar[tuple[str, ...]] = ("n-mnist", "nmnist", "NMNIST")
    height: ClassVar[int] = 34
    width: ClassVar[int] = 34

    def load(
        self,
        root: Path,
        seed: int,
        progress: Progress | None = None,
        maximum: float | None = None,
        pick: Pick | None = None,
    ) -> Dataset:
        """Find, split, read, check and pack the recordings; what is missing altogether is downloaded.

        `pick` chooses samples instead of `n_train`, `n_valid` and `n_test`; `maximum` has no meaning for events. Raises
        `PartialDataError` for an incomplete set that is not allowed, `ValueError` for a bad recording, `FileNotFoundError`
        where nothing is found or can be downloaded.
        """
        with ExitStack() as stack:
            found = self._find(root, stack)
            self._check_complete(found)
            for part in COMPLETE:
                if not found[part]:
                    found[part] = self._download(part, root, stack, progress)
            parts = self._split(found, seed, pick)
            sensor = Sensor(self.height, self.width, self.n_steps)
            digest = hashlib.sha256()
            tick = _counter(sum(len(chosen) for chosen in parts.values()), progress)
            splits = {part: self._pack(chosen, sensor, digest.update, tick) for part, chosen in parts.items()}
        sources = sorted({r.container.path for chosen in parts.values() for r in chosen})
        return Dataset(
            name=self.name,
            class_names=tuple("0123456789"),
            **splits,
            encoding={
                "kind": "events",
                "height": self.height,
                "width": self.width,
                "polarities": POLARITIES,
                "n_steps": self.n_steps,
            },
            source=", ".join(sources),
            checksums={"recordings": f"sha256:{digest.hexdigest()}"},
            notes={"found_train": len(found["Train"]), "found_test": len(found["Test"])},
        )

    def events(self, root: Path) -> Iterator[tuple[str, Recording, NDArray[Any]]]:
        """Every recording that is there, as (part, where it is, events in full time resolution), by part and id.

        Raises `ValueError` for a bad recording and `FileNotFoundError` where there are none.
        """
        with ExitStack() as stack:
            found = self._find(root, stack)
            if not any(found.values()):
                raise FileNotFoundError(
                    f"no recordings of N-MNIST in {', '.join(map(str, self._places(root))) or root}"
                )
            sensor = Sensor(self.height, self.width, self.n_steps)
            for part, recordings in found.items():
                for r in recordings:
                    if isinstance(r.container, Binned):
                        raise ValueError(
                            f"{r.container.path}: MATLAB files hold bins, not events; .bin recordings are needed"
                        )
                    yield part, r, read_events(r.container.read(r.member), f"{r.container.path}/{r.member}", sensor)

    def _find(self, root: Path, stack: ExitStack) -> dict[str, list[Recording]]:
        """The recordings of each part, by id; of several containers the one that holds most of a part is taken."""
        best: dict[str, list[Recording]] = {part: [] for part in COMPLETE}
        for place in self._places(root) if self.format != "mat" else ():
            for container in containers_in(place, stack):
                for part, recordings in list_recordings(container).items():
                    if len(recordings) > len(best[part]):
                        best[part] = recordings
        if self.format == "mat" or (self.format == "auto" and not any(best.values())):
            best |= list_mat(self._places(root), Sensor(self.height, self.width, self.n_steps), stack)
        if self.path is not None or self.format == "mat":
            for part, recordings in best.items():
                if not recordings:
                    where = f"data.path={self.path}" if self.path else str(root / self.folders[0])
                    names = [] if self.format == "mat" else [f"recordings {part}/<digit>/<id>.bin"]
                    names += [] if self.format == "bin" else [FILES[part]]
                    raise FileNotFoundError(f"{where}: no {' and no '.join(names)} in there")
        return best

    def _places(self, root: Path) -> list[Path]:
        if self.path is None:
            return [root / name for name in self.folders if (root / name).is_dir()]
        return [Path(self.path).expanduser()]

    def _check_complete(self, found: dict[str, list[Recording]]) -> None:
        if self.allow_partial or all(_is_complete(part, r) for part, r in found.items() if r):
            return
        where = sorted({recordings[0].container.path for recordings in found.values() if recordings})
        raise PartialDataError(
            f"N-MNIST is incomplete: {', '.join(where)} has {len(found['Train']):,} of 60,000 training and "
            f"{len(found['Test']):,} of 10,000 test recordings; to use them: {PartialDataError.override}"
        )

    def _download(self, part: str, root: Path, stack: ExitStack, progress: Progress | None) -> list[Recording]:
        from tonic.datasets import NMNIST

        remote = {
            "Train": RemoteFile(NMNIST.train_filename, f"md5:{NMNIST.train_md5}", (NMNIST.train_url,)),
            "Test": RemoteFile(NMNIST.test_filename, f"md5:{NMNIST.test_md5}", (NMNIST.test_url,)),
        }[part]
        archive = fetch(remote, root / self.folders[0], progress)
        recordings = list_recordings(open_container(archive, stack))[part]
        if not _is_complete(part, recordings):
            raise ValueError(f"{archive}: {len(recordings):,} recordings instead of {COMPLETE[part]:,}")
        return recordings

    def _split(self, found: dict[str, list[Recording]], seed: int, pick: Pick | None) -> dict[str, list[Recording]]:
        train, test = found["Train"], found["Test"]
        if _is_complete("Train", train):
            parts = {"train": train[:LAST_TRAIN_ID], "valid": train[LAST_TRAIN_ID:], "test": test}
        else:
            labels = np.array([r.label for r in train])
            n_valid = max(round(len(train) / PARTIAL_VALID_SHARE), len(np.unique(labels)))
            try:
                inner, valid, _ = stratified_split(labels, n_valid, 0, generator(seed, "split"))
            except ValueError as error:
                where = train[0].container.path
                raise ValueError(f"{where}: too few recordings for a validation part: {error}") from error
            parts = {"train": [train[k] for k in inner], "valid": [train[k] for k in valid], "test": test}
        chosen = {}
        for part, recordings in parts.items():
            labels = np.array([r.label for r in recordings], np.int64)
            index = pick(part, labels) if pick else self.choose(part, labels, seed)
            chosen[part] = [recordings[k] for k in index]
        return chosen

    def _pack(
        self,
        recordings: list[Recording],
        sensor: Sensor,
        digest: Callable[[bytes], None],
        tick: Callable[[], None],
    ) -> Split:
        if recordings and isinstance(recordings[0].container, Binned):
            rows = np.array([r.id - 1 for r in recordings], np.int64)
            parts = pack_binned(recordings[0].container, rows, sensor, self.mat_bin_ms, tick)
            for packed in parts:
                digest(packed.tobytes())
        else:
            parts = [_read(r, sensor, digest, tick) for r in recordings]
        labels = np.array([r.label for r in recordings], np.int64)
        events = Events.from_packed(parts, sensor.n_in, sensor.n_steps)
        return Split(events, labels, tuple(r.member for r in recordings))


def _is_complete(part: str, recordings: list[Recording]) -> bool:
    """Whether ids 1 to 60,000 (10,000) are all there: ids are unique and ascending, so the ends tell."""
    n = COMPLETE[part]
    return len(recordings) == n and recordings[0].id == 1 and recordings[-1].id == n


def _read(
    recording: Recording, sensor: Sensor, digest: Callable[[bytes], None], tick: Callable[[], None]
) -> NDArray[np.uint32]:
    container, member = recording.container, recording.member
    assert not isinstance(container, Binned)
    data = container.read(member)
    digest(f"{member} {len(data)}\n".encode() + data)
    tick()
    return pack_recording(data, f"{container.path}/{member}", sensor)


def _counter(total: int, progress: Progress | None) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return tick
