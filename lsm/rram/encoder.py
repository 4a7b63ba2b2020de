"""The liquid of leaky integrate-and-fire neurons on a resistive-memory array, and the spikes that it answers with.

    v_t = decay * v_{t-1} * (1 - s_{t-1}) + weight_per_uS * (G_in x_t + G_rec s_{t-1})
    s_t = 1 where v_t > v_threshold          (strictly; the potential is then reset to 0)
    c   = sum_t s_t                           feature f = c / window

    encoder = build_encoder(parameters.for_data(encoding, "contrastive"), n_in, seed, branch="image")
    encoder = calibrated(encoder, training_steps, threads=2)          # only the ADC needs it; else it changes nothing
    counts, stats = encode(encoder, steps_for(encoding, encoder.parameters, inputs), threads=2, seed=seed, part="train")

Source: Lin et al., Nat. Comput. Sci. 5, 37 (2025), equations as in the first author's later code (SNN_LSM_Model).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsm.encode import Events
from lsm.rram.parameters import RramParameters

STATS = ("input_spikes", "liquid_spikes", "row_reads", "synaptic_operations", "read_conductance_uS", "adc_clipped")
"""Columns of the statistics, totals of a sample: rows that were driven, times neurons; sum of G+ + G- of driven rows."""

Progress = Callable[[int], object]


class Encoded(NamedTuple):
    """`counts` `(n_samples, n_neurons)` uint16 spikes of each neuron, `stats` `(n_samples, len(STATS))` float64."""

    counts: NDArray[np.uint16]
    stats: NDArray[np.float64]


@dataclass(frozen=True)
class Encoder:
    """A liquid with its frozen device draw; `parameters` are complete."""

    parameters: RramParameters
    n_in: int
    seed: int
    branch: str

    @property
    def n_neurons(self) -> int:
        """Width of the counts."""
        assert self.parameters.n_neurons is not None
        return self.parameters.n_neurons

    @property
    def n_steps(self) -> int:
        """Steps T of a sample."""
        assert self.parameters.steps is not None
        return self.parameters.steps

    @property
    def window(self) -> float:
        """What counts are divided by."""
        assert self.parameters.window is not None
        return self.parameters.window


def build_encoder(parameters: RramParameters, n_in: int, seed: int, branch: str = "") -> Encoder:
    """Draw the devices of one liquid; another `branch` ("image", "audio") draws others from the same seed.

    Raises `ValueError` for open parameters and for a conductance map that does not fit.
    """
    raise NotImplementedError


def calibrated(encoder: Encoder, steps: Events, *, threads: int = 1) -> Encoder:
    """The encoder with the full scale of its ADC set on the first samples of `steps` (training data); else as it is."""
    raise NotImplementedError


def encode(
    encoder: Encoder,
    steps: Events,
    *,
    threads: int = 1,
    seed: int = 0,
    part: str = "",
    progress: Progress | None = None,
) -> Encoded:
    """Spike counts of all samples; `seed` and `part` name the stream of the read noise, nothing else is random."""
    raise NotImplementedError


def encode_blocks(
    encoder: Encoder, steps: Events, *, threads: int = 1, seed: int = 0, part: str = "", start: int = 0, block: int = 500
) -> Iterator[tuple[slice, Encoded]]:
    """As `encode`, block by block from sample `start` on: what a resumable cache needs."""
    raise NotImplementedError
