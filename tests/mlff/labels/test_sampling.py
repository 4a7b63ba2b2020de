"""Sources of clusters: packed boxes, trajectories and files."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest

from mlff.dynamics.simulation import Frame
from mlff.dynamics.trajectory import Recorder
from mlff.labels.clusters import Cut
from mlff.labels.perturbation import Perturbation
from mlff.labels.sampling import boxes_in, clusters_in, evenly, packed_boxes, sample
from mlff.system.liquid import System
from tests.mlff.cluster_samples import box, waters


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_packed_boxes_differ_and_their_ions_keep_names_and_charges() -> None:
    system = System("salty", ["DMC"], [20.0], "count", ["LiPF6"], [2.0], "count", density_g_cm3=0.9)
    boxes = packed_boxes(system, 2, seed=1)
    assert len(boxes[0].atoms) == 20 * 12 + 2 * 8 and not np.allclose(
        boxes[0].atoms.positions, boxes[1].atoms.positions
    )
    found = sample(boxes, 10, Cut(ions_first=1.0, fewest=2, most=4), None, _rng())
    assert {name for c in found for name in c.names} == {"DMC", "Li", "PF6"}
    assert [c.source for c in found[:3]] == ["salty[packed 0]", "salty[packed 1]", "salty[packed 0]"]
    for c in found:
        charges = {"DMC": 0.0, "Li": 1.0, "PF6": -1.0}
        assert c.fragment_charges.tolist() == [charges[name] for name in c.names]
    moved = sample(boxes, 10, Cut(ions_first=1.0, fewest=2, most=4), Perturbation(), _rng())
    assert not any(a.key == b.key for a, b in zip(found, moved, strict=False))
    with pytest.raises(ValueError, match="no box"):
        sample([], 1, Cut(), None, _rng())


def test_frames_of_a_trajectory_are_boxes(tmp_path: Path) -> None:
    atoms = box()
    names = [str(k) for k in range(27)]
    recorder = Recorder(atoms, names)
    for step in range(5):
        places = atoms.positions + 0.1 * step
        recorder.on_frame(Frame(step, 0.5 * step, places, atoms.cell.array, np.zeros_like(places), None))
    recorder.write(tmp_path / "run.h5md")
    sources = boxes_in(tmp_path / "run.h5md", most=3)
    assert [s.name for s in sources] == ["run.h5md[0 ps]", "run.h5md[1 ps]", "run.h5md[2 ps]"]
    assert sources[0].names == tuple(names) and sources[2].atoms.pbc.all()
    np.testing.assert_allclose(sources[2].atoms.positions, atoms.positions + 0.4, atol=1e-5)
    assert sources[0].atoms.info["fragment_charges"].tolist() == atoms.info["fragment_charges"].tolist()
    (tmp_path / "other.h5md").write_text("nothing")
    with pytest.raises(ValueError, match=r"other.h5md: not an HDF5 file"):
        boxes_in(tmp_path / "other.h5md")


def test_boxes_and_clusters_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "boxes.extxyz"
    ase.io.write(path, [box(), box(1)], format="extxyz")
    assert [s.name for s in boxes_in(path)] == ["boxes.extxyz[0]", "boxes.extxyz[1]"]
    found = sample(boxes_in(path), 4, Cut(most_atoms=9), None, _rng())
    assert {name for c in found for name in c.names} <= {"H2O", "Li", "F"}
    with pytest.raises(ValueError, match=r"boxes.extxyz\[0\]: is periodic"):
        clusters_in(path)
    ase.io.write(path, ase.Atoms("OHH", [[0, 0, 0], [1, 0, 0], [0, 1, 0]]), format="extxyz")
    (cluster,) = clusters_in(path)
    assert (cluster.composition, cluster.charge, cluster.source) == ("H2O(1)", 0, "boxes.extxyz[0]")
    with pytest.raises(ValueError, match="does not say which molecule"):
        boxes_in(path)
    path.write_text("no frames")
    with pytest.raises(ValueError, match="not a readable extended XYZ file"):
        clusters_in(path)


def test_the_embedded_carbonates_are_clusters() -> None:
    from importlib.resources import files

    found = clusters_in(Path(str(files("mlff") / "data" / "carbonates_train.xyz")))
    assert len(found) == 200 and max(len(c.names) for c in found) == 6
    assert all(c.charge == 0 for c in found) and len(waters()) == 6


def test_things_are_taken_evenly() -> None:
    assert evenly(5, None) == [0, 1, 2, 3, 4] and evenly(5, 9) == [0, 1, 2, 3, 4] and evenly(9, 3) == [0, 4, 8]
