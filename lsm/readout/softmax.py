"""Softmax regression by Adam on globally scaled features: the default readout.

On the same counts 60 of these epochs reach what 3,000 epochs of the published Adadelta reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lsm.readout import adam
from lsm.readout.contract import Arrays, Features, OnEpoch, Progress, Save
from lsm.readout.features import Standard, chunks, inverse_sums
from lsm.readout.linear import Epochs, LinearScorer, class_targets, cross_entropy


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Softmax:
    """Settings of the default readout; raises pydantic's `ValidationError` on a bad value.

    Features are L1-normalised counts, centred and divided by one standard deviation of the training set; the
    learning rate falls from `learning_rate` to 0 along a half cosine. float32, in the order of a seeded shuffle.
    """

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    batch: Annotated[int, Field(ge=1, description="samples a step")] = 250
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    l2: Annotated[float, Field(ge=0, description="adds l2/2 |W|^2 to the loss, bias excepted")] = 5e-10
    targets: Literal["soft", "one_hot"] = "soft"

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
        """Train, and keep the epoch with the best validation accuracy."""
        standard = Standard.of(train.counts)
        variables = adam.start(train.counts.shape[1], n_classes)
        targets = class_targets(n_classes, self.targets == "one_hot").astype(np.float32)
        scale = (inverse_sums(train.counts) / standard.deviation).astype(np.float32)[:, None]
        centre = (standard.mean / standard.deviation).astype(np.float32)

        def one_epoch(epoch: int) -> tuple[float, float]:
            order = np.random.default_rng([seed, epoch]).permutation(len(train.labels))
            return self._epoch(epoch, order, train, scale, centre, targets, variables)

        def snapshot(epoch: int) -> LinearScorer:
            return LinearScorer.folded(
                variables["value_weights"], variables["value_bias"], standard, epoch, dtype=np.float32
            )

        loop = Epochs(self.epochs, variables, one_epoch, snapshot, targets)
        return loop.run(valid, on_epoch, progress, state, save)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> LinearScorer:
        """The fitted layer whose `arrays()` these are."""
        return LinearScorer.from_arrays(arrays)

    def _epoch(
        self,
        epoch: int,
        order: NDArray[np.int64],
        train: Features,
        scale: NDArray[np.float32],
        centre: NDArray[np.float32],
        targets: NDArray[np.float32],
        variables: Arrays,
    ) -> tuple[float, float]:
        """One pass over the training set: mean loss and accuracy of the batches before each step."""
        weights, bias = variables["value_weights"], variables["value_bias"]
        batches = chunks(len(order), self.batch)
        total_loss, right = 0.0, 0
        for k, part in enumerate(batches):
            index = order[part]
            # The features are x = scale * counts - centre. Scaling the ten scores instead of the thousand
            # features, and centring by a rank-one term, saves two passes over the batch.
            counts = np.take(train.counts, index, axis=0).astype(np.float32)
            scores = (counts @ weights) * scale[index] + (bias - centre @ weights)
            labels = train.labels[index]
            loss, slope = cross_entropy(scores, targets[labels])
            total_loss += loss * len(index)
            right += int(np.count_nonzero(scores.argmax(axis=1) == labels))

            slope_bias = slope.sum(axis=0)
            slope_weights = counts.T @ (slope * scale[index]) - np.outer(centre, slope_bias)
            slope_weights += np.float32(self.l2) * weights
            step = (epoch - 1) * len(batches) + k
            rate = 0.5 * self.learning_rate * (1 + math.cos(math.pi * step / (self.epochs * len(batches))))
            adam.step(variables, "weights", slope_weights, step + 1, rate)
            adam.step(variables, "bias", slope_bias, step + 1, rate)
        return total_loss / len(order), right / len(order)
