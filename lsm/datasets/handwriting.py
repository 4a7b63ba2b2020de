"""Attempted handwriting, recorded in motor cortex: 192 electrodes, letters a to z (Willett et al. 2021, Nature 593:249).

Read from `singleLetters.mat` of doi 10.5061/dryad.wh70rxwmv, arrays `neuralActivityCube_<letter>` `(n_trials, n_bins, 192)`:
threshold crossings in bins of 10 ms. (Not EEG, as the published code calls it.) A bin with crossings holds one event.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from lsm.datasets.fetch import Progress, digest_of
from lsm.datasets.matfile import MatFile
from lsm.datasets.subsets import PARTS, STRICT, SubsetOptions
from lsm.encode import MAX_STEPS, Dataset, Events, Split, pack_raster

FILE, SESSION = "singleLetters.mat", "t5.2019.05.08"
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
ELECTRODES, BIN_MS = 192, 10
DOI = "10.5061/dryad.wh70rxwmv"
Trials = Annotated[int, Field(ge=1, le=100)]


@dataclass(frozen=True, config=STRICT)
class Handwriting(SubsetOptions):
    """Options and loader of attempted handwriting; raises pydantic's `ValidationError` on a bad value.

    The trials of a letter stay in the order of the file. `fold` chooses which `n_test_trials` in a row are the test (null =
    the last); the `n_valid_trials` before them, counted in a ring, validate. `enlarge_train` and `enlarge_test` repeat
    each trial that often, all after another, as the published protocol does (10 and 10): the copies are no new data.
    """

    name: str = "handwriting"
    path: Annotated[str | None, Field(description=f"{FILE}, or a folder that has it")] = None
    fold: Annotated[int | None, Field(ge=0, description="cross-validation over trials; null = the last trials")] = None
    n_test_trials: Annotated[Trials, Field(description="of each letter")] = 3
    n_valid_trials: Annotated[int, Field(ge=0, le=100, description="of each letter; 0 = none")] = 3
    enlarge_train: Annotated[Trials, Field(description="copies of each training trial")] = 1
    enlarge_test: Annotated[Trials, Field(description="copies of each test trial")] = 1

    kind: ClassVar[str] = "events"
    folders: ClassVar[tuple[str, ...]] = ("handwriting", "handwriting-bci", "handwritingBCIData")

    def load(self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None) -> Dataset:
        """Read every letter, split its trials and pack them; `seed` draws subsets.

        `maximum` has no meaning for events and is ignored. Raises `ValueError` for a bad file or too few trials, and
        `FileNotFoundError` for a missing one: the set must be fetched by hand.
        """
        path = self._find(root)
        chosen: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
        rasters: dict[tuple[int, int], NDArray[np.uint32]] = {}
        n_bins = 0
        with ExitStack() as stack:
            file = MatFile(path, stack)
            for c, letter in enumerate(LETTERS):
                cube = _cube(file, letter)
                n_bins = max(n_bins, cube.shape[1])
                rasters |= {(c, k): _pack(trial) for k, trial in enumerate(cube)}
                for part, trials in self._split(len(cube), letter, path).items():
                    chosen[part] += [(c, k) for k in trials]
                if progress:
                    progress(c + 1, len(LETTERS))
        splits = {}
        for part, members in chosen.items():
            labels = np.array([c for c, _ in members], np.int64)
            index = self.choose(part, labels, seed)
            names = tuple(f"{LETTERS[members[k][0]]}[{members[k][1]}]" for k in index)
            events = Events.from_packed([rasters[members[k]] for k in index], ELECTRODES, n_bins)
            splits[part] = Split(events, labels[index], names)
        return Dataset(
            name=self.name,
            class_names=LETTERS,
            **splits,
            encoding={"kind": "handwriting", "n_channels": ELECTRODES, "n_steps": n_bins, "step_ms": BIN_MS},
            source=str(path),
            checksums={FILE: digest_of(path)},
            notes={"trials": len(rasters), "enlarge_train": self.enlarge_train, "enlarge_test": self.enlarge_test},
        )

    def _find(self, root: Path) -> Path:
        places = [root / name for name in self.folders] if self.path is None else [Path(self.path).expanduser()]
        for place in places:
            if place.is_file():
                return place
            found = sorted(place.rglob(FILE)) if place.is_dir() else []
            if found:  # of several days the one that the published code uses
                return min(found, key=lambda p: (p.parent.name != SESSION, p))
        if self.path is not None:
            raise FileNotFoundError(f"data.path={self.path}: {FILE} is missing there")
        raise FileNotFoundError(
            f"{FILE} is missing in {places[0]}; get it by hand (doi {DOI}, Datasets/{SESSION}/{FILE}), "
            "or give data.path=<file or folder>"
        )

    def _split(self, n: int, letter: str, path: Path) -> dict[str, list[int]]:
        """Trials of one letter for each part, repeated as asked."""
        need = self.n_test_trials + self.n_valid_trials + 1
        if n < need:
            raise ValueError(f"{path}: letter '{letter}' has {n} trials; a split needs {need}")
        n_folds = n // self.n_test_trials
        if self.fold is not None and self.fold >= n_folds:
            raise ValueError(
                f"data.fold={self.fold}: letter '{letter}' has {n} trials, so folds are 0 to {n_folds - 1}"
            )
        first = n - self.n_test_trials if self.fold is None else self.fold * self.n_test_trials
        test = list(range(first, first + self.n_test_trials))
        valid = sorted((first - 1 - k) % n for k in range(self.n_valid_trials))
        train = [k for k in range(n) if k not in test and k not in valid]
        return {"train": train * self.enlarge_train, "valid": valid, "test": test * self.enlarge_test}


def _cube(file: MatFile, letter: str) -> NDArray[np.float64]:
    name = f"neuralActivityCube_{letter}"
    cube = file.read(name)
    if cube.ndim != 3 or cube.shape[2] != ELECTRODES or not all(cube.shape) or cube.shape[1] > MAX_STEPS:
        raise ValueError(f"{file.path}: {name} has the shape {cube.shape}, not (n_trials, n_bins, {ELECTRODES})")
    if not np.issubdtype(cube.dtype, np.number) or not np.isfinite(cube).all() or (cube < 0).any():
        raise ValueError(f"{file.path}: {name} holds values that are no counts (negative or not finite)")
    return np.asarray(cube, np.float64)


def _pack(trial: NDArray[np.float64]) -> NDArray[np.uint32]:
    """One trial `(n_bins, 192)` as a packed raster: the counts, clamped at 1."""
    steps, channels = np.nonzero(trial)
    return pack_raster(steps, channels, ELECTRODES, len(trial))
