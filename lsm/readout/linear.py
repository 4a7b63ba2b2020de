"""The linear layer that all readouts here end in, its softmax loss, and the loop over epochs with its choice.

    scores = scale * (counts @ weights) + bias          scale = 1 / max(sum of the sample's counts, 1), or 1

Centring and global scaling of the features are folded into `weights` and `bias`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lsm.readout.contract import Arrays, Features, OnEpoch, Progress, Save, blas_threads
from lsm.readout.features import Standard, batch_maximum_scales, chunks, inverse_sums

SAVE_EVERY_S = 5.0
"""Least time between two calls of `save`."""


@dataclass(frozen=True)
class LinearScorer:
    """Linear scores of L1-normalised counts; computed in the precision of `weights`.

    `weights (n_features, n_classes)`, `bias (n_classes,)`; `batch_maximum` > 0 divides each sample by the largest
    share within its batch of that size, as the published code does; `epoch` is the one the weights are from. With
    `absolute` counts are taken as they are, so that a sample with more spikes has larger scores.
    """

    weights: NDArray[Any]
    bias: NDArray[np.float64]
    batch_maximum: int = 0
    epoch: int = 0
    absolute: bool = False

    def scores(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """`(n, n_classes)` scores; raises `ValueError` where the number of features is another."""
        if counts.ndim != 2 or counts.shape[1] != len(self.weights):
            raise ValueError(f"counts of shape {counts.shape}, but the readout has {len(self.weights)} features")
        out = np.empty((len(counts), len(self.bias)))
        with blas_threads(1):  # so that the scores do not depend on the number of threads
            for part in chunks(len(counts)):
                out[part] = counts[part].astype(self.weights.dtype) @ self.weights
        if self.absolute:
            return out + self.bias
        scale = batch_maximum_scales(counts, self.batch_maximum) if self.batch_maximum else inverse_sums(counts)
        return out * scale[:, None] + self.bias

    def arrays(self) -> Arrays:
        """Everything that scoring needs."""
        numbers = {"batch_maximum": np.asarray(self.batch_maximum)}
        if self.absolute:
            numbers["absolute"] = np.asarray(True)
        return {"weights": self.weights, "bias": self.bias, **numbers}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], epoch: int = 0) -> LinearScorer:
        """The scorer whose `arrays()` these are; raises `ValueError` where one is missing or shapes disagree."""
        missing = {"weights", "bias", "batch_maximum"} - set(arrays)
        if missing:
            raise ValueError(f"saved readout lacks {', '.join(sorted(missing))}")
        weights, bias = np.asarray(arrays["weights"]), np.asarray(arrays["bias"])
        if weights.ndim != 2 or bias.shape != weights.shape[1:]:
            raise ValueError(f"saved readout has weights of shape {weights.shape} and bias of shape {bias.shape}")
        return LinearScorer(weights, bias, int(arrays["batch_maximum"]), epoch, bool(arrays.get("absolute", False)))

    @staticmethod
    def folded(
        weights: NDArray[Any], bias: NDArray[Any], standard: Standard, epoch: int = 0, dtype: DTypeLike = np.float64
    ) -> LinearScorer:
        """The scorer equal to `weights` and `bias` on standardised features."""
        wide = weights.astype(np.float64) / standard.deviation
        return LinearScorer(wide.astype(dtype), bias.astype(np.float64) - standard.mean @ wide, epoch=epoch)


def class_targets(n_classes: int, one_hot: bool) -> NDArray[np.float64]:
    """`(n_classes, n_classes)`: row k is the target distribution of class k.

    One-hot, or the published softmax of +1 for the class and -1 for the others: 0.4509 and 0.0610 of ten classes.
    """
    if one_hot:
        return np.eye(n_classes)
    weights = np.exp(2 * np.eye(n_classes) - 1)
    return weights / weights.sum(axis=1, keepdims=True)


def accuracy(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of samples whose largest score is that of their label, 0..1."""
    return float(np.mean(scores.argmax(axis=1) == labels))


