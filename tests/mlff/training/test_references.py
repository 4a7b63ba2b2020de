"""Energies of elements: from isolated atoms, or by least squares from the frames."""

from __future__ import annotations

import numpy as np
import pytest

from mlff.frames import Configuration
from mlff.labelled import LabelledFrame
from mlff.training.references import reference_energies

TRUE = {1: -300.0, 6: -20_000.0, 8: -45_000.0}


def frame(*numbers: int) -> LabelledFrame:
    return LabelledFrame(Configuration.of(numbers, 1.5 * np.arange(3 * len(numbers)).reshape(-1, 3)))


def energies(frames: list[LabelledFrame]) -> np.ndarray:
    return np.array([sum(TRUE[int(z)] for z in f.configuration.numbers) for f in frames])


def test_fitted_energies_are_found_where_the_frames_determine_them() -> None:
    frames = [frame(6, 1, 1, 1, 1), frame(8, 1, 1), frame(6, 8, 1, 1), frame(6, 8, 8)]
    found = reference_energies(frames, energies(frames), {}, "fitted")
    assert {z: found[z] for z in TRUE} == pytest.approx(TRUE, rel=1e-9)
    assert np.count_nonzero(found) == 3


def test_one_molecule_alone_stays_near_its_isolated_atoms() -> None:
    frames = [frame(8, 1, 1)]
    isolated = {1: -310.0, 8: -44_990.0}
    found = reference_energies(frames, energies(frames), isolated, "fitted")
    assert found[8] + 2 * found[1] == pytest.approx(-45_600.0)
    # the smallest change: in proportion to the numbers of atoms
    assert found[1] - isolated[1] == pytest.approx(2 * (found[8] - isolated[8]))


def test_isolated_atoms_are_taken_as_they_are_and_missing_ones_named() -> None:
    frames = [frame(6, 8, 1)]
    assert reference_energies(frames, energies(frames), TRUE, "isolated")[6] == TRUE[6]
    with pytest.raises(ValueError, match="no isolated atom of C, O in the set"):
        reference_energies(frames, energies(frames), {1: -300.0}, "isolated")
    assert not reference_energies(frames, energies(frames), TRUE, "none").any()
