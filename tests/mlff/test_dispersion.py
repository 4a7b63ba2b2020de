from __future__ import annotations

import numpy as np
import pytest
import torch

from mlff.dispersion import CoordinationDispersion, ElementDispersion, element_tables, switch
from mlff.neighbours import all_pairs
from mlff.units import BOHR_A
from tests.mlff.samples import crowd

CARBONS = torch.tensor([6, 6])
ONE = (torch.tensor([0]), torch.tensor([1]))


def pair_energy(form: torch.nn.Module, r: float) -> float:
    return form(CARBONS, *ONE, torch.tensor([r], dtype=torch.float64)).item()


def test_published_carbon_constants_follow_from_d3() -> None:
    c6, r0 = element_tables()
    assert c6[6].item() == pytest.approx(440.658854, rel=1e-6)
    assert r0[6].item() == pytest.approx(2.9103, abs=1e-12)


def test_element_form_at_one_distance() -> None:
    r = 4.0
    bracket = 0.85 + 0.82 / (1 + np.exp(r - 2.5 * 2.9103))
    wanted = 440.658854 * (1e-6 - bracket / (r**6 + 4.5**6))
    assert pair_energy(ElementDispersion(10.0, smooth=False), r) == pytest.approx(wanted, rel=1e-6)


def test_original_form_jumps_at_the_cutoff_by_the_recorded_amount() -> None:
    assert pair_energy(ElementDispersion(10.0, smooth=False), 10.0) == pytest.approx(4.7e-5, abs=5e-7)


@pytest.mark.parametrize("form", [ElementDispersion, CoordinationDispersion])
def test_smooth_form_ends_with_two_continuous_derivatives(form: type) -> None:
    r = torch.tensor([10.0 - 1e-7], dtype=torch.float64, requires_grad=True)
    energy = form(10.0, smooth=True)(CARBONS, *ONE, r).sum()
    first = torch.autograd.grad(energy, r, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), r)[0]
    assert max(abs(energy.item()), abs(first.item()), abs(second.item())) < 1e-9


def test_smooth_form_is_the_original_without_shift_well_inside() -> None:
    smooth, original = ElementDispersion(10.0, smooth=True), ElementDispersion(10.0, smooth=False)
    shift = element_tables()[0][6].item() / 10.0**6
    assert pair_energy(smooth, 7.5) == pytest.approx(pair_energy(original, 7.5) - shift, rel=1e-12)


def test_switch_runs_from_one_to_zero() -> None:
    assert switch(torch.tensor([1.0, 8.0, 9.0, 10.0, 11.0]), 10.0).tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_coordination_numbers_and_c6_are_those_of_d3() -> None:
    from tad_dftd3.model import atomic_c6, weight_references
    from tad_dftd3.ncoord import cn_d3
    from tad_dftd3.reference import Reference

    c = crowd(12)
    numbers, positions = torch.from_numpy(c.numbers), torch.from_numpy(c.positions) / BOHR_A
    reference = Reference(dtype=torch.float64, device=torch.device("cpu"))
    cn = cn_d3(numbers, positions)
    wanted = atomic_c6(numbers, weight_references(numbers, cn, reference), reference)
    form = CoordinationDispersion(50.0, smooth=False)
    pairs = all_pairs(len(numbers))
    ours = form.coordination(numbers, pairs.i, pairs.j, (positions[pairs.i] - positions[pairs.j]).norm(dim=1))
    torch.testing.assert_close(ours, cn, atol=1e-8, rtol=1e-8)
    w = form.weights(numbers, ours)
    c6 = torch.einsum("na,nmab,mb->nm", w, form.reference_c6[numbers][:, numbers], w)
    torch.testing.assert_close(c6, wanted, atol=1e-6, rtol=1e-6)


def test_an_atom_far_above_all_reference_coordinations_has_finite_weights() -> None:
    form = CoordinationDispersion(10.0, smooth=True)
    w = form.weights(torch.tensor([1]), torch.tensor([40.0], dtype=torch.float64))
    assert w.sum().item() == pytest.approx(1.0)
