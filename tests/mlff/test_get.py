from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from mlff.get import GraphTransformer, NetworkParameters, RadialBasis, ReadOut, cosine_cutoff
from mlff.model import ForceField


def test_default_model_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in ForceField().parameters()) == 103_620
    assert sum(p.numel() for p in ReadOut(64, 32).parameters()) == 3_169


def test_radial_basis_starts_at_the_published_values() -> None:
    basis = RadialBasis(32, 5.0)
    assert basis.beta.unique().item() == pytest.approx(259.485, abs=1e-3)
    assert basis.mu[0].item() == pytest.approx(math.exp(-5.0))
    assert basis.mu[-1].item() == 1.0


def test_radial_function_is_a_gaussian_in_the_exponential_of_the_distance() -> None:
    basis = RadialBasis(4, 5.0).double()
    r = torch.tensor([1.7], dtype=torch.float64)
    envelope = 0.5 * (math.cos(math.pi * 1.7 / 5.0) + 1.0)
    wanted = envelope * torch.exp(-basis.beta * (math.exp(-1.7) - basis.mu) ** 2)
    torch.testing.assert_close(basis(r, cosine_cutoff(r, 5.0))[0], wanted)


def test_envelope_ends_without_a_step_or_a_kink() -> None:
    r = torch.tensor([5.0 - 1e-6, 5.0, 5.5], dtype=torch.float64)
    assert cosine_cutoff(r, 5.0).tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)


def test_an_atom_without_neighbours_keeps_its_features_finite() -> None:
    network = GraphTransformer(NetworkParameters())
    none = torch.zeros(0, dtype=torch.int64)
    assert network(torch.tensor([3]), none, none, torch.zeros(0, 3)).isfinite().all()


def test_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValidationError, match="width=64 is not a multiple of heads=10"):
        NetworkParameters(heads=10)
