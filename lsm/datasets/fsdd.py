"""Spoken digits heard by a simulated cochlea: the Free Spoken Digit Dataset (Jackson et al., doi 10.5281/zenodo.1342401).

Audio, not events: 3,000 recordings of 10 digits by 6 speakers, 8 kHz, 50 of each digit and speaker. `lsm.datasets.cochlea`
turns them into events of the form of N-TIDIGITS, for all who cannot have that set. What is made is kept in the data folder,
if that can be written, and used again.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import wave
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.containers import Container, open_container
from lsm.datasets.fetch import Progress, RemoteFile, check_digest, fetch
from lsm.datasets.kept import read_kept, write_kept
from lsm.datasets.sounds import CHANNELS, SoundOptions, pack_sound
from lsm.datasets.subsets import PARTS, STRICT
from lsm.encode import MAX_STEPS, Dataset, Events, Split

if TYPE_CHECKING:
    from lsm.datasets.cochlea import Cochlea

RATE_HZ = 8000
MEMBER = re.compile(r"(?:^|/)([0-9])_([A-Za-z]+)_([0-9]+)\.wav$")
DIGEST = "sha256:8fed8b0b058a7efa7544bbb3e8e98607ecdcbd47a2f0ea31139cab18a6b679c9"
"""Of the name, size and bytes of each of the 3,000 files, by name: holds for any archive or folder of them."""
ARCHIVE = RemoteFile(
    "free-spoken-digit-dataset-1.0.10.zip",
    None,  # GitHub packs it anew for each reader: the files in it are checked instead
    ("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",),
)
TEST_INDICES, VALID_INDICES = range(5), range(5, 10)
"""Of the 50 recordings of a digit by a speaker: the official test part; and what we take from training for validation."""
Speakers = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


@plain_dataclass(frozen=True)
class Spoken:
    """One recording: what is said, by whom, for which time, and its file."""

    digit: int
    speaker: str
    index: int
    member: str
    sound: NDArray[np.float32]

    @property
    def name(self) -> str:
        """File name without its folder."""
        return self.member.rpartition("/")[2]


@dataclass(frozen=True, config=STRICT)
class Fsdd(SoundOptions):
    """Options and loader of spoken digits; raises pydantic's `ValidationError` on a bad value.

    `seed` is that of the cochlea's noise, so that every network hears the same set.
    """

    name: str = "fsdd"
    split: Annotated[Literal["index", "speaker"], Field(description="index = official; speaker = unknown voices")] = (
        "index"
    )
    test_speakers: Annotated[Speakers, Field(description="of split=speaker")] = ("theo", "yweweler")
    valid_speakers: Annotated[Speakers, Field(description="of split=speaker")] = ("nicolas",)
    validate: Annotated[bool, Field(description="false = no validation part; its recordings train")] = True
    seed: Annotated[int, Field(ge=0, description="of the cochlea's noise")] = 0
    verify: Annotated[bool, Field(description="insist on the 3,000 files of version 1.0.10")] = True
    keep: Annotated[bool, Field(description="keep the events in the data folder for the next run")] = True

    kind: ClassVar[str] = "events"
    folders: ClassVar[tuple[str, ...]] = ("fsdd", "FSDD", "free-spoken-digit-dataset")

    def load(self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None) -> Dataset:
        """Find or download the recordings, let the cochlea listen, split and pack; `seed` draws subsets.

        `maximum` has no meaning for events and is ignored. Raises `ValueError` for a bad file or an unknown speaker, and
        `FileNotFoundError` where nothing is found or can be downloaded.
        """
        spoken, where, digest = self._spoken(root, progress)
        parts = self._parts(spoken)
        rasters = self._rasters(spoken, root, digest, progress)
        n_steps = self.width(rasters)
        splits = {}
        for part, members in parts.items():
            labels = np.array([spoken[k].digit for k in members], np.int64)
            index = [members[k] for k in self.choose(part, labels, seed)]
            names = tuple(f"simulated/{spoken[k].name}" for k in index)
            events = self.events_of([rasters[k] for k in index], n_steps)
            splits[part] = Split(events, np.array([spoken[k].digit for k in index], np.int64), names)
        return Dataset(
            name=self.name,
            class_names=tuple("0123456789"),
            **splits,
            encoding=self.encoding(n_steps),
            source=f"simulated cochlea listening to {where}",
            checksums={"recordings": digest},
            notes={"simulated": True, "split": self.split, "recording_seed": self.seed},
        )

    def sounds(self, root: Path) -> list[Spoken]:
        """Every recording, by file name; raises as `load`."""
        return self._spoken(root, None)[0]

    def _spoken(self, root: Path, progress: Progress | None) -> tuple[list[Spoken], str, str]:
        with ExitStack() as stack:
            container = self._find(root, stack) or self._download(root, stack, progress)
            digest = hashlib.sha256()
            spoken = []
            for member in sorted(_members(container), key=lambda m: m.rpartition("/")[2]):
                data = container.read(member)
                spoken.append(_read(data, member, container.path))
                digest.update(f"{spoken[-1].name} {len(data)}\n".encode() + data)
            found = f"sha256:{digest.hexdigest()}"
            if self.verify:
                try:
                    check_digest(Path(container.path), found, DIGEST)
                except ValueError as error:
                    raise type(error)(f"{error}, or take it as it is: data.verify=false") from error
            return spoken, container.path, found

    def _find(self, root: Path, stack: ExitStack) -> Container | None:
        """The folder or archive that holds most recordings."""
        if self.path is not None:
            places = [Path(self.path).expanduser()]
        else:
            places = [root / name for name in self.folders if (root / name).is_dir()]
        found: list[Container] = []
        for place in places:
            found.append(open_container(place, stack))
            if place.is_dir():
                found += [open_container(p, stack) for p in sorted(place.glob("*.zip"))]
        best = max(found, key=lambda c: len(_members(c)), default=None)
        if best is not None and _members(best):
            return best
        if self.path is not None:
            raise FileNotFoundError(f"data.path={self.path}: no recordings <digit>_<speaker>_<index>.wav in there")
        return None

    def _download(self, root: Path, stack: ExitStack, progress: Progress | None) -> Container:
        container = open_container(fetch(ARCHIVE, root / self.folders[0], progress), stack)
        if not _members(container):
            raise ValueError(f"{container.path}: no recordings <digit>_<speaker>_<index>.wav in there")
        return container

    def _parts(self, spoken: list[Spoken]) -> dict[str, list[int]]:
        if self.split == "index":
            part_of = [
                "test" if s.index in TEST_INDICES else "valid" if s.index in VALID_INDICES else "train" for s in spoken
            ]
        else:
            self._check_speakers(spoken)
            part_of = [
                "test" if s.speaker in self.test_speakers else "valid" if s.speaker in self.valid_speakers else "train"
                for s in spoken
            ]
        if not self.validate:
            part_of = ["train" if part == "valid" else part for part in part_of]
        parts = {part: [k for k, p in enumerate(part_of) if p == part] for part in PARTS}
        for part, members in parts.items():
            if part == "valid" and not self.validate:
                continue
            missing = set(range(10)) - {spoken[k].digit for k in members}
            if missing:
                raise ValueError(f"data.split={self.split}: no recording of digit {min(missing)} in the {part} part")
        return parts

    def _check_speakers(self, spoken: list[Spoken]) -> None:
        known = sorted({s.speaker for s in spoken})
        for key in ("test_speakers", "valid_speakers"):
            for name in getattr(self, key):
                if name not in known:
                    raise ValueError(f"data.{key}: no speaker '{name}'; there are {', '.join(known)}")
        if both := set(self.test_speakers) & set(self.valid_speakers):
            raise ValueError(f"data.valid_speakers: '{min(both)}' is one of data.test_speakers, too")

    def _rasters(
        self, spoken: list[Spoken], root: Path, digest: str, progress: Progress | None
    ) -> list[NDArray[np.uint32]]:
        from lsm.datasets.cochlea import Cochlea

        cochlea = Cochlea()
        folder = self._folder(root, digest, cochlea)
        kept = read_kept(folder) if self.keep else None
        if kept is not None and len(kept[1]) == len(spoken) + 1:
            if progress:
                progress(len(spoken), len(spoken))
            return [kept[0][a:b] for a, b in zip(kept[1][:-1], kept[1][1:], strict=True)]
        rasters = self._listen(spoken, cochlea, progress)
        if self.keep:
            write_kept(folder, Events.from_packed(rasters, CHANNELS, MAX_STEPS))
        return rasters

    def _listen(
        self, spoken: Sequence[Spoken], cochlea: Cochlea, progress: Progress | None
    ) -> list[NDArray[np.uint32]]:
        from numba import get_num_threads

        from lsm.datasets.cochlea import recordings

        rasters: list[NDArray[np.uint32]] = []
        sounds, names = [s.sound for s in spoken], [s.name for s in spoken]
        for times, channels in recordings(sounds, RATE_HZ, names, self.seed, cochlea, get_num_threads()):
            rasters.append(pack_sound(times, channels))
            if progress:
                progress(len(rasters), len(spoken))
        return rasters

    def _folder(self, root: Path, digest: str, cochlea: Cochlea) -> Path:
        """Where the events are kept, named by all that determines them."""
        from lsm.datasets import cochlea as module

        about: list[Any] = [digest, self.seed, asdict(cochlea)]
        code = Path(module.__file__).read_bytes()
        return root / "fsdd-sim" / hashlib.sha256(json.dumps(about, sort_keys=True).encode() + code).hexdigest()[:16]


def _members(container: Container) -> list[str]:
    return [name for name in container.files if MEMBER.search(name)]


def _read(data: bytes, member: str, where: str) -> Spoken:
    match = MEMBER.search(member)
    assert match
    try:
        with wave.open(io.BytesIO(data)) as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{where}/{member}: not a readable wav file of {len(data)} bytes ({error})") from error
    if form != (1, 2, RATE_HZ):
        raise ValueError(
            f"{where}/{member}: {form[0]} channels, {8 * form[1]} bits, {form[2]} Hz; expected 1, 16, {RATE_HZ}"
        )
    if not len(frames) or len(frames) % 2:
        raise ValueError(f"{where}/{member}: {len(frames)} bytes of sound: empty or cut off")
    sound = (np.frombuffer(frames, "<i2") / 32768).astype(np.float32)
    return Spoken(int(match[1]), match[2], int(match[3]), member, sound)
