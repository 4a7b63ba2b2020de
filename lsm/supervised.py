"""Trainable networks at work: supervised training on labelled rasters, and their use as encoders of one sense."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsm.descent import Best, Callbacks, Descent, Scores, one_thread, shuffled
from lsm.encode import Events
from lsm.srnn import RecurrentNetwork, class_loss
from lsm.streams import generator

SCORED_AT_ONCE = 250
MEASURED_ON = 500
"""Samples on which the features of an untrained network are measured."""


@dataclass(frozen=True)
class Labelled:
    """Rasters of steps and the classes `(n,)` of the samples."""

    events: Events
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class TrainedSource:
    """Samples of one sense, seen through a network that is trained together with the head (a `sources.Source`).

    `offset` `(n_neurons,)` is subtracted from the features and `factor` multiplied.
    """

    network: RecurrentNetwork
    events: Events
    seed: int
    offset: Tensor | float = 0.0
    factor: float = 1.0

    @property
    def n_features(self) -> int:
        """Width of the features: the network's neurons."""
        return self.network.parameters.n_neurons

    @property
    def n_samples(self) -> int:
        """How many samples there are."""
        return len(self.events)

    @property
    def at_once(self) -> int:
        """How many samples are embedded in one piece."""
        return SCORED_AT_ONCE

    @property
    def variables(self) -> dict[str, Tensor]:
        """Fresh weights of the network."""
        return {name: tensor[None] for name, tensor in self.network.variables(self.seed).items()}

    def features(self, variables: Mapping[str, Tensor], index: NDArray[np.int64]) -> Tensor:
        """Features `(1, n, n_neurons)` of the samples `index` `(1, n)`."""
        own = {name: tensor[0] for name, tensor in variables.items() if name.startswith(self.network.prefix)}
        features = self.network.features(own, self.network.input(self.events, index[0]))
        return ((features - self.offset) * self.factor)[None]

    def take(self, index: NDArray[np.int64]) -> TrainedSource:
        """The samples at `index`, in that order."""
        return dataclasses.replace(self, events=self.events.take(index))

    def standardised(self, like: TrainedSource | None = None) -> TrainedSource:
        """Centred, and divided by one standard deviation of all features, as the untrained network gives them.

        Both are measured on the first samples of `like` (None: of itself) and stay as they are while the network learns.
        """
        source = like or self
        index = np.arange(min(MEASURED_ON, source.n_samples))
        with torch.no_grad(), one_thread():
            plain = dataclasses.replace(source, offset=0.0, factor=1.0)
            features = plain.features(self.variables, index[None])[0]
        offset = features.mean(dim=0)
        deviation = float((features - offset).std(correction=0))
        return dataclasses.replace(self, offset=offset, factor=1 / deviation if deviation > 1e-12 else 1.0)


def fit_network(
    network: RecurrentNetwork,
    parts: Mapping[str, Labelled],
    seed: int,
    callbacks: Callbacks | None = None,
    latest: bool = False,
) -> dict[str, Best]:
    """Train on `parts["train"]`; the best epoch by the accuracy on each of the other parts: `valid/accuracy`.

    Raises `ValueError` without training samples.
    """
    train, p = parts["train"], network.parameters
    if not len(train.labels):
        raise ValueError("there are no training samples")
    variables = network.variables(seed)

    def batches(epoch: int) -> Iterator[NDArray[np.int64]]:
        return shuffled(len(train.labels), p.batch, generator(seed, f"order {epoch}"))

    def loss(index: NDArray[np.int64]) -> Tensor:
        scores = network.scores(variables, network.input(train.events, index))
        return class_loss(scores, torch.from_numpy(train.labels[index]), p.loss)[None]

    def score(epoch: int) -> Scores:
        right = {}
        for name, part in parts.items():
            if name != "train":
                predicted = scores_of(network, variables, part.events).argmax(axis=1)
                right[f"{name}/accuracy"] = np.array([np.mean(predicted == part.labels)])
        return right

    descent = Descent(variables, 1, p.epochs, p.rate(len(train.labels)), batches, loss, score, latest, stacked=False)
    return descent.run(callbacks)


def scores_of(network: RecurrentNetwork, variables: Mapping[str, Tensor], events: Events) -> NDArray[np.float32]:
    """Scores `(n_samples, n_classes)` of all samples."""
    with torch.no_grad(), one_thread():
        parts = [
            network.scores(variables, network.input(events, np.arange(first, min(first + SCORED_AT_ONCE, len(events)))))
            for first in range(0, len(events), SCORED_AT_ONCE)
        ]
    return torch.cat(parts).numpy()
