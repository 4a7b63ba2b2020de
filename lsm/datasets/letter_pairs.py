"""Attempted handwriting with pictures of letters, for zero-shot search from brain to letter (and back).

| protocol | trials of a seen letter: train / valid / test | images: train / valid / test | test of unseen letters |
|---|---|---|---|
| honest | 21 / 3 / 3 | 240 / 30 / 30 | all 27 trials, 30 images |
| published | 24 / none / 3, each test trial ten times | 240 / none / 30 | 3 trials, each ten times, 30 images |

Each image is in one training pair; the trials of its letter are gone through again and again, which is what the ten copies
of the published code come to: 5,280 pairs of 22 letters. There are no more than 27 different trials of a letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lsm.datasets.digit_pairs import naming, paired, picker
from lsm.datasets.emnist import Emnist
from lsm.datasets.fetch import Progress
from lsm.datasets.handwriting import LETTERS, Handwriting
from lsm.datasets.pairs import PairedDataset, restrict
from lsm.datasets.subsets import STRICT

PUBLISHED_COPIES = 10
Letters = Annotated[tuple[Annotated[int, Field(ge=0, lt=26)], ...], Field(strict=False, min_length=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=STRICT)
class HandwritingEmnist:
    """Options and loader of the pair; raises pydantic's `ValidationError` on a bad value. Letter 0 is `a`."""

    name: str = "handwriting_emnist"
    protocol: Annotated[Literal["honest", "published"], Field(description="which samples are for what")] = "honest"
    unseen: Annotated[Letters, Field(description="letters that training never sees; the others are seen")] = (
        22,
        23,
        24,
        25,
    )
    images_train: Annotated[Count, Field(description="of each seen letter")] = 240
    images_valid: Annotated[Count, Field(description="of each seen letter, honest only")] = 30
    images_test: Annotated[Count, Field(description="of each letter")] = 30
    fold: Annotated[int | None, Field(ge=0, description="which trials are the test; null = the last")] = None
    shared_field: Annotated[bool, Field(description="one random field for all images (published code)")] = False
    neural_path: str | None = None
    image_path: str | None = None

    kind: ClassVar[str] = "pairs"

    @model_validator(mode="after")
    def _some_seen(self) -> HandwritingEmnist:
        if not self.seen:
            raise ValueError("unseen: all 26 letters; at least one must be seen")
        return self

    @property
    def seen(self) -> tuple[int, ...]:
        """Letters of the training part."""
        return tuple(c for c in range(len(LETTERS)) if c not in self.unseen)

    def load(
        self, root: Path, seed: int, progress: Progress | None = None, maximum: float | None = None
    ) -> PairedDataset:
        """Load both senses and pair them; `maximum` is ignored. Raises as both loaders and as `PairedDataset`."""
        honest = self.protocol == "honest"
        neural = Handwriting(
            path=self.neural_path,
            fold=self.fold,
            n_valid_trials=3 if honest else 0,
            enlarge_test=1 if honest else PUBLISHED_COPIES,
        )
        with naming("neural"):
            trials = restrict(neural.load(root, seed, progress), self.seen, self.unseen, everywhere=honest)
        wanted: dict[str, Mapping[int, int]] = {
            "train": dict.fromkeys(self.seen, self.images_train),
            "valid": dict.fromkeys(self.seen, self.images_valid if honest else 0),
            "test": dict.fromkeys(range(len(LETTERS)), self.images_test),
        }
        with naming("image"):
            source = Emnist(path=self.image_path, shared_field=self.shared_field)
            images = source.load(root, seed, progress, pick=picker(wanted))
        return paired(
            self.name, ("neural", "image"), trials, images, self.seen, self.unseen, self.protocol, longest=True
        )
