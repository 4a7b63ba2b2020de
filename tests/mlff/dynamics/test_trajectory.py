"""Trajectories: what is written is read back, in parts or as a whole, by us and by MDAnalysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlff.dynamics.integrators import Conditions
from mlff.dynamics.simulation import Dynamics, conditions_of, simulate
from mlff.dynamics.trajectory import (
    Recorder,
    merge,
    read_origin,
    read_thermo,
    read_trajectory,
    thermo_table,
    topology,
)
from mlff.system.liquid import System, pack
from tests.mlff.dynamics.test_simulation import Ideal

NAMES = ("EC",) * 10 + ("Li", "PF6")


@pytest.fixture(scope="module")
def box() -> Atoms:
    amounts = {"solvent_amounts": [10.0], "solvent_unit": "count", "salt_amounts": [1.0], "salt_unit": "count"}
    return pack(System(name="x", solvents=["EC"], salts=["LiPF6"], density_g_cm3=0.9, **amounts), seed=0).atoms


@pytest.fixture(scope="module")
def recorded(box: Atoms, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """A run of 40 steps with a frame every 10, written in parts of 20 steps and joined."""
    folder = tmp_path_factory.mktemp("trajectory")
    d = Dynamics(ensemble="npt", length_ps=0.04, temperature_K=300.0, frame_every_fs=10.0, save_every_fs=20.0)
    recorder, whole = Recorder(box, NAMES, conditions_of(d)), Recorder(box, NAMES)
    parts = [folder / "part-1.h5md", folder / "part-2.h5md"]

    def on_step(step: object) -> None:
        recorder.on_step(step)  # type: ignore[arg-type]
        whole.on_step(step)  # type: ignore[arg-type]

    def on_frame(frame: object) -> None:
        recorder.on_frame(frame)  # type: ignore[arg-type]
        whole.on_frame(frame)  # type: ignore[arg-type]

    callbacks = {"on_step": on_step, "on_frame": on_frame, "save": lambda state: recorder.write(parts[0])}
    simulate(box, Ideal(), d, seed=0, **callbacks)
    recorder.write(parts[1])
    merge(parts, folder / "whole.h5md")
    return folder / "whole.h5md", whole


def test_frames_come_back_as_they_were(recorded: tuple[Path, Recorder], box: Atoms) -> None:
    path, recorder = recorded
    t = read_trajectory(path)
    np.testing.assert_allclose(t.time_ps, [0.0, 0.01, 0.02, 0.03, 0.04])
    assert t.velocities is not None and t.charges is None
    for k, frame in enumerate(recorder.frames):
        np.testing.assert_allclose(t.positions[k], frame.positions, atol=1e-5)
        np.testing.assert_allclose(t.velocities[k], frame.velocities, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(t.cells[k], frame.cell)
    np.testing.assert_array_equal(t.numbers, box.numbers)
    np.testing.assert_allclose(t.masses, box.get_masses())
    assert t.names == NAMES
    np.testing.assert_array_equal(t.fragments, box.arrays["fragments"])
    np.testing.assert_array_equal(t.fragment_charges, [0] * 10 + [1, -1])


def test_a_file_says_how_it_was_made(recorded: tuple[Path, Recorder], box: Atoms, tmp_path: Path) -> None:
    import h5py

    path, _ = recorded
    assert read_trajectory(path).conditions == Conditions("npt", 300.0, 1.0, 1.0, 100.0, 1000.0)
    origin = read_origin(path)
    assert origin.conditions == read_trajectory(path).conditions and origin.names == NAMES
    np.testing.assert_array_equal(origin.numbers, box.numbers)
    with h5py.File(path) as file:
        assert file["parameters"].attrs["ensemble"] == "npt" and file["parameters"].attrs["pressure_atm"] == 1.0
    Recorder(box, NAMES, conditions_of(Dynamics(ensemble="nve"), 350.0)).write(tmp_path / "nve.h5md")
    with h5py.File(tmp_path / "nve.h5md") as file:  # what has no effect is not told
        assert set(file["parameters"].attrs) == {"ensemble", "temperature_K", "time_step_fs"}
    again = read_origin(tmp_path / "nve.h5md").conditions
    assert again is not None and again.temperature_K == 350.0 and np.isnan(again.temperature_damping_fs)


def test_files_of_before_conditions_were_recorded_are_read(box: Atoms, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Recorder(box, NAMES).write(tmp_path / name)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "old.h5md")
    assert read_trajectory(tmp_path / "old.h5md").conditions is None
    assert read_origin(tmp_path / "old.h5md").conditions is None


def test_velocities_are_the_rate_of_the_positions(recorded: tuple[Path, Recorder]) -> None:
    _, recorder = recorded
    first, second = recorder.frames[:2]
    moved = (second.positions - first.positions) / (second.time_ps - first.time_ps)
    # free particles in a box that breathes: only nearly
    assert np.corrcoef(moved.ravel(), first.velocities.ravel())[0, 1] > 0.99
    assert np.polyfit(first.velocities.ravel(), moved.ravel(), 1)[0] == pytest.approx(1.0, abs=0.1)


def test_every_step_comes_back_once(recorded: tuple[Path, Recorder]) -> None:
    path, recorder = recorded
    thermo = read_thermo(path)
    np.testing.assert_array_equal(thermo.step, np.arange(41))
    np.testing.assert_array_equal(thermo.pressure_atm, [s.pressure_atm for s in recorder.steps])
    np.testing.assert_array_equal(thermo.conserved_kcal_mol, [s.conserved_kcal_mol for s in recorder.steps])
    np.testing.assert_allclose(thermo.density_g_cm3, [s.density_g_cm3 for s in recorder.steps], rtol=1e-6)
    rows = thermo_table(thermo, rows=10).splitlines()
    assert rows[0].startswith("time_ps,temperature_K,") and rows[0].endswith("pressure_xy_atm")
    assert len(rows) == 10 and float(rows[-1].split(",")[0]) == pytest.approx(0.04)


def test_a_topology_holds_whole_molecules_in_the_cell_wherever_they_have_gone(box: Atoms) -> None:
    far = box.copy()
    fragments = far.arrays["fragments"]
    steps = np.random.default_rng(0).integers(-900, 900, (fragments.max() + 1, 3))
    far.positions += (steps @ far.cell.array)[fragments]
    places = [[float(line[k : k + 8]) for k in (30, 38, 46)] for line in topology(far, NAMES).splitlines()[1:-1]]
    for k in range(fragments.max() + 1):
        inside = fragments == k
        moved = places - box.positions
        np.testing.assert_allclose(moved[inside], np.tile(moved[inside][0], (inside.sum(), 1)), atol=2e-3)
        middle = np.mean(np.array(places)[inside], axis=0) @ np.linalg.inv(box.cell.array)
        assert (middle > -1e-3).all() and (middle < 1.001).all()
        lattice = moved[inside][0] @ np.linalg.inv(box.cell.array)
        np.testing.assert_allclose(lattice, np.round(lattice), atol=1e-3)


def test_mdanalysis_opens_trajectory_and_topology(recorded: tuple[Path, Recorder], box: Atoms) -> None:
    mda = pytest.importorskip("MDAnalysis", reason="MDAnalysis is not installed")
    path, recorder = recorded
    names = path.with_name("topology.pdb")
    names.write_text(topology(box, NAMES))
    universe = mda.Universe(str(names), str(path))
    assert len(universe.trajectory) == 5 and len(universe.atoms) == len(box)
    assert [r.resname for r in universe.residues] == list(NAMES)
    assert universe.select_atoms("resname PF6").elements.tolist() == list(box.symbols[-7:])
    for frame, ours in zip(universe.trajectory, recorder.frames, strict=True):
        np.testing.assert_allclose(frame.positions, ours.positions, atol=1e-4)
        np.testing.assert_allclose(frame.velocities, ours.velocities, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(frame.dimensions[:3], np.diag(ours.cell), rtol=1e-5)
        assert frame.time == pytest.approx(ours.time_ps)


def test_other_files_are_refused(tmp_path: Path) -> None:
    import h5py

    with pytest.raises(ValueError, match="no such trajectory"):
        read_thermo(tmp_path / "none.h5md")
    (tmp_path / "text.h5md").write_text("no")
    with pytest.raises(ValueError, match="not an HDF5 file"):
        read_trajectory(tmp_path / "text.h5md")
    with h5py.File(tmp_path / "other.h5md", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="not a trajectory of lsmrun"):
        read_trajectory(tmp_path / "other.h5md")
