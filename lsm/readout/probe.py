"""The linear probe of the random-RRAM paper: one linear layer on rates f = counts / window, softmax loss, Adam or AdamW.

Published: N-MNIST Adam 1e-4, batches of 100, 100 epochs; N-TIDIGITS AdamW 6e-4 (decay 0.01), batches of 256, 600 epochs;
one-hot targets, features neither centred nor scaled, weights that start uniform within 1 / sqrt(n_features). A learning rate
that is left open is 1e-4 for the 50,000 updates of the whole N-MNIST, and the more the fewer there are, up to 1e-2: at 1e-4
a set of a thousand samples ends long before anything is learnt.
Source: Lin et al., Nat. Comput. Sci. 5, 37 (2025), published code. There the epoch is chosen on test data, here on validation
data, and samples are shuffled in each epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lsm.readout import adam
from lsm.readout.contract import Arrays, Features, OnEpoch, Progress, Save
from lsm.readout.features import chunks
from lsm.readout.linear import Epochs, LinearScorer, class_targets, cross_entropy

PUBLISHED_RATE, PUBLISHED_UPDATES, MOST_FASTER = 1e-4, 50_000, 100.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class LinearProbe:
    """Settings of the probe; raises pydantic's `ValidationError` on a bad value."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    batch: Annotated[int, Field(ge=1, description="samples a step")] = 100
    learning_rate: Annotated[
        float | None, Field(gt=0, le=1, description="null = 1e-4, more where there are few updates")
    ] = None
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW, decoupled; 0 = Adam")] = 0.0
    start: Annotated[Literal["uniform", "zero"], Field(description="weights before the first step")] = "uniform"
    shuffle: Annotated[bool, Field(description="another order in each epoch; false as published")] = True

    def rate(self, n_samples: int) -> float:
        """The learning rate for a training set of this size."""
        if self.learning_rate is not None:
            return self.learning_rate
        updates = self.epochs * -(-n_samples // self.batch)
        return PUBLISHED_RATE * min(max(1.0, PUBLISHED_UPDATES / updates), MOST_FASTER)

    def fit(
        self,
        train: Features,
        valid: Features,
        n_classes: int,
        seed: int,
        *,
        window: float = 1.0,
        on_epoch: OnEpoch | None = None,
        progress: Progress | None = None,
        state: Mapping[str, NDArray[Any]] | None = None,
        save: Save | None = None,
    ) -> LinearScorer:
        """Train on counts over `window`, and keep the epoch with the best validation accuracy."""
        n_features = train.counts.shape[1]
        variables = adam.start(n_features, n_classes)
        if self.start == "uniform":
            rng, reach = np.random.default_rng([seed, 0]), n_features**-0.5
            for part in ("weights", "bias"):
                values = variables[f"value_{part}"]
                values[...] = rng.uniform(-reach, reach, values.shape)
        targets = class_targets(n_classes, one_hot=True).astype(np.float32)

        def one_epoch(epoch: int) -> tuple[float, float]:
            n = len(train.labels)
            order = np.random.default_rng([seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
            return self._epoch(epoch, order, train, np.float32(1 / window), targets, variables)

        def snapshot(epoch: int) -> LinearScorer:
            weights = variables["value_weights"] / np.float32(window)
            return LinearScorer(weights, variables["value_bias"].astype(np.float64), epoch=epoch, absolute=True)

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
        scale: np.float32,
        targets: NDArray[np.float32],
        variables: Arrays,
    ) -> tuple[float, float]:
        """One pass over the training set: mean loss and accuracy of the batches before each step."""
        weights, bias = variables["value_weights"], variables["value_bias"]
        batches = chunks(len(order), self.batch)
        total_loss, right = 0.0, 0
        for k, part in enumerate(batches):
            index = order[part]
            rates = np.take(train.counts, index, axis=0).astype(np.float32) * scale
            scores, labels = rates @ weights + bias, train.labels[index]
            loss, slope = cross_entropy(scores, targets[labels])
            total_loss += loss * len(index)
            right += int(np.count_nonzero(scores.argmax(axis=1) == labels))
            step, rate = (epoch - 1) * len(batches) + k + 1, self.rate(len(order))
            for value in (weights, bias):  # AdamW shrinks before the step, the bias too, as torch does
                value *= np.float32(1 - rate * self.weight_decay)
            adam.step(variables, "weights", rates.T @ slope, step, rate)
            adam.step(variables, "bias", slope.sum(axis=0), step, rate)
        return total_loss / len(order), right / len(order)
