"""Energy of one sample on the hybrid system (resistive array, digital rest) and in digital hardware, from measured spikes.

    E_array      = V_read^2 t_read * (sum over driven rows of all G+ + G- on them)      only rows with a spike draw current
    E_adc        = conversions e_adc            one for each neuron, row tile and step
    E_row        = driven rows * e_row          E_neuron = T N e_lif
    E_projection = 2 P e_dig                    E_io = bytes e_mem          (counts, 2 bytes each, go to the digital part)
    hybrid       = the sum of these
    digital_dense = 2 (E + P) e_gpu             digital_event = SynOps e_add + T N e_lif + P e_mac

The projection has 2 P operations, P multiplications and P additions; one multiply-accumulate of `e_mac` is both. What is
measured (driven rows, conductance read, spikes) comes from the encoder's statistics; nothing is assumed of the activity.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsm.rram.constants import EnergyConstants
from lsm.rram.cost import MACRO_CELLS, Branch
from lsm.rram.encoder import STATS, Encoder

BYTES_PER_COUNT = 2


@dataclass(frozen=True)
class Work:
    """What one sample asks of the hardware, as means over samples; counts of one liquid and its projection."""

    read_conductance_uS: float
    driven_rows: float
    synaptic_operations: float
    conversions: float
    neuron_steps: float
    encoder_macs: float
    projection_macs: float
    bytes_out: float

    def __add__(self, other: Work) -> Work:
        """The work of both, as for a pair of senses."""
        return Work(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def branch_of(encoder: Encoder) -> Branch:
    """Size of the encoder's liquid."""
    return Branch(encoder.n_in, encoder.n_neurons, encoder.n_steps)


def measured_work(encoder: Encoder, stats: NDArray[np.float64], d: int) -> Work:
    """Mean work of the samples whose statistics `(n, len(STATS))` these are, with a projection to `d` dimensions."""
    mean = dict(zip(STATS, np.asarray(stats).mean(axis=0), strict=True))
    branch, n_tiles = branch_of(encoder), len(encoder.crossbar.row_starts) - 1
    neuron_steps = branch.steps * branch.n_neurons
    return Work(
        read_conductance_uS=float(mean["read_conductance_uS"]),
        driven_rows=float(mean["row_reads"]),
        synaptic_operations=float(mean["synaptic_operations"]),
        conversions=float(neuron_steps * n_tiles),
        neuron_steps=float(neuron_steps),
        encoder_macs=float(branch.macs),
        projection_macs=float(branch.n_neurons * d),
        bytes_out=float(BYTES_PER_COUNT * branch.n_neurons),
    )


def energy_pJ(work: Work, c: EnergyConstants) -> dict[str, float]:
    """Energy in pJ by part, their sum `hybrid`, and what digital hardware needs for the same, dense and event-driven."""
    # V^2 * uS * ns = 1e-15 J = 1e-3 pJ
    parts = {
        "array": c.v_read_V**2 * c.t_read_ns * work.read_conductance_uS * 1e-3,
        "adc": work.conversions * c.e_adc_pJ,
        "row": work.driven_rows * c.e_row_pJ,
        "neuron": work.neuron_steps * c.e_lif_pJ,
        "projection": 2 * work.projection_macs * c.e_dig_pJ,
        "io": work.bytes_out * c.e_mem_pJ,
    }
    return parts | {
        "hybrid": sum(parts.values()),
        "digital_dense": 2 * (work.encoder_macs + work.projection_macs) * c.e_gpu_pJ,
        "digital_event": work.synaptic_operations * c.e_add_pJ
        + work.neuron_steps * c.e_lif_pJ
        + work.projection_macs * c.e_mac_pJ,
    }


def neurobench(encoder: Encoder, stats: NDArray[np.float64], d: int) -> dict[str, float]:
    """Metrics after NeuroBench (Yik et al., Nat. Commun. 2025): footprint, sparsity, synaptic operations a sample.

    `footprint_bytes` of the digital equivalent in float32: weights, potentials, projection with bias. `connection_sparsity`
    share of weights that are exactly 0; `activation_sparsity` share of neuron steps without a spike.
    """
    branch = branch_of(encoder)
    mean = dict(zip(STATS, np.asarray(stats).mean(axis=0), strict=True))
    difference = encoder.crossbar.pairs.plus - encoder.crossbar.pairs.minus
    return {
        "footprint_bytes": 4.0 * (branch.weights + branch.n_neurons + (branch.n_neurons + 1) * d),
        "connection_sparsity": float(np.mean(difference == 0)),
        "activation_sparsity": 1 - float(mean["liquid_spikes"]) / (branch.steps * branch.n_neurons),
        "synaptic_operations": float(mean["synaptic_operations"]),
        "synaptic_operations_dense": float(branch.macs),
        "cells": float(branch.cells),
        "macros": branch.cells / MACRO_CELLS,
        "tiles": float(encoder.crossbar.n_tiles),
    }
