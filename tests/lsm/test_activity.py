"""Synchrony measures against their definitions, and a recording reduced to what it holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from lsm.activity import analyse, binned, fano_factor, pairwise_correlation, rotated
from lsm.criticality import branching_factor
from lsm.protocol import Recording


def test_bins_hold_all_spikes_of_complete_bins() -> None:
    spikes = np.ones((25, 2), np.uint8)
    assert binned(spikes).tolist() == [[10, 10], [10, 10]]
    assert binned(spikes[:9]).shape == (0, 2)


def test_the_correlation_is_the_mean_over_all_pairs() -> None:
    counts = np.random.default_rng(0).poisson(3, (40, 6)) + np.arange(40)[:, None] // 10
    constant = np.column_stack([counts, np.full(40, 2)])  # a neuron that never varies has no correlation
    expected = np.corrcoef(counts.T)[np.triu_indices(6, 1)].mean()
    assert pairwise_correlation(constant) == pytest.approx(expected)
    assert pairwise_correlation(np.tile(counts[:, :1], 5)) == pytest.approx(1)
    assert np.isnan(pairwise_correlation(counts[:, :1]))


def test_the_fano_factor_is_one_for_poisson_and_grows_with_synchrony() -> None:
    rng = np.random.default_rng(0)
    assert fano_factor(rng.poisson(50, 20_000)) == pytest.approx(1, abs=0.05)
    assert fano_factor(rng.poisson(5, 20_000) * 10) == pytest.approx(10, abs=0.5)
    assert np.isnan(fano_factor(np.zeros(20, np.int64)))


def test_a_recording_is_reduced_to_its_sums_and_its_branching_factor() -> None:
    rng = np.random.default_rng(0)
    spikes = (rng.random((250, 12)) < 0.1).astype(np.uint8)
    inputs = (rng.random((250, 5)) < 0.2).astype(np.uint8)
    connections = sparse.csr_matrix((rng.random((12, 12)) < 0.4).astype(np.float32))
    level = np.linspace(0.2, 0.1, 250)
    found = analyse(Recording(spikes, inputs, level, level / 2), connections, rng)
    assert found.counts.tolist() == spikes.sum(axis=0, dtype=int).tolist()
    assert found.population.sum() == spikes.sum(dtype=int) and found.inputs.sum() == inputs.sum(dtype=int)
    assert found.branching_factor == branching_factor(spikes, connections)
    assert len(found.steady) == 200 and found.steady[0] == spikes[25].sum()
    assert found.shuffled.sum() == found.steady.sum() and found.shuffled.tolist() != found.steady.tolist()
    assert found.fano_factor == fano_factor(binned(spikes[25:225]).sum(axis=1))


def test_rotation_keeps_every_neurons_train_and_breaks_what_they_share() -> None:
    spikes = np.zeros((200, 300), np.uint8)
    spikes[::20] = 1  # all neurons at once
    apart = rotated(spikes, np.random.default_rng(0))
    assert (apart.sum(axis=0) == 10).all()
    assert all(set(np.diff(np.flatnonzero(train))) == {20} for train in apart.T[:20])  # the intervals stay
    assert spikes.sum(axis=1).max() == 300 and apart.sum(axis=1).max() < 40
    assert rotated(spikes[:0], np.random.default_rng(0)).shape == (0, 300)
