"""Seen and heard digits for zero-shot search: N-MNIST with N-TIDIGITS, and the pair that anyone can run.

| protocol | training pairs | validation pairs | test |
|---|---|---|---|
| honest | digits 1 to 7 without the validation parts | digits 1 to 7 of the validation parts | all sounds of 1 to 7 of the test part and of 8 and 9 of all parts; 100 images of each |
| published | all training sounds of 1 to 7, with as many images | none: the original selects on the test part | the first 100 of each of 1 to 9, both senses: 700 and 200 |

The k-th image of a digit is paired with its k-th sound (published code). Digit 0 is left out, as "zero" and "oh" are two
classes of sounds.
"""  # noqa: E501

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lsm.datasets.fetch import Progress
from lsm.datasets.fsdd import Fsdd
from lsm.datasets.nmnist import NMnist, PartialDataError
from lsm.datasets.nmnist_sim import NMnistSim
from lsm.datasets.ntidigits import NTidigits
from lsm.datasets.pairs import PairedDataset, counts_of, first_of, pair_by_class, restrict
from lsm.datasets.subsets import PARTS, STRICT, Pick
from lsm.encode import Dataset

PUBLISHED_TEST = 100
Digits = Annotated[tuple[Annotated[int, Field(ge=1, le=9)], ...], Field(strict=False, min_length=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class DigitPairs:
    """What both pairs of digits share; raises pydantic's `ValidationError` on a bad value."""

    name: str = "digits"
    protocol: Annotated[Literal["honest", "published"], Field(description="which samples are for what")] = "honest"
    seen: Annotated[Digits, Field(description="digits of the training part")] = (1, 2, 3, 4, 5, 6, 7)
    unseen: Annotated[Digits, Field(description="digits that training never sees")] = (8, 9)
    images_per_test_class: Annotated[Count, Field(description="test images of each digit; published: 100")] = 100
    all_unseen_sounds: Annotated[bool, Field(description="honest: unseen digits of all parts are queries")] = True
    image_path: str | None = None
    audio_path: str | None = None

    kind: ClassVar[str] = "pairs"

    @model_validator(mode="after")
    def _apart(self) -> DigitPairs:
        if both := set(self.seen) & set(self.unseen):
            raise ValueError(f"unseen={list(self.unseen)}: digit {min(both)} is also in seen={list(self.seen)}")
        return self

    def load(
        self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None
    ) -> PairedDataset:
        """Load both senses and pair them; `seed` draws the validation parts where the sets have none.

        `maximum` is ignored. Raises as the loaders of both sets and as `PairedDataset`.
        """
        honest = self.protocol == "honest"
        with naming("audio"):
            sounds = self._sounds(root, seed, honest, progress)
        at_most = None if honest else PUBLISHED_TEST
        sounds = restrict(sounds, self.seen, self.unseen, honest and self.all_unseen_sounds, at_most)
        wanted: dict[str, Mapping[int, int]] = {
            "train": counts_of(sounds.train, self.seen),
            "valid": counts_of(sounds.valid, self.seen),
            "test": dict.fromkeys((*self.seen, *self.unseen), self.images_per_test_class if honest else PUBLISHED_TEST),
        }
        with naming("image"):
            images = self._images(root, seed, picker(wanted), progress)
        return paired(self.name, ("image", "audio"), images, sounds, self.seen, self.unseen, self.protocol)

    def _sounds(self, root: Path, seed: int, honest: bool, progress: Progress | None) -> Dataset:
        raise NotImplementedError

    def _images(self, root: Path, seed: int, pick: Pick, progress: Progress | None) -> Dataset:
        raise NotImplementedError


@dataclass(frozen=True, config=STRICT)
class NMnistNTidigits(DigitPairs):
    """Recordings of an event camera with those of a silicon cochlea: the pair of the original."""

    name: str = "nmnist_ntidigits"
    allow_partial: Annotated[bool, Field(description="take an incomplete N-MNIST")] = False

    def _sounds(self, root: Path, seed: int, honest: bool, progress: Progress | None) -> Dataset:
        source = NTidigits(path=self.audio_path)
        return (source if honest else dataclasses.replace(source, valid_fraction=0.0)).load(root, seed, progress)

    def _images(self, root: Path, seed: int, pick: Pick, progress: Progress | None) -> Dataset:
        return NMnist(path=self.image_path, allow_partial=self.allow_partial).load(root, seed, progress, pick=pick)


@dataclass(frozen=True, config=STRICT)
class MnistFsdd(DigitPairs):
    """Both senses simulated: MNIST seen by the camera of `nmnist_sim`, spoken digits heard by the cochlea of `fsdd`."""

    name: Annotated[str, Field(min_length=1)] = "mnist_fsdd"
    images: Annotated[Literal["mnist", "digits"], Field(description="what the camera looks at")] = "mnist"
    split: Annotated[Literal["index", "speaker"], Field(description="of the sounds; speaker = unknown voices")] = (
        "index"
    )
    keep: Annotated[bool, Field(description="keep simulated recordings in the data folder")] = True

    def _sounds(self, root: Path, seed: int, honest: bool, progress: Progress | None) -> Dataset:
        source = Fsdd(path=self.audio_path, split=self.split, keep=self.keep)
        return (source if honest else dataclasses.replace(source, validate=False)).load(root, seed, progress)

    def _images(self, root: Path, seed: int, pick: Pick, progress: Progress | None) -> Dataset:
        source = NMnistSim(images=self.images, path=self.image_path, keep=self.keep)
        return source.load(root, seed, progress, pick=pick)


def picker(wanted: Mapping[str, Mapping[int, int]]) -> Pick:
    """Takes the first `wanted[part][c]` samples of each class c; other classes and parts are left out."""

    def pick(part: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return first_of(labels, wanted.get(part, {}))

    return pick


def paired(
    name: str,
    modalities: tuple[str, str],
    first: Dataset,
    second: Dataset,
    seen: tuple[int, ...],
    unseen: tuple[int, ...],
    protocol: str,
    longest: bool = False,
) -> PairedDataset:
    """The pair of two restricted data sets, with its facts; raises as `PairedDataset` and `pair_by_class`."""
    pairs = {
        part: pair_by_class(getattr(first, part).labels, getattr(second, part).labels, longest)
        for part in ("train", "valid")
    }
    notes: dict[str, Any] = {
        "protocol": protocol,
        "train_pairs": len(pairs["train"]),
        "valid_pairs": len(pairs["valid"]),
    }
    for modality, dataset in zip(modalities, (first, second), strict=True):
        notes |= {f"{modality}_{part}": len(getattr(dataset, part)) for part in PARTS}
        notes |= {f"{modality}_{key}": value for key, value in dataset.notes.items() if key == "simulated"}
    class_names = max(first.class_names, second.class_names, key=len)
    return PairedDataset(
        name, modalities, first, second, tuple(seen), tuple(unseen), class_names, pairs["train"], pairs["valid"],
        protocol, notes,
    )  # fmt: skip


@contextmanager
def naming(sense: str) -> Iterator[None]:
    """Errors of one sense's loader in the words of the pair: `data.path` is `data.image_path` there."""
    try:
        yield
    except PartialDataError as error:
        raise PartialDataError(f"{sense}: {error}") from error
    except (ValueError, FileNotFoundError) as error:
        text = str(error).replace("data.path", f"data.{sense}_path")
        raise (FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError)(f"{sense}: {text}") from error
