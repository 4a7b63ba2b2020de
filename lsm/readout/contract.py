"""What every readout offers and what the runner does with it, whoever wrote the class.

A readout is named in YAML by `_target_` and its keyword arguments. Only two methods are asked for:

    class Mine:                                              # conf/readout/mine.yaml: _target_: my_package.Mine
        def fit(self, train, valid, n_classes, seed):        # Features, Features, int, int
            return something                                 # with scores(counts) -> (n, n_classes)

`fit` may take any of the optional keywords below; it is given those that its signature names.

| keyword | value |
|---|---|
| `on_epoch` | call as `on_epoch(epoch, {"train/loss": ..., "valid/accuracy": ...})`; epochs count from 1 |
| `progress` | call as `progress(done, total)` |
| `save` | call now and then as `save({name: array})` with all that is needed to go on |
| `state` | what the last `save` before a kill was given, else None |
| `window` | what turns a count into a rate: the number of steps (or ms) that were counted |

What `fit` returns may offer `epoch` (the chosen one), and `arrays() -> {name: array}`, which together with a method
`restore(arrays)` of the settings lets a saved model be scored later. No readout ever sees test data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
OnEpoch = Callable[[int, dict[str, float]], None]
Progress = Callable[[int, int], None]
Save = Callable[[Arrays], None]

OWN_KEYS = ("n_classes", "epoch", "valid_accuracy")


class Features(NamedTuple):
    """Spike counts `(n, n_features)` of any real dtype (a memory map will do) and labels `(n,)` in 0..n_classes-1."""

    counts: NDArray[Any]
    labels: NDArray[np.int64]


class Scorer(Protocol):
    """What `fit` returns: anything that turns counts into one score for each class, the largest of which wins."""

    def scores(self, counts: NDArray[Any]) -> NDArray[Any]:
        """`(n, n_features)` counts to `(n, n_classes)` scores."""


class Readout(Protocol):
    """Settings of a readout that can be fitted; the optional keywords are listed at the head of this file."""

    def fit(self, train: Features, valid: Features, n_classes: int, seed: int) -> Scorer:
        """Fit on `train`, choose by accuracy on `valid`."""


@dataclass(frozen=True)
class FittedReadout:
    """A fitted readout; `epoch` is the chosen one (0 where there are none), `valid_accuracy` a share of 0..1."""

    scorer: Scorer
    n_classes: int
    epoch: int
    valid_accuracy: float

    def scores(self, counts: NDArray[Any]) -> NDArray[Any]:
        """`(n, n_classes)` scores; raises `ValueError` where the readout returns another shape or no finite numbers."""
        scores = np.asarray(self.scorer.scores(counts))
        wanted = (len(counts), self.n_classes)
        name = type(self.scorer).__name__
        if scores.shape != wanted:
            raise ValueError(f"{name}.scores returned shape {scores.shape}, expected {wanted} (samples, classes)")
        if not np.isfinite(scores).all():
            raise ValueError(f"{name}.scores returned values that are not finite")
        return scores

    def predict(self, counts: NDArray[Any]) -> NDArray[np.int64]:
        """`(n,)` class indices: the largest score, the first of equals."""
        return self.scores(counts).argmax(axis=1).astype(np.int64)

    def accuracy(self, features: Features) -> float:
        """Share of samples that are labelled right, 0..1."""
        return float(np.mean(self.predict(features.counts) == features.labels))

    def arrays(self) -> Arrays:
        """Everything that `restore_readout` needs; raises `ValueError` if the readout's author gave no `arrays()`."""
        if not hasattr(self.scorer, "arrays"):
            raise ValueError(f"{type(self.scorer).__name__} has no arrays() method, so it cannot be saved")
        own = (np.int64(self.n_classes), np.int64(self.epoch), np.float64(self.valid_accuracy))
        return dict(self.scorer.arrays()) | {key: np.asarray(value) for key, value in zip(OWN_KEYS, own, strict=True)}


def fit_readout(
    settings: Readout,
    train: Features,
    valid: Features,
    n_classes: int,
    seed: int,
    *,
    threads: int | None = None,
    **callbacks: Any,
) -> FittedReadout:
    """Fit any readout, giving it those of `on_epoch`, `progress`, `state`, `save`, `window` that its `fit` takes.

    `threads` limits the linear algebra (None: as it stands); only ridge and logistic regression profit from more than
    one, and only their last bits depend on it. Raises `ValueError` on features that do not fit together.
    """
    check_features("training", train, n_classes)
    check_features("validation", valid, n_classes)
    if train.counts.shape[1] != valid.counts.shape[1]:
        raise ValueError(
            f"training samples have {train.counts.shape[1]} features, validation samples {valid.counts.shape[1]}"
        )
    taken = inspect.signature(settings.fit).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    passed: Any = {name: value for name, value in callbacks.items() if takes_all or name in taken}
    with blas_threads(threads):
        scorer = settings.fit(train, valid, n_classes, seed, **passed)
        fitted = FittedReadout(scorer, n_classes, int(getattr(scorer, "epoch", 0)), 0.0)
        return FittedReadout(scorer, n_classes, fitted.epoch, fitted.accuracy(valid))


def restore_readout(settings: Readout, arrays: Mapping[str, NDArray[Any]]) -> FittedReadout:
    """The readout whose `arrays()` these are; raises `ValueError` if a key is missing or `settings` cannot restore."""
    if not hasattr(settings, "restore"):
        raise ValueError(f"{type(settings).__name__} has no restore(arrays) method, so a saved one cannot be read")
    missing = [key for key in OWN_KEYS if key not in arrays]
    if missing:
        raise ValueError(f"saved readout lacks {', '.join(missing)}")
    scorer = cast(Any, settings).restore({k: v for k, v in arrays.items() if k not in OWN_KEYS})
    n_classes, epoch, accuracy = (arrays[key] for key in OWN_KEYS)
    return FittedReadout(scorer, int(n_classes), int(epoch), float(accuracy))


def check_features(part: str, features: Features, n_classes: int) -> None:
    """Raise `ValueError` unless counts are `(n, n_features)`, n > 0, not negative, and labels `(n,)` in range."""
    counts, labels = features
    if counts.ndim != 2 or labels.shape != (len(counts),):
        raise ValueError(f"{part} features: counts of shape {counts.shape} with labels of shape {labels.shape}")
    if not len(counts):
        raise ValueError(f"there are no {part} samples to fit or choose the readout with")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"{part} labels span {labels.min()}..{labels.max()}, allowed 0..{n_classes - 1}")
    if counts.dtype.kind != "u" and not counts.min() >= 0:
        raise ValueError(f"{part} counts contain values that are negative or not a number")


def blas_threads(threads: int | None) -> Any:
    """A context in which BLAS uses at most `threads` threads (None: as it stands)."""
    if threads is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads, user_api="blas")
