"""Operations of trained networks, counted by hand for each form."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lsm.recurrent import Network
from lsm.recurrent_cost import cost_of
from lsm.rram.cost import Branch, training_cost
from lsm.srnn import RecurrentNetwork, dense
from tests.lsm.rram.bernoulli import bernoulli

N_IN, N, T, D = 12, 9, 20, 4
EVENTS = bernoulli(30, N_IN, T, 0.2)
LIF = Network(n_neurons=N, const=1.0, v_threshold=0.3, start="uniform")
SPIKES_IN = float(dense(EVENTS, np.arange(30)).sum()) / 30


def _cost(parameters: Network, n_classes: int = D, prefix: str = ""):
    network = RecurrentNetwork(parameters, N_IN, n_classes, prefix)
    return network, cost_of(network, network.variables(0), EVENTS, D)


def test_a_spiking_network_with_a_linear_readout_costs_what_a_liquid_of_its_shape_does() -> None:
    network, cost = _cost(LIF)
    counted = training_cost([Branch(N_IN, N, T)], D, 100)
    assert cost.fwd_macs == counted["fwd_macs"] and cost.bwd_macs == counted["bwd_macs_srnn"]
    assert cost.work.encoder_macs == T * N * (N_IN + N) and cost.work.projection_macs == N * D
    assert cost.work.neuron_steps == T * N
    spikes = network.spikes(network.variables(0), dense(EVENTS, np.arange(30)))
    expected = N * (SPIKES_IN + float(spikes[:-1].sum()) / 30)
    assert cost.neurobench["synaptic_operations"] == cost.work.synaptic_operations == pytest.approx(expected)
    assert cost.neurobench["activation_sparsity"] == pytest.approx(1 - float(spikes.mean())) and spikes.sum() > 0
    assert cost.neurobench["footprint_bytes"] == 4 * (N * (N_IN + N) + N + (N + 1) * D)
    assert cost.neurobench["synaptic_operations_dense"] == T * N * (N_IN + N)


def test_a_spiking_readout_is_driven_by_spikes_in_every_step() -> None:
    network, cost = _cost(dataclasses.replace(LIF, readout="lif"))
    fired = float(network.spikes(network.variables(0), dense(EVENTS, np.arange(30))).sum()) / 30
    linear = _cost(LIF)[1]
    assert cost.work.synaptic_operations == pytest.approx(linear.work.synaptic_operations + D * fired)
    assert cost.work.projection_macs == 0 and cost.fwd_macs == T * N * (N_IN + N + D)
    assert cost.work.neuron_steps == T * (N + D)


@pytest.mark.parametrize("layers", [1, 2])
def test_only_the_input_of_tanh_units_is_spikes(layers: int) -> None:
    network, cost = _cost(Network(cell="tanh", n_neurons=N, n_layers=layers))
    recurrent = T * N * N * (2 * layers - 1)
    assert cost.work.synaptic_operations == pytest.approx(SPIKES_IN * N)
    assert cost.work.projection_macs == recurrent + N * D and cost.fwd_macs == T * N * N_IN + recurrent + N * D
    assert cost.neurobench["synaptic_operations"] == pytest.approx(SPIKES_IN * N + recurrent)
    assert cost.neurobench["activation_sparsity"] == 0 and cost.work.neuron_steps == 0
    parameters = sum(value.numel() for value in network.variables(0).values())
    assert cost.neurobench["footprint_bytes"] == 4 * (parameters + layers * N)


def test_steps_that_are_not_used_cost_nothing() -> None:
    half = _cost(dataclasses.replace(LIF, steps_used=10))[1]
    assert half.work.encoder_macs == 10 * N * (N_IN + N)
    assert half.work.synaptic_operations < _cost(LIF)[1].work.synaptic_operations


def test_an_encoder_of_a_search_is_counted_with_its_projection() -> None:
    alone = _cost(LIF, n_classes=0, prefix="second/network/")[1]
    assert alone.neurobench["footprint_bytes"] == _cost(LIF)[1].neurobench["footprint_bytes"]
    assert alone.fwd_macs == _cost(LIF)[1].fwd_macs


def test_pruned_weights_are_seen() -> None:
    network = RecurrentNetwork(LIF, N_IN, D)
    variables = network.variables(0) | {"w_rec": torch.zeros(N, N)}
    cost = cost_of(network, variables, EVENTS, D)
    assert cost.neurobench["connection_sparsity"] == pytest.approx(N * N / (N * (N_IN + N)))


def test_without_samples_nothing_is_counted() -> None:
    network = RecurrentNetwork(LIF, N_IN, D)
    with pytest.raises(ValueError, match="no samples"):
        cost_of(network, network.variables(0), EVENTS.take(np.arange(0)), D)
