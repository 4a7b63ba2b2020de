"""The published training format: what is written comes back, and is laid out as its trainer expects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mlff.authors_format import read_train_data, write_train_data
from mlff.labelled import LabelledFrame
from tests.mlff.label_sets import label_set
from tests.mlff.samples import crowd, model


@pytest.fixture(scope="module")
def frames() -> list[LabelledFrame]:
    return label_set(model(dispersion="none"), 5, total_charge=1.0).train


def test_frames_come_back(frames: list[LabelledFrame], tmp_path: Path) -> None:
    write_train_data(frames, tmp_path / "train_data.pt")
    for before, after in zip(frames, read_train_data(tmp_path / "train_data.pt"), strict=True):
        assert (before.configuration.numbers == after.configuration.numbers).all()
        assert after.configuration.total_charge == 1.0 and not after.configuration.pbc.any()
        np.testing.assert_allclose(after.configuration.positions, before.configuration.positions, atol=1e-6)
        assert after.energy == before.energy and after.labels == before.labels
        for name in ("forces", "virial", "charges", "dipole"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-5, atol=1e-5)


def test_edges_are_ordered_pairs_with_indices_over_all_atoms(frames: list[LabelledFrame], tmp_path: Path) -> None:
    write_train_data(frames, tmp_path / "train_data.pt")
    data = torch.load(tmp_path / "train_data.pt", weights_only=True)
    i, j = data["edge_index"].T
    assert torch.equal(data["mol_ids"][i], data["mol_ids"][j])
    r = (data["pos"][i] - data["pos"][j]).norm(dim=1)
    everyone = data["all_edge_index"]
    far = (data["pos"][everyone[:, 0]] - data["pos"][everyone[:, 1]]).norm(dim=1)
    assert r.min() > 0 and r.max() < 5.0 and len(r) == (far < 5.0).sum()
    counts = torch.bincount(data["mol_ids"])
    assert torch.equal(data["cumsum_all_edge"].diff(), counts * (counts - 1))
    assert data["cumsum_edge"][-1] == len(r) and (data["cell"] == -1).all()


def test_a_file_that_lacks_something_says_what(tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"noise.pt: not a readable dictionary of tensors"):
        read_train_data(tmp_path / "noise.pt")
    torch.save({"pos": torch.zeros(1, 3)}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match=r"no tensor 'total_charge' \(keys present: pos\)"):
        read_train_data(tmp_path / "short.pt")


def test_periodic_frames_are_not_written(tmp_path: Path) -> None:
    periodic = LabelledFrame(crowd(3, pbc=True), energy=0.0, forces=np.zeros((3, 3)), name="box")
    with pytest.raises(ValueError, match="box: periodic; the format is for open clusters"):
        write_train_data([periodic], tmp_path / "x.pt")
    with pytest.raises(ValueError, match="bare: needs energy and forces, has energy"):
        write_train_data([LabelledFrame(crowd(3), energy=0.0, name="bare")], tmp_path / "x.pt")
