"""Two senses of the same classes, for zero-shot search from one to the other: contract, rules and pairing.

Training and validation see only the `seen` classes. The test parts hold seen and `unseen` classes; a sample there has no
partner: a query of one sense searches all samples of the other (spec of the original: pairs matter in training only).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsm.datasets.subsets import PARTS
from lsm.encode import Dataset, Split, concatenate

TRAINING = ("train", "valid")


@dataclass(frozen=True)
class PairedDataset:
    """Two labelled data sets with one numbering of classes; raises `ValueError` where a rule of pairing is broken.

    `first` and `second` are the two senses, called `modalities` ("image", "audio"). Labels index `class_names`; classes that
    are neither in `seen` nor in `unseen` occur nowhere. `train_pairs` and `valid_pairs` `(n_pairs, 2)` int64 are positions
    in the same part of `first` and of `second`; both samples of a pair are of one class, and a sample may be in several.
    `protocol` is "honest", or "published" where the parts are those of the original, which has no validation part.
    """

    name: str
    modalities: tuple[str, str]
    first: Dataset
    second: Dataset
    seen: tuple[int, ...]
    unseen: tuple[int, ...]
    class_names: tuple[str, ...]
    train_pairs: NDArray[np.int64]
    valid_pairs: NDArray[np.int64]
    protocol: str = "honest"
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_classes(self)
        for modality, dataset in self.senses():
            _check_parts(self, modality, dataset)
        _check_pairs(self, "train", self.train_pairs)
        _check_pairs(self, "valid", self.valid_pairs)
        if self.protocol == "honest" and not len(self.valid_pairs):
            raise ValueError(f"{self.name}: no validation pairs; an honest selection needs some of the seen classes")

    def senses(self) -> Iterator[tuple[str, Dataset]]:
        """Name and data of each sense, first and second."""
        yield from zip(self.modalities, (self.first, self.second), strict=True)

    def test_index(self, dataset: Dataset, classes: tuple[int, ...]) -> NDArray[np.int64]:
        """Positions in `dataset.test` of the samples of `classes` (`seen` or `unseen`), ascending."""
        return np.flatnonzero(np.isin(dataset.test.labels, classes))


def pair_by_class(first: NDArray[np.int64], second: NDArray[np.int64], longest: bool = False) -> NDArray[np.int64]:
    """Positions `(n_pairs, 2)` of the k-th sample of each class in labels `first` and in `second`, class by class.

    A class has as many pairs as the sense with fewer samples of it (published); `longest` takes the sense with more, and
    goes through the samples of the other again. Raises `ValueError` where only one of them has a class.
    """
    if only := set(np.unique(first).tolist()) ^ set(np.unique(second).tolist()):
        raise ValueError(f"unpaired modalities: only one of them has samples of class {min(only)}")
    pairs = [np.zeros((0, 2), np.int64)]
    for c in np.unique(first):
        a, b = np.flatnonzero(first == c), np.flatnonzero(second == c)
        k = np.arange(max(len(a), len(b)) if longest else min(len(a), len(b)))
        pairs.append(np.column_stack([a[k % len(a)], b[k % len(b)]]))
    return np.concatenate(pairs)


def first_of(labels: NDArray[np.int64], counts: Mapping[int, int | None]) -> NDArray[np.int64]:
    """Positions of the first `counts[c]` samples of each class c (`None` = all) in `labels`, ascending."""
    chosen = [np.flatnonzero(labels == c)[:n] for c, n in counts.items()]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))


def counts_of(split: Split, classes: Iterable[int]) -> dict[int, int]:
    """How many samples of each of `classes` a split has."""
    return {c: int((split.labels == c).sum()) for c in classes}


def restrict(
    dataset: Dataset, seen: Sequence[int], unseen: Sequence[int], everywhere: bool, at_most: int | None = None
) -> Dataset:
    """A data set as one sense of a pair: seen classes alone in training and validation, all of them in the test part.

    Samples of unseen classes in the other parts are dropped, or come into the test part (`everywhere`), since nothing was
    trained on them. `at_most` takes the first so many test samples of each class.
    """
    parts = {part: getattr(dataset, part) for part in TRAINING}
    kept = {part: s.take(first_of(s.labels, dict.fromkeys(seen))) for part, s in parts.items()}
    test = dataset.test.take(first_of(dataset.test.labels, dict.fromkeys((*seen, *unseen), at_most)))
    if everywhere:
        more = [s.take(first_of(s.labels, dict.fromkeys(unseen))) for s in parts.values()]
        test = _join([test, *more])
        test = test.take(first_of(test.labels, dict.fromkeys(seen) | dict.fromkeys(unseen, at_most)))
    return dataclasses.replace(dataset, **kept, test=test)


def _join(splits: Sequence[Split]) -> Split:
    """Several splits in a row; empty ones are left out."""
    filled = [s for s in splits if len(s)] or list(splits[:1])
    names = tuple(name for s in filled for name in s.names)
    return Split(concatenate([s.inputs for s in filled]), np.concatenate([s.labels for s in filled]), names)


def _check_classes(pair: PairedDataset) -> None:
    where, (first, second) = pair.name, pair.modalities
    if first == second:
        raise ValueError(f"{where}: both modalities are called '{first}'")
    if not pair.seen or not pair.unseen:
        raise ValueError(f"{where}: {'seen' if not pair.seen else 'unseen'}=[]: at least one class is needed")
    if both := set(pair.seen) & set(pair.unseen):
        raise ValueError(f"{where}: class {_name(pair, min(both))} is both seen and unseen")
    for c in (*pair.seen, *pair.unseen):
        if not 0 <= c < len(pair.class_names):
            raise ValueError(f"{where}: class {c}: allowed are 0 to {len(pair.class_names) - 1}")
        names = [d.class_names[c] if c < len(d.class_names) else None for _, d in pair.senses()]
        if names[0] != names[1]:
            raise ValueError(
                f"{where}: unpaired modalities: class {c} is {names[0]!r} in {first} and {names[1]!r} in {second}"
            )


def _check_parts(pair: PairedDataset, modality: str, dataset: Dataset) -> None:
    needed = {"train": pair.seen, "test": (*pair.seen, *pair.unseen)}
    allowed = {"train": pair.seen, "valid": pair.seen, "test": (*pair.seen, *pair.unseen)}
    for part in PARTS:
        labels = getattr(dataset, part).labels
        there = set(np.unique(labels).tolist())
        if part in TRAINING and (leaks := there & set(pair.unseen)):
            n = int((labels == min(leaks)).sum())
            raise ValueError(
                f"{pair.name}: unseen class {_name(pair, min(leaks))} leaks into training: "
                f"{n} samples in {modality}/{part}"
            )
        if strange := there - set(allowed[part]):
            raise ValueError(
                f"{pair.name}: class {_name(pair, min(strange))} in {modality}/{part} is neither seen nor unseen"
            )
        if missing := set(needed.get(part, ())) - there:
            raise ValueError(f"{pair.name}: class {_name(pair, min(missing))} has no sample in {modality}/{part}")


def _check_pairs(pair: PairedDataset, part: str, index: NDArray[np.int64]) -> None:
    labels = [getattr(dataset, part).labels for _, dataset in pair.senses()]
    if index.ndim != 2 or index.shape[1] != 2:
        raise ValueError(f"{pair.name}: {part}_pairs has the shape {index.shape}, not (n_pairs, 2)")
    for column, (modality, of) in enumerate(zip(pair.modalities, labels, strict=True)):
        if len(index) and not 0 <= index[:, column].min() <= index[:, column].max() < len(of):
            raise ValueError(
                f"{pair.name}: {part}_pairs names samples that {modality}/{part} ({len(of)}) does not have"
            )
    wrong = np.flatnonzero(labels[0][index[:, 0]] != labels[1][index[:, 1]])
    if len(wrong):
        a, b = (_name(pair, int(of[k])) for of, k in zip(labels, index[wrong[0]], strict=True))
        raise ValueError(f"{pair.name}: unpaired modalities: pair {wrong[0]} of {part} is of classes {a} and {b}")


def _name(pair: PairedDataset, c: int) -> str:
    return f"'{pair.class_names[c]}'" if 0 <= c < len(pair.class_names) else str(c)
