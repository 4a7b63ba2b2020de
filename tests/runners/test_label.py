"""Labelling from the command line: clusters of a packed box or a file, files that train at once, committees, errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ase.io
import pytest
from omegaconf import OmegaConf

from mlff.labels.methods import Tblite
from mlff.labels.sampling import clusters_in
from runners.check import build
from runners.label import Label
from runners.options import CONF
from tests.command_line import Run, refused, runs_in
from tests.mlff.cluster_samples import ion_pair, waters

SYSTEM = ("solvents=[DMC]", "solvent_amounts=[14]", "solvent_unit=count", "salts=[LiPF6]", "salt_amounts=[1]")
LIQUID = tuple(f"system.{key}" for key in (*SYSTEM, "salt_unit=count", "density_g_cm3=0.8"))
TINY = ("runner=label", *LIQUID, "runner.n_boxes=1", "runner.n_clusters=6", "runner.cut.most=2", "threads=1")


@pytest.fixture(autouse=True)
def _tblite() -> None:
    pytest.importorskip("tblite", reason="tblite is missing: pip install 'lsmrun[qm]'")


def test_a_packed_box_is_cut_labelled_and_trained_on(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*TINY, "runner.authors_format=true")
    assert status == 0, err
    (run,) = runs_in(home)
    metrics = run.data.metrics
    parts = ("labels/kept", "labels/failures", "labels/set_aside_gap", "labels/set_aside_force")
    assert sum(metrics.get(name, 0) for name in parts) == 6 and metrics["cost/cpu_s_per_label"] > 0
    folder = next(home.glob("hydra/*/*/labels"))
    assert {p.name for p in folder.iterdir()} == {"frames.xyz", "set_aside.xyz", "failures.csv", "train_data.pt"}
    frames = ase.io.read(folder / "frames.xyz", ":")
    assert len(frames) == metrics["labels/kept"] > 2 and frames[0].info["dispersion"] == "included"
    assert f"data=labelled data.train={folder / 'frames.xyz'}" in out

    network = [f"model.network.{k}" for k in ("width=16", "heads=4", "n_radial=8", "hidden=8")]
    typed = ("model=mlff", "data=labelled", f"data.train={folder / 'frames.xyz'}", "training.epochs=1", *network)
    status, out, err = lsmrun(*typed, "runner.pictures=false", "data.valid_fraction=0")
    assert status == 0, err
    assert "dispersion: labels included" in out

    known = f"runner.known=[{folder / 'frames.xyz'}]"
    status, out, err = lsmrun(*TINY, known, "runner.n_clusters=8")
    assert status == 0, err
    assert f"({len(frames)} duplicates dropped)" in out
    if len(frames) == 6:
        status, out, err = lsmrun(*TINY, known)
        assert status == 2 and "nothing is left to label" in err


def test_clusters_of_a_file_are_labelled_as_they_are_and_doubtful_ones_set_aside(lsmrun: Run, tmp_path: Path) -> None:
    atoms = []
    for cluster in (ion_pair(3.1), ion_pair(5.0), waters()):
        one = ase.Atoms(cluster.numbers, cluster.positions)
        one.arrays["fragments"], one.info["fragment_charges"] = cluster.fragments, cluster.fragment_charges
        atoms.append(one)
    ase.io.write(tmp_path / "three.xyz", atoms, format="extxyz")
    status, out, err = lsmrun("runner=label", f"runner.clusters=[{tmp_path / 'three.xyz'}]", "threads=1")
    assert status == 0, err
    assert "2 kept, 1 set aside gap, 0 failures" in out
    found = clusters_in(next(tmp_path.glob("home/hydra/*/*/labels/frames.xyz")))
    assert [c.composition for c in found] == ["F6P(1):Li(1)", "H2O(2)"]
    aside = ase.io.read(next(tmp_path.glob("home/hydra/*/*/labels/set_aside.xyz")))
    assert aside.info["reason"] == "gap" and aside.info["gap_eV"] < 1.0


def test_wrong_input_is_refused_in_one_line(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    assert "runner.cut.mst=2: unknown key; did you mean runner.cut.most?" in refused(lsmrun(*TINY, "runner.cut.mst=2"))
    assert "fewest=3: is more than most=2" in refused(lsmrun(*TINY, "runner.cut.fewest=3"))
    missing = refused(lsmrun(*TINY, "runner.boxes=[nowhere.extxyz]"))
    assert "nowhere.extxyz" in missing
    (tmp_path / "empty.xyz").touch()
    for key, said in (("boxes", "no box in there"), ("clusters", "no cluster in there")):
        file = tmp_path / "empty.xyz"
        assert f"runner.{key}=[{file}]: {said}" in lsmrun(*TINY, f"runner.{key}=[{file}]")[2]
    assert "labels.method=PM7: must be one of GFN2-xTB, GFN1-xTB" in refused(lsmrun(*TINY, "labels.method=PM7"))
    assert runs_in(home) == []


def test_the_full_configuration_shows_every_key_with_its_default() -> None:
    section = OmegaConf.to_container(OmegaConf.load(CONF / "runner" / "label.yaml"))["runner"]
    assert build(section, "runner") == Label()
    assert set(section) - {"_target_"} == {f.name for f in dataclasses.fields(Label)}
    theories = {
        p.stem: build(OmegaConf.to_container(OmegaConf.load(p)), "labels") for p in (CONF / "labels").glob("*.yaml")
    }
    assert theories["gfn2"] == Tblite() and theories["gfn2_without_dispersion"].dispersion == "none"
    assert theories["b3lyp"].title == "B3LYP/def2-svpd"
