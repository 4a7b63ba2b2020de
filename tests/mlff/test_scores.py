"""Errors against labels: net forces on molecules, and where there are none to tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlff.scores import compare
from mlff.units import MEV_PER_KCAL
from tests.mlff.label_sets import labelled
from tests.mlff.samples import crowd, model


def test_net_forces_are_those_on_each_molecule_of_frames_with_several() -> None:
    field = model(dispersion="none")
    pair = crowd(8, seed=1, fragments=np.arange(8) % 2, fragment_charges=[0.0, 0.0])
    alone = crowd(5, seed=2, fragments=np.zeros(5, int), fragment_charges=[0.0])
    frames = [labelled(field, alone), labelled(field, pair), labelled(field, pair)]
    pushed = frames[1].forces.copy()
    pushed[2] += [6.0, 0.0, 0.0]  # an atom of the first molecule
    found = compare(field, [frames[0], replace(frames[1], forces=pushed), frames[2]], "none")
    assert found.label["net_forces"].shape == found.predicted["net_forces"].shape == (4, 3)
    np.testing.assert_allclose(found.label["net_forces"][1], pushed[1::2].sum(axis=0), atol=1e-9)
    assert found.errors()["net_forces/mae_meV_per_A"] == pytest.approx(MEV_PER_KCAL * 6.0 / 12, rel=1e-6)
    assert found.errors()["forces/mae_meV_per_A"] == pytest.approx(MEV_PER_KCAL * 6.0 / 63, rel=1e-6)


def test_frames_of_which_no_molecules_are_told_have_no_net_forces() -> None:
    field = model(dispersion="none")
    pair = crowd(8, seed=1, fragments=np.arange(8) % 2, fragment_charges=[0.0, 0.0])
    assert (
        "net_forces" not in compare(field, [labelled(field, pair), labelled(field, crowd(6, seed=3))], "none").errors()
    )
