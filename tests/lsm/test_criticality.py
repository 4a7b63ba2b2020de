"""The branching factor against counts by hand and against a direct transcription of its definition."""

from __future__ import annotations

import numpy as np
import pytest

from lsm.criticality import adjacency, branching_factor
from lsm.liquid import Liquid, assemble, build_liquid
from lsm.parameters import LiquidParameters
from lsm.streams import stream


def _chain() -> Liquid:
    """Neuron 0 projects to 1 and 2, neuron 1 to 2."""
    return assemble(3, 2, 1, np.zeros((3, 3)), np.array([0, 0, 1]), np.array([1, 2, 2]), np.ones(3))


def test_one_spike_with_known_sources_and_targets() -> None:
    spikes = np.zeros((250, 3), np.uint8)
    spikes[[100, 104, 105], 0] = 1
    spikes[106, 1] = 1  # two sources in the 4 ms before it, at 104 and 105; the one at 100 is too early
    spikes[[107, 110, 111], 2] = 1  # its target spikes twice in the 4 ms after it; the one at 111 is too late
    from_0 = np.mean([0, 2, 2])  # descendants in 101..104, 105..108, 106..109; no sources, so divided by 1
    from_1, from_2 = 2 / 2, 0  # neuron 2 has no targets
    assert branching_factor(spikes, adjacency(_chain())) == pytest.approx(np.mean([from_0, from_1, from_2]))


def test_equals_a_direct_transcription_on_random_activity() -> None:
    liquid = build_liquid(LiquidParameters(n_neurons=40), 5, stream(0, "wiring"))
    spikes = (np.random.default_rng(0).random((250, 40)) < 0.05).astype(np.uint8)
    connections = adjacency(liquid).toarray()
    per_neuron = []
    for n in range(40):
        ratios = []
        for t in np.flatnonzero(spikes[:, n]):
            if not 29 <= t < 221:
                continue
            before = spikes[t - 4 : t][:, connections[:, n] > 0].sum()
            after = spikes[t + 1 : t + 5][:, connections[n] > 0].sum()
            ratios.append(after / max(before, 1))
        if ratios:
            per_neuron.append(np.mean(ratios))
    assert branching_factor(spikes, adjacency(liquid)) == pytest.approx(np.mean(per_neuron), rel=1e-6)


def test_spikes_outside_the_window_do_not_count() -> None:
    spikes = np.zeros((250, 3), np.uint8)
    spikes[[3, 24, 225, 249]] = 1
    assert np.isnan(branching_factor(spikes, adjacency(_chain())))
