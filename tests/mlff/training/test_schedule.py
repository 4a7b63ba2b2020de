"""Learning rates and averages against their formulas."""

from __future__ import annotations

import pytest
import torch

from mlff.training.flat import FlatWeights
from mlff.training.schedule import cosine_rate, exponential_rate, update_average


def test_exponential_rate_falls_by_gamma_at_every_epoch() -> None:
    assert exponential_rate(0.01, 0.99, 0) == 0.01
    assert exponential_rate(0.01, 0.99, 100) == pytest.approx(0.01 * 0.99**100)


def test_cosine_rate_rises_then_falls_to_its_end() -> None:
    rates = [cosine_rate(1.0, k, 101, 10, 0.1) for k in range(101)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert rates[10] == pytest.approx(1.0) and rates[-1] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert cosine_rate(1.0, 0, 1, 0, 0.0) == 1.0


def test_the_average_follows_fast_at_first() -> None:
    average = torch.zeros(1)
    update_average(average, torch.ones(1), 0.999, 0)
    assert average.item() == pytest.approx(0.9)
    update_average(average, torch.ones(1), 0.999, 10**6)
    assert average.item() == pytest.approx(0.9 + 0.1 * 0.001)


def test_weights_of_a_model_are_views_of_one_vector() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 1))
    before = [p.detach().clone() for p in layers.parameters()]
    flat = FlatWeights(layers)
    assert flat.n_decayed == 9 and len(flat.values) == sum(p.numel() for p in before)
    assert all(torch.equal(a, b) for a, b in zip(before, layers.parameters(), strict=True))
    flat.gradient += flat.gradient_of(layers(torch.ones(1, 2)).square().sum())
    assert flat.gradient.abs().sum() > 0
    long = flat.gradient.clone()
    flat.clip(None)
    flat.clip(1.001 * long.norm().item())
    assert torch.equal(flat.gradient, long)
    flat.clip(1e-3)
    assert long.norm() > 1e-3 and flat.gradient.norm().item() == pytest.approx(1e-3)
    torch.testing.assert_close(flat.gradient / 1e-3, long / long.norm())
    decayed, others = flat.parts()
    with torch.no_grad():
        decayed.zero_()
    assert not layers[0].weight.any() and not layers[2].weight.any() and others.any()
    other = torch.ones_like(flat.values)
    flat.exchange(other)
    assert (layers[1].bias == 1).all() and not other[: flat.n_decayed].any()