def cross_entropy(scores: NDArray[Any], targets: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Mean cross-entropy in nats of softmax(scores) against `targets`, both `(n, n_classes)`, and d(loss)/d(scores)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(total[:, 0]) * targets.sum(axis=1) - np.einsum("ij,ij->i", targets, shifted)))
    return loss, (exponentials / total - targets) / scores.dtype.type(len(scores))


@dataclass(frozen=True)
class Epochs:
    """The loop over epochs: best validation accuracy wins, the first of equals, the last epoch included.

    `one_epoch(epoch)` trains on and returns mean loss and accuracy of the batches as they were met; it changes the
    arrays of `variables` in place and depends on nothing else that changes, so that they and the best scorer so far
    are all there is to save. `snapshot(epoch)` returns the scorer as it stands.
    """

    count: int
    variables: Arrays
    one_epoch: Callable[[int], tuple[float, float]]
    snapshot: Callable[[int], LinearScorer]
    targets: NDArray[Any]

    def run(
        self,
        valid: Features,
        on_epoch: OnEpoch | None = None,
        progress: Progress | None = None,
        state: Mapping[str, NDArray[Any]] | None = None,
        save: Save | None = None,
    ) -> LinearScorer:
        """Train to the end, from `state` if given; the result is bit for bit that of the unbroken run.

        On one thread: ten columns are too few for BLAS to gain by a second, and so the result is the same for any.
        """
        with blas_threads(1):
            return self._run(valid, on_epoch, progress, state, save)

    def _run(
        self,
        valid: Features,
        on_epoch: OnEpoch | None,
        progress: Progress | None,
        state: Mapping[str, NDArray[Any]] | None,
        save: Save | None,
    ) -> LinearScorer:
        done, best, best_accuracy = self._resume(state) if state else (0, self.snapshot(0), -1.0)
        saved_at = time.monotonic()
        for epoch in range(done + 1, self.count + 1):
            loss, train_accuracy = self.one_epoch(epoch)
            scorer = self.snapshot(epoch)
            scores = scorer.scores(valid.counts)
            valid_accuracy = accuracy(scores, valid.labels)
            if valid_accuracy > best_accuracy:
                best, best_accuracy = scorer, valid_accuracy
            if on_epoch:
                valid_loss, _ = cross_entropy(scores, self.targets[valid.labels])
                on_epoch(
                    epoch,
                    {
                        "train/loss": loss,
                        "train/accuracy": train_accuracy,
                        "valid/loss": valid_loss,
                        "valid/accuracy": valid_accuracy,
                    },
                )
            if progress:
                progress(epoch, self.count)
            if save and time.monotonic() - saved_at >= SAVE_EVERY_S:
                save(self._state(epoch, best, best_accuracy))
                saved_at = time.monotonic()
        return best

    def _state(self, epoch: int, best: LinearScorer, best_accuracy: float) -> Arrays:
        state = {name: value.copy() for name, value in self.variables.items()}
        state |= {f"best/{name}": value for name, value in best.arrays().items()}
        numbers = {"epoch": epoch, "best_epoch": best.epoch, "best_accuracy": best_accuracy}
        return state | {name: np.asarray(value) for name, value in numbers.items()}

    def _resume(self, state: Mapping[str, NDArray[Any]]) -> tuple[int, LinearScorer, float]:
        for name, value in self.variables.items():
            if name not in state or state[name].shape != value.shape or state[name].dtype != value.dtype:
                raise ValueError(f"the saved state of the readout has no {name} of shape {value.shape} {value.dtype}")
            value[...] = state[name]
        arrays = {k.removeprefix("best/"): v for k, v in state.items() if k.startswith("best/")}
        best = LinearScorer.from_arrays(arrays, int(state["best_epoch"]))
        return int(state["epoch"]), best, float(state["best_accuracy"])
