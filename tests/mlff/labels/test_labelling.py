"""Labelling many clusters: resumable, failures counted, doubtful frames set aside, files that training reads at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlff.authors_format import read_train_data, write_train_data
from mlff.datasets import FrameFiles
from mlff.labelled import LabelKeys
from mlff.labels.files import write_extxyz
from mlff.labels.heating import Heat
from mlff.labels.labelling import JOURNAL, Limits, label
from mlff.labels.methods import Tblite
from mlff.units import KCAL_PER_EV
from tests.mlff.cluster_samples import ion_pair, waters
from tests.mlff.springs import Springs

KEYS = LabelKeys(
    virial="virial",
    charges="charges",
    dipole="dipole",
    fragments="fragments",
    fragment_charges="fragment_charges",
    composition="composition",
)


def test_labels_are_those_of_the_method_in_the_order_of_the_clusters(tmp_path: Path) -> None:
    clusters = [waters(d) for d in (2.6, 2.8, 3.0)] + [waters(n=1)]
    told: list[tuple[int, int]] = []
    found = label(clusters, Springs(2.0), tmp_path, workers=2, progress=lambda *now: told.append(now))
    assert [one.cluster.key for one in found.kept] == [c.key for c in clusters]
    for one, cluster in zip(found.kept, clusters, strict=True):
        frame = one.frame()
        assert frame.energy == pytest.approx(np.square(cluster.positions).sum())
        np.testing.assert_allclose(frame.forces, -2.0 * cluster.positions)
        # the virial of springs to the origin is -k sum r r
        np.testing.assert_allclose(frame.virial, -2.0 * cluster.positions.T @ cluster.positions, atol=1e-12)
        assert frame.composition == cluster.composition
    assert found.counts() == {"kept": 4, "failures": 0} and told[0] == (0, 4) and told[-1] == (4, 4)


def test_failures_are_counted_and_a_process_that_dies_takes_only_its_cluster(tmp_path: Path) -> None:
    clusters = [waters(n=n) for n in (1, 2, 3, 4, 5)]
    found = label(clusters, Springs(), tmp_path, workers=2)
    assert [len(one.cluster) for one in found.kept] == [3, 6]
    assert [(name, reason) for name, _, reason in found.failures] == [
        ("water(3)", "nine atoms"),
        ("water(4)", "the process died without a word"),
        ("water(5)", "a result is not finite"),
    ]
    assert found.counts() == {"kept": 2, "failures": 3}


def test_doubtful_frames_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    charged = replace(waters(), fragment_charges=np.array([1.0, 0.0]))
    far = waters(90.0)
    found = label([waters(), charged, far], Springs(KCAL_PER_EV), tmp_path, limits=Limits(largest_force_eV_A=40.0))
    assert [(one.cluster.composition, why) for one, why in found.set_aside] == [
        ("water(2)", "gap"),
        ("water(2)", "force"),
    ]
    assert found.counts() == {"kept": 1, "set_aside_force": 1, "set_aside_gap": 1, "failures": 0}
    everything = Limits(smallest_gap_eV=0.0, largest_force_eV_A=None)
    assert label([waters(), charged, far], Springs(KCAL_PER_EV), tmp_path, limits=everything).counts()["kept"] == 3


def test_a_journal_cut_short_loses_one_line_and_belongs_to_one_method(tmp_path: Path) -> None:
    clusters = [waters(d) for d in (2.6, 2.8, 3.0)]
    whole = label(clusters, Springs(), tmp_path)
    path = tmp_path / JOURNAL
    path.write_text(path.read_text()[:-40])
    told: list[int] = []
    again = label(clusters, Springs(), tmp_path, progress=lambda done, total: told.append(done))
    assert told == [2, 3] and len(path.read_text().splitlines()) == 4
    for a, b in zip(whole.kept, again.kept, strict=True):
        assert a.computed.energy == b.computed.energy and (a.computed.forces == b.computed.forces).all()
    with pytest.raises(ValueError, match="holds labels by springs, not by springs"):
        label(clusters, Springs(3.0), tmp_path)
    told.clear()
    label(clusters, Springs(3.0), tmp_path, resume=False, progress=lambda done, total: told.append(done))
    assert told[0] == 0


SCRIPT = """
import sys
from pathlib import Path
from mlff.labels.labelling import label
from tests.mlff.cluster_samples import waters
from tests.mlff.springs import Springs
if __name__ == "__main__":
    label([waters(2.5 + 0.1 * k) for k in range(6)], Springs(seconds=1.0), Path(sys.argv[1]), workers=2)
