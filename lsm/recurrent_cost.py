"""What a trained recurrent network asks of digital hardware for one sample, counted as `lsm.rram.energy` counts a liquid.

| network | event-driven (spikes x fan-out) | dense |
|---|---|---|
| lif, linear readout | T (n_in N + N^2) | N d |
| lif, lif readout | T (n_in N + N^2 + N d) | - |
| tanh | T n_in N: the input alone is spikes | T (N^2 + 2 N^2 of each further layer) + N d |

d are classes, or the dimensions of a projection. A pass backward is twice the forward one without the gradient to the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsm.descent import one_thread
from lsm.encode import Events
from lsm.rram.energy import Work
from lsm.srnn import RecurrentNetwork

MEASURED_ON = 500
"""Samples, evenly spaced, whose spikes are counted."""
WEIGHTS = ("w_in", "w_rec", "weight_")


@dataclass(frozen=True)
class NetworkCost:
    """Means over samples: `work` of event-driven and dense hardware, metrics after NeuroBench, multiply-accumulates."""

    work: Work
    neurobench: dict[str, float]
    fwd_macs: float
    bwd_macs: float


def cost_of(network: RecurrentNetwork, variables: Mapping[str, Tensor], events: Events, d: int) -> NetworkCost:
    """Count the spikes of some of `events`; `variables` are those of the network, `d` what its features are brought to.

    Metrics are those of `lsm.rram.energy.neurobench`: footprint in bytes of all float32 weights and potentials, shares
    of weights that are 0 and of neuron steps that are, synaptic operations of a sample. Raises `ValueError` without samples.
    """
    if not len(events):
        raise ValueError("there are no samples to count spikes in")
    p, n_in = network.parameters, network.n_in
    n, steps = p.n_neurons, min(p.steps_used or events.n_steps, events.n_steps)
    spiking, spiking_readout = p.cell == "lif", p.readout == "lif"
    counted = _counted(network, variables, events)
    recurrent = steps * n * n * (1 if spiking else 2 * p.n_layers - 1)
    driven = steps * n * (n_in + (n if spiking else 0) + (d if spiking_readout else 0))
    dense = (0 if spiking_readout else n * d) + (0 if spiking else recurrent)
    operations = n * (counted.at_input + counted.fed_back) + (d * counted.fired if spiking_readout else 0)
    neuron_steps = steps * ((n if spiking else 0) + (d if spiking_readout else 0))
    own = {name.removeprefix(network.prefix): v for name, v in variables.items() if name.startswith(network.prefix)}
    weights = [value for name, value in own.items() if name.startswith(WEIGHTS)]
    values = sum(value.numel() for value in own.values()) + (0 if network.n_classes else (n + 1) * d)
    states = n * p.n_layers + (d if spiking_readout else 0)
    return NetworkCost(
        Work(0.0, 0.0, operations, 0.0, float(neuron_steps), float(driven), float(dense), 0.0),
        {
            "footprint_bytes": 4.0 * (values + states),
            "connection_sparsity": sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights),
            "activation_sparsity": 1 - counted.fired / (steps * n) if spiking else 0.0,
            "synaptic_operations": operations + (0 if spiking else recurrent),
            "synaptic_operations_dense": float(driven + (0 if spiking else recurrent)),
        },
        float(driven + dense),
        float(2 * (driven + dense) - steps * n_in * n),
    )


class Counted(NamedTuple):
    """Mean spikes of a sample: at the input, of the recurrent layer (0 of tanh units), and those that it gets back."""

    at_input: float
    fired: float
    fed_back: float


def _counted(network: RecurrentNetwork, variables: Mapping[str, Tensor], events: Events) -> Counted:
    index = np.unique(np.linspace(0, len(events) - 1, min(MEASURED_ON, len(events))).astype(np.int64))
    with torch.no_grad(), one_thread():
        x = network.input(events, index)
        spikes = network.spikes(variables, x) if network.parameters.cell == "lif" else x[:, :, :0]
    return Counted(*(float(part.sum()) / len(index) for part in (x, spikes, spikes[:-1])))
