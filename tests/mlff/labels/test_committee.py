"""A committee asks for what it disagrees about, within reason, and knows when to stop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff.labels.committee import Choice, choose, disagreement, next_clusters
from mlff.model import ForceField, ForceFieldParameters
from mlff.units import KCAL_PER_EV
from tests.mlff.cluster_samples import waters
from tests.mlff.samples import model


def test_disagreement_is_the_largest_spread_of_the_forces_on_an_atom() -> None:
    models = [model(seed) for seed in range(3)]
    frames = [waters(d).configuration() for d in (2.6, 2.9, 3.4)]
    found = disagreement(models, frames)
    for frame, value in zip(frames, found, strict=True):
        forces = np.stack([m.predict(m.batch(frame)).forces.numpy() for m in models]) / KCAL_PER_EV
        by_atom = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))
        assert value == pytest.approx(by_atom.max(), rel=1e-12)
    assert disagreement([models[0]] * 2, frames) == pytest.approx(np.zeros(3), abs=1e-12)
    with pytest.raises(ValueError, match="a committee of 1"):
        disagreement(models[:1], frames)


def test_only_what_teaches_is_chosen() -> None:
    spread = np.array([0.1, 0.2, 0.5, 2.0, 9.0, np.nan])
    rng = np.random.default_rng(0)
    found = choose(spread, Choice(certain_eV_A=0.15, absurd_eV_A=3.0, enough=0.5), rng)
    assert found.indices.tolist() == [1, 2, 3] and not found.stop
    assert found.certain == pytest.approx(1 / 6) and found.absurd == pytest.approx(2 / 6)
    assert len(choose(spread, Choice(most=2), rng).indices) == 2
    with pytest.raises(ValueError, match=r"absurd_eV_A=0.1: must be more than certain_eV_A=0.15"):
        Choice(absurd_eV_A=0.1)


def test_rounds_stop_when_the_committee_is_certain() -> None:
    spread = np.array([0.1] * 19 + [0.4])
    assert choose(spread, Choice(enough=0.95), np.random.default_rng(0)).stop
    assert not choose(spread, Choice(enough=0.96), np.random.default_rng(0)).stop
    clusters, same = [waters(2.6), waters(2.9)], [model(0), model(0)]
    assert next_clusters(same, clusters, Choice(), np.random.default_rng(0))[0] == []
    wild = Choice(certain_eV_A=1e-6, absurd_eV_A=None)
    assert next_clusters([model(0), model(1)], clusters, wild, np.random.default_rng(0))[0] == clusters


def test_the_fast_engine_and_torch_disagree_by_the_same() -> None:
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(ForceField(ForceFieldParameters()).eval())
    frames = [waters(d).configuration() for d in (2.6, 3.4)]
    found = disagreement(models, frames)
    for frame, value in zip(frames, found, strict=True):
        forces = np.stack([m.predict(m.batch(frame)).forces.numpy() for m in models]) / KCAL_PER_EV
        assert value == pytest.approx(np.linalg.norm(forces[0] - forces[1], axis=1).max() / 2, rel=1e-3)
