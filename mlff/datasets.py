"""Labelled frames in files: where they are, what their labels are called, which of them are held out.

A set states whether its labels contain London dispersion (`included | none`): the model's own dispersion term is then
part of training or not (`batches.py`), so that it is never counted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff import PACKAGED
from mlff.labelled import LabelKeys, LabelledFrame, LabelUnits, Source, all_labels, read_extxyz
from mlff.streams import generator

Dispersion = Literal["included", "none"]
Statement = Literal["included", "none", "stated"]
Fetch = Callable[[str, str, str, Path], Path]
"""`(name, sha256, url, folder)` to the path of the file, downloaded where it is not there."""

Count = Annotated[int, Field(ge=1)]
Files = Annotated[list[str] | str, Field(description="extended XYZ or train_data.pt, in the data folder or anywhere")]


@plain_dataclass(frozen=True, eq=False)
class LabelSet:
    """Frames by part; `labels` are those of all training frames, `isolated` energies of atoms in kcal/mol."""

    name: str
    train: list[LabelledFrame]
    valid: list[LabelledFrame]
    test: list[LabelledFrame]
    labels: tuple[str, ...]
    dispersion: Dispersion
    isolated: Mapping[int, float] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    credit: str = ""
    warning: str = ""
    split_seed: int = 0
    """What the validation part was drawn with."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class FrameFiles:
    """Options and loader of labelled frames; raises pydantic's `ValidationError` on a bad value."""

    name: str
    train: Files
    dispersion: Annotated[
        Statement, Field(description="whether the labels contain dispersion; stated = the frames say it themselves")
    ] = "stated"
    valid: Files = field(default_factory=list)
    test: Files = field(default_factory=list)
    isolated: Files = field(default_factory=list)
    keys: LabelKeys = field(default_factory=LabelKeys)
    units: LabelUnits = field(default_factory=LabelUnits)
    valid_fraction: Annotated[float, Field(ge=0, lt=1, description="of the training frames, without `valid`")] = 0.1
    test_fraction: Annotated[
        float, Field(ge=0, lt=1, description="of the training frames, without `test`; the same for every seed")
    ] = 0.0
    split: Annotated[
        Literal["composition", "random", "growing"],
        Field(
            description="hold out whole compositions, any frames, or compositions that stay held out when a set grows"
        ),
    ] = "composition"
    split_seed: Annotated[
        int | None, Field(ge=0, description="which frames are for training and validation; null = the seed of the run")
    ] = None
    n_train: Annotated[Count | None, Field(description="frames drawn from the training part; null = all")] = None
    n_test: Annotated[Count | None, Field(description="frames taken evenly from the test part; null = all")] = None
    downloads: dict[str, dict[str, str]] = field(default_factory=dict)
    credit: str = ""

    kind: ClassVar[str] = "frames"

    def load(self, root: Path, seed: int, fetch: Fetch | None = None) -> LabelSet:
        """Find, read, check and split the frames; the same `seed` gives the same parts.

        Raises `FileNotFoundError` that says where was looked, `ValueError` for frames that cannot be used. Test files
        that are missing leave the test part empty and a `warning`. No training files at all are for scoring alone.
        """
        seed = seed if self.split_seed is None else self.split_seed
        digests: dict[Path, str] = {}
        isolated: dict[int, float] = {}

        def read(names: list[str] | str, optional: frozenset[str] = frozenset()) -> list[LabelledFrame]:
            frames: list[LabelledFrame] = []
            for name in [names] if isinstance(names, str) else names:
                path = self._locate(name, root, fetch)
                with path.open("rb") as file:
                    digests[path] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                frames += self._read(path, optional, isolated)
            return frames

        read(self.isolated)
        train, valid = read(self.train), read(self.valid)
        if self.train and not train:
            raise ValueError(f"{self.name}: no frames in {self.train}")
        labels = all_labels([*train, *valid])
        test, warning = [], ""
        try:
            test = read(self.test, frozenset(self.keys.listed))
        except OSError as error:
            if not train:
                raise
            warning = f"no test frames ({error}); what is called an error is that of the validation part"
        if not (train or test):
            raise ValueError(f"{self.name}: no frames in {self.test or 'test, and no training files'}")
        if test and not any(frame.labels for frame in test):
            present = ", ".join(test[0].keys) or "none"
            raise ValueError(f"{test[0].name}: has no label under the names of data.keys (keys present: {present})")
        if train and not self.test and self.test_fraction:
            train, test = self._hold_out(train, self.test_fraction, "test part", 0)
        if train and not valid and self.valid_fraction:
            train, valid = self._hold_out(train, self.valid_fraction, "split", seed)
        train = self._fewer(train, seed) if train else []
        if self.n_test is not None and self.n_test < len(test):
            test = [test[len(test) * k // self.n_test] for k in range(self.n_test)]
        parts = (train, valid, test)
        dispersion = self._stated([*train, *valid, *test])
        checksums = dict(zip(_told_apart(list(digests)), digests.values(), strict=True))
        return LabelSet(self.name, *parts, labels, dispersion, isolated, checksums, self.credit, warning, seed)

    def _hold_out(
        self, frames: Sequence[LabelledFrame], fraction: float, stream: str, seed: int
    ) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
        if self.split == "growing":
            return hold_out_for_good(frames, fraction, f"{stream} {seed}")
        return hold_out(frames, fraction, self.split, generator(seed, stream))

    def _stated(self, frames: Sequence[LabelledFrame]) -> Dispersion:
        """What is said of dispersion, by the configuration or by the frames; raises `ValueError` where they disagree."""
        for frame in frames:
            said = frame.dispersion
            if said not in ("included", "none") and self.dispersion == "stated":
                raise ValueError(
                    f"{frame.name}: does not say whether its labels contain dispersion (dispersion=included or none); "
                    "give data.dispersion=included or none"
                )
            wanted = frames[0].dispersion if self.dispersion == "stated" else self.dispersion
            if said in ("included", "none") and said != wanted:
                other = f"{frames[0].name} says" if self.dispersion == "stated" else "data.dispersion is"
                raise ValueError(f"{frame.name}: says dispersion={said}, {other} {wanted}; they cannot be mixed")
        return cast(Dispersion, frames[0].dispersion if self.dispersion == "stated" else self.dispersion)

    def _fewer(self, train: list[LabelledFrame], seed: int) -> list[LabelledFrame]:
        if self.n_train is None:
            return train
        if self.n_train > len(train):
            raise ValueError(f"n_train={self.n_train}: only {len(train)} frames are for training")
        chosen = generator(seed, "subset").permutation(len(train))[: self.n_train]
        return [train[k] for k in np.sort(chosen)]

    def _read(self, path: Path, optional: frozenset[str], isolated: dict[int, float]) -> list[LabelledFrame]:
        if path.suffix == ".pt":
            from mlff.authors_format import read_train_data

            clusters = read_train_data(path)
            for z in {int(z) for frame in clusters for z in frame.configuration.numbers}:
                isolated.setdefault(z, 0.0)  # the format's energies are relative to neutral atoms
            return clusters
        frames, atoms = read_extxyz(path, Source(self.keys, self.units, optional))
        isolated.update(atoms)
        return frames

    def _locate(self, name: str, root: Path, fetch: Fetch | None) -> Path:
        if name.startswith(PACKAGED):
            folder = Path(str(files("mlff"))) / "data"
            if not (folder / name.removeprefix(PACKAGED)).is_file():
                there = ", ".join(sorted(path.name for path in folder.glob("*.xyz*")))
                raise FileNotFoundError(f"{name}: no such file comes with the package (there are {there})")
            return folder / name.removeprefix(PACKAGED)
        path = Path(name).expanduser()
        places = [path] if path.is_absolute() else [root / path, Path.cwd() / path]
        for place in places:
            if place.is_file():
                return place
        remote = self.downloads.get(name)
        if remote is None or fetch is None:
            raise FileNotFoundError(f"{name}: no such file (looked for {' and '.join(map(str, places))})")
        return fetch(remote.get("name", path.name), remote["sha256"], remote["url"], places[0].parent)


def hold_out(
    frames: Sequence[LabelledFrame], fraction: float, by: str, rng: np.random.Generator
) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Frames that stay, and those held out: whole compositions, drawn until they make up `fraction`, or single frames.

    Compositions with an element that no other has, or with more than twice the frames that are wanted, stay. Where that
    leaves nothing to hold out, as for a single molecule, frames are drawn.
    """
    wanted = max(1, round(fraction * len(frames)))
    held = _compositions(frames, wanted, rng) if by == "composition" else set()
    if not held:
        held = set(rng.permutation(len(frames))[:wanted].tolist())
    return [f for k, f in enumerate(frames) if k not in held], [frames[k] for k in sorted(held)]


def hold_out_for_good(
    frames: Sequence[LabelledFrame], fraction: float, key: str
) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Frames that stay, and those held out: compositions whose hash with `key` lies below `fraction`.

    What is held out does not depend on the other frames, so that a model of an early round, trained on fewer labels, has
    not seen what a later round is tested with. Two exceptions: compositions with an element that no other has stay, and
    where no hash lies low enough the lowest is held out. A set of one composition is divided by the frames' hashes.
    """
    names = [f.composition for f in frames]
    if len(set(names)) == 1:
        names = [f.configuration.positions.tobytes().hex() for f in frames]
    share = {name: _share(f"{key} {name}") for name in names}
    elements: dict[str, set[int]] = {}
    for name, frame in zip(names, frames, strict=True):
        elements.setdefault(name, set()).update(frame.configuration.numbers.tolist())

    def known_without(out: set[str]) -> set[int]:
        return set().union(*(elements[name] for name in share if name not in out))

    low = {name for name in share if share[name] < fraction}
    held = {name for name in low if elements[name] <= known_without(low)}
    for name in sorted(share, key=lambda name: share[name]):
        if not held and elements[name] <= known_without({name}):
            held = {name}
    return (
        [f for f, name in zip(frames, names, strict=True) if name not in held],
        [f for f, name in zip(frames, names, strict=True) if name in held],
    )


def _share(text: str) -> float:
    """A number between 0 and 1 that is the same wherever and whenever it is computed."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2.0**64


def _compositions(frames: Sequence[LabelledFrame], wanted: int, rng: np.random.Generator) -> set[int]:
    """Indices of the frames of whole compositions, about `wanted`."""
    groups: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.composition, []).append(index)
    names = list(groups)
    elements = {name: {int(z) for k in groups[name] for z in frames[k].configuration.numbers} for name in names}
    kept, held = set(names), set[int]()
    for place in rng.permutation(len(names)):
        name = names[place]
        others = set().union(*(elements[k] for k in kept - {name}))
        if len(held) < wanted and elements[name] <= others and len(held) + len(groups[name]) <= 2 * wanted:
            kept.discard(name)
            held |= set(groups[name])
    return held


def _told_apart(paths: Sequence[Path]) -> list[str]:
    """Names of different files, with as many of their folders as it takes: those of `runner=label` are all called alike."""
    parts = [path.absolute().parts for path in paths]
    longest = max(map(len, parts), default=1)
    names: list[str] = []
    for own in parts:
        tails = (k for k in range(1, longest) if sum(other[-k:] == own[-k:] for other in parts) == 1)
        names.append("/".join(own[-next(tails, longest) :]))
    return names
