"""The published readout: a softmax layer on maximum-scaled counts, trained by Adadelta, 5,000 epochs in fixed order.

    a <- rho a + (1 - rho) g^2
    d  = sqrt(u + eps) / sqrt(a + eps) * g              a, u start at 0, as do the weights
    u <- rho u + (1 - rho) d^2
    p <- p - rate d                                     the form of TensorFlow 1

Source: Ivanov & Michmizos, NeurIPS 2021, and its published code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lsm.readout.contract import Arrays, Features, OnEpoch, Progress, Save
from lsm.readout.features import batch_maximum_scales, chunks, inverse_sums, training_maximum
from lsm.readout.linear import Epochs, LinearScorer, accuracy, class_targets, cross_entropy


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Adadelta:
    """Settings of the published readout; raises pydantic's `ValidationError` on a bad value.

    With `batch_maximum` each batch is divided by its own largest feature, as in the published code, so that a
    prediction depends on the samples around it; without, all are divided by the largest of the training set.
    """

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    batch: Annotated[int, Field(ge=1, description="samples a step; 250 for 1,000 neurons, 50 for 8,000")] = 250
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.1
    rho: Annotated[float, Field(ge=0, lt=1)] = 0.95
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    l2: Annotated[float, Field(ge=0, description="adds l2/2 |W|^2 to the loss, bias excepted")] = 5e-10
    targets: Literal["soft", "one_hot"] = "soft"
    batch_maximum: bool = False
    precision: Literal["float32", "float64"] = "float32"

    def fit(
        self,
        train: Features,
        valid: Features,
        n_classes: int,
        seed: int,
        *,
        on_epoch: OnEpoch | None = None,
        progress: Progress | None = None,
        state: Mapping[str, NDArray[Any]] | None = None,
        save: Save | None = None,
    ) -> LinearScorer:
        """Train, and keep the epoch with the best validation accuracy; `seed` has no effect, nothing is random."""
        dtype = np.dtype(self.precision)
        layer = AdadeltaLayer(self, train.counts.shape[1], n_classes)
        maximum = 1.0 if self.batch_maximum else training_maximum(train.counts)
        if self.batch_maximum:
            scales = batch_maximum_scales(train.counts, self.batch).astype(dtype)
        else:
            scales = (inverse_sums(train.counts) / maximum).astype(dtype)
        batches = chunks(len(train.labels), self.batch)

        def one_epoch(_: int) -> tuple[float, float]:
            loss, right = 0.0, 0.0
            for part in batches:
                share = (part.stop - part.start) / len(train.labels)
                batch_loss, batch_accuracy = layer.step(train.counts[part], scales[part], train.labels[part])
                loss += share * batch_loss
                right += share * batch_accuracy
            return loss, right

        def snapshot(epoch: int) -> LinearScorer:
            weights = layer.weights / dtype.type(maximum)
            return LinearScorer(weights, layer.bias.astype(np.float64), self.batch * self.batch_maximum, epoch)

        loop = Epochs(self.epochs, layer.variables, one_epoch, snapshot, layer.targets)
        return loop.run(valid, on_epoch, progress, state, save)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> LinearScorer:
        """The fitted layer whose `arrays()` these are."""
        return LinearScorer.from_arrays(arrays)


class AdadeltaLayer:
    """A softmax layer with the state of its optimiser, all in `variables`, changed in place by `step`."""

    def __init__(self, settings: Adadelta, n_features: int, n_classes: int) -> None:
        self.settings = settings
        self.dtype = np.dtype(settings.precision)
        self.targets = class_targets(n_classes, settings.targets == "one_hot").astype(self.dtype)
        self.variables: Arrays = {
            f"{name}_{part}": np.zeros(shape, self.dtype)
            for part, shape in (("weights", (n_features, n_classes)), ("bias", (n_classes,)))
            for name in ("value", "slope_square", "change_square")
        }

    @property
    def weights(self) -> NDArray[Any]:
        """`(n_features, n_classes)`."""
        return self.variables["value_weights"]

    @property
    def bias(self) -> NDArray[Any]:
        """`(n_classes,)`."""
        return self.variables["value_bias"]

    def scores(self, counts: NDArray[Any], scales: NDArray[Any]) -> NDArray[Any]:
        """`(n, n_classes)` scores of `scales[:, None] * counts`."""
        return (counts.astype(self.dtype) @ self.weights) * scales[:, None] + self.bias

    def step(self, counts: NDArray[Any], scales: NDArray[Any], labels: NDArray[np.int64]) -> tuple[float, float]:
        """One optimiser step; returns mean loss and accuracy of the batch before it."""
        counts = counts.astype(self.dtype)
        scores = self.scores(counts, scales)
        loss, slope = cross_entropy(scores, self.targets[labels])
        slope_weights = counts.T @ (slope * scales[:, None]) + self.dtype.type(self.settings.l2) * self.weights
        self._descend("weights", slope_weights)
        self._descend("bias", slope.sum(axis=0))
        return loss, accuracy(scores, labels)

    def _descend(self, part: str, slope: NDArray[Any]) -> None:
        number = self.dtype.type
        rho, epsilon = number(self.settings.rho), number(self.settings.epsilon)
        slope_square, change_square = self.variables[f"slope_square_{part}"], self.variables[f"change_square_{part}"]
        slope_square *= rho
        slope_square += (1 - rho) * slope * slope
        change = np.sqrt((change_square + epsilon) / (slope_square + epsilon)) * slope
        change_square *= rho
        change_square += (1 - rho) * change * change
        self.variables[f"value_{part}"] -= number(self.settings.learning_rate) * change


def adadelta_trajectory(
    counts: NDArray[Any], labels: NDArray[np.int64], passes: int, n_classes: int = 10, settings: Adadelta | None = None
) -> dict[str, NDArray[np.float64]]:
    """Every step of the published recipe, for comparison with recorded ones.

    `counts (n_batches, batch, n_features)` and `labels (n_batches, batch)` are presented `passes` times in order.
    Returns `W_after_step (n_steps, n_features, n_classes)`, `b_after_step (n_steps, n_classes)` and
    `acc_per_epoch_batch (passes, n_batches)`, the accuracy of each batch after each pass. float64, batch maximum.
    """
    layer = AdadeltaLayer(settings or Adadelta(precision="float64", batch_maximum=True), counts.shape[2], n_classes)
    scales = [batch_maximum_scales(batch, len(batch)) for batch in counts]
    weights, biases, accuracies = [], [], []
    for _ in range(passes):
        for batch, scale, label in zip(counts, scales, labels, strict=True):
            layer.step(batch, scale, label)
            weights.append(layer.weights.copy())
            biases.append(layer.bias.copy())
        accuracies.append([accuracy(layer.scores(b, s), y) for b, s, y in zip(counts, scales, labels, strict=True)])
    return {
        "W_after_step": np.array(weights),
        "b_after_step": np.array(biases),
        "acc_per_epoch_batch": np.array(accuracies),
    }