"""


def test_killed_it_goes_on_and_leaves_no_process_behind(tmp_path: Path) -> None:
    import psutil

    job = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parents[3])
    path = tmp_path / JOURNAL
    deadline = time.monotonic() + 120
    while not path.exists() or len(path.read_text().splitlines()) < 3:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    known = len([line for line in path.read_text().splitlines(keepends=True)[1:] if line.endswith("\n")])
    told: list[int] = []
    clusters = [waters(2.5 + 0.1 * k) for k in range(6)]
    found = label(clusters, Springs(seconds=1.0), tmp_path, workers=2, progress=lambda done, total: told.append(done))
    assert told[0] == known >= 2 and found.counts()["kept"] == 6
    assert not psutil.wait_procs(workers, timeout=30)[1]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("tblite", reason="tblite is missing: pip install 'lsmrun[qm]'")
    clusters = [waters(2.8), ion_pair(3.1), ion_pair(5.0), waters(3.0, n=3)]
    lithium = replace(ion_pair(3.1), numbers=np.array([3]), positions=np.zeros((1, 3)), fragments=np.array([0]))
    clusters.append(replace(lithium, fragment_charges=np.array([1.0]), names=("Li",)))
    return label(clusters, Tblite(), tmp_path_factory.mktemp("labels"))


def test_files_say_what_they_are_and_are_read_at_once(labelled, tmp_path: Path) -> None:
    assert labelled.counts() == {"kept": 4, "set_aside_gap": 1, "failures": 0}
    frames = [one.frame() for one in labelled.kept]
    path = tmp_path / "frames.xyz"
    write_extxyz(frames, path, dispersion="included", method="GFN2-xTB", notes=[one.notes for one in labelled.kept])
    read = FrameFiles("labelled", str(path), keys=KEYS, valid_fraction=0.0).load(tmp_path, 0)
    assert read.dispersion == "included" and read.labels == ("energy", "forces", "virial", "charges", "dipole")
    assert not read.isolated  # Li+ is an ion, not a free atom
    for before, after in zip(frames, read.train, strict=True):
        assert after.energy == pytest.approx(before.energy, abs=1e-5)
        for name in ("forces", "virial", "charges", "dipole"):
            np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=2e-6)
        np.testing.assert_allclose(after.configuration.positions, before.configuration.positions, atol=1e-8)
        assert (after.configuration.fragments == before.configuration.fragments).all()
        assert (after.configuration.fragment_charges == before.configuration.fragment_charges).all()
        assert after.composition == before.composition
    write_train_data(frames, tmp_path / "train_data.pt")
    assert [f.labels for f in read_train_data(tmp_path / "train_data.pt")] == [frames[0].labels] * 4
    with pytest.raises(ValueError, match=r"says dispersion=included, data.dispersion is none; they cannot be mixed"):
        FrameFiles("labelled", str(path), "none", keys=KEYS).load(tmp_path, 0)
    write_extxyz([], tmp_path / "empty.xyz", dispersion="none")
    assert (tmp_path / "empty.xyz").read_text() == ""


def test_files_that_disagree_or_keep_silent_about_dispersion_are_refused(labelled, tmp_path: Path) -> None:
    frames = [one.frame() for one in labelled.kept]
    write_extxyz(frames[:2], tmp_path / "with.xyz", dispersion="included")
    write_extxyz(frames[2:], tmp_path / "without.xyz", dispersion="none")
    with pytest.raises(ValueError, match=r"without.xyz\[0\]: says dispersion=none, with.xyz\[0\] says included"):
        FrameFiles("mixed", ["with.xyz", "without.xyz"], keys=KEYS, valid_fraction=0.0).load(tmp_path, 0)
    silent = (tmp_path / "with.xyz").read_text().replace("dispersion=included", "")
    (tmp_path / "silent.xyz").write_text(silent)
    with pytest.raises(ValueError, match=r"silent.xyz\[0\]: does not say .* give data.dispersion=included or none"):
        FrameFiles("silent", "silent.xyz", keys=KEYS).load(tmp_path, 0)


def test_heat_gives_frames_of_a_simulation_the_same_for_the_same_seed(tmp_path: Path) -> None:
    heat = Heat(temperature_K=400.0, frames=2, every=5)
    found = [label([waters()], Tblite(), tmp_path / str(k), heat=heat, seed=7) for k in range(2)]
    energies = [[one.computed.energy for one in run.kept] for run in found]
    assert energies[0] == energies[1] and len(set(energies[0])) == 2
    assert not np.allclose(found[0].kept[0].cluster.positions, waters().positions, atol=0.01)
    first = json.loads((tmp_path / "0" / JOURNAL).read_text().splitlines()[0])
    assert first["method"] == "GFN2-xTB"
    other = label([waters()], Tblite(), tmp_path / "0", heat=heat, seed=8)
    assert other.kept[0].computed.energy != energies[0][0]
