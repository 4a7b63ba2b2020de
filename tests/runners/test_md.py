"""Molecular dynamics from the command line: results, kills, committees, blow-ups, own boxes, wrong input."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

import mlff
from mlff.datasets import FrameFiles
from mlff.dynamics.trajectory import Thermo, read_thermo, read_trajectory
from mlff.labelled import LabelKeys
from mlff.model import ForceField
from mlff.weights import dump
from runners.force_fields import read_force_field, write_force_field
from runners.simulation import _caution
from tests.command_line import Run, artifacts_of, client_of, refused, runs_in

LIQUID = (
    "system=custom",
    "system.solvents=[EC]",
    "system.solvent_amounts=[9]",
    "system.solvent_unit=count",
    "system.salts=[LiPF6]",
    "system.salt_amounts=[1]",
    "system.salt_unit=count",
    "system.density_g_cm3=0.9",
)
# steps so short that random weights do no harm
STEPS = ("md.time_step_fs=0.05", "md.length_ps=0.002", "md.frame_every_fs=0.25", "md.save_every_fs=0.5")
RELAXATION = ("runner.relaxation.steps=2", "runner.relaxation.soft_start_ps=0", "runner.relaxation.limit_eV_A=1000")
TINY = ("runner=md", "model=mlff", *LIQUID, *STEPS, *RELAXATION, "md.max_force_eV_A=1000")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models of the default size with random weights."""
    folder = tmp_path_factory.mktemp("weights")
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        tensors, settings = dump(ForceField())
        path = folder / f"random{seed}.safetensors"
        path.write_bytes(tensors)
        path.with_suffix(".yaml").write_text(settings)
        paths.append(path)
    return paths


def _thermo(home: Path) -> list[Thermo]:
    """Of all runs of a home, the oldest first."""
    return [read_thermo(p) for p in sorted(home.glob("hydra/*/*/trajectory/trajectory.h5md"))]


def test_a_box_that_misses_its_composition_says_so_and_which_size_meets_it(
    lsmrun: Run, home: Path, weights: list[Path]
) -> None:
    in_mol_per_kg = ("system.solvent_unit=mass", "system.salt_unit=molality", "system.n_atoms=100")
    status, out, err = lsmrun(*TINY, *in_mol_per_kg, f"checkpoint={weights[0]}", "runner.pictures=false")
    assert status == 0, err
    assert "custom: LiPF6 1.14 mol/kg (asked for 1)" in out
    assert "warning: custom: whole molecules in about 100 atoms give 1.14 mol/kg of LiPF6, +14 % from the 1" in out
    assert "system.n_atoms=110 would meet it to 5 %" in out
    (run,) = runs_in(home)
    assert run.data.metrics["composition/LiPF6"] == pytest.approx(1.1356, abs=1e-3)


def test_heavier_hydrogen_is_in_the_trajectory_and_gone_from_the_box_that_is_left(
    lsmrun: Run, home: Path, weights: list[Path]
) -> None:
    status, _, err = lsmrun(*TINY, "md=npt_2fs", f"checkpoint={weights[0]}", "runner.pictures=false")
    assert status == 0, err
    folder = next(home.glob("hydra/*/*/trajectory"))
    t, last = read_trajectory(folder / "trajectory.h5md"), ase.io.read(folder / "last.extxyz")
    ordinary = last.get_masses()
    assert (t.masses[t.numbers == 1] == 3.0).all()
    assert np.ptp(ordinary[last.numbers == 1]) == 0 and ordinary[last.numbers == 1][0] == pytest.approx(1.008)
    assert np.bincount(t.fragments, weights=t.masses) == pytest.approx(np.bincount(t.fragments, weights=ordinary))
    status, _, err = lsmrun("runner=properties", "model=mlff", *LIQUID, "properties.transport.hydrogen_mass_u=3")
    assert status == 2 and "transport.hydrogen_mass_u=3: other masses move otherwise" in err
    assert "md.hydrogen_mass_u=5: must be a number >= 1.008 and <= 3.7" in refused(
        lsmrun(*TINY, "md.hydrogen_mass_u=5")
    )


def test_a_liquid_runs_to_the_end_and_leaves_everything_that_was_promised(
    lsmrun: Run, home: Path, weights: list[Path]
) -> None:
    status, out, err = lsmrun(*TINY, f"checkpoint={weights[0]}")
    assert status == 0, err
    assert "9 EC, 1 Li, 1 PF6: 98 atoms" in out and "charges in e: Li +1, PF6 -1; all other species neutral" in out
    (run,) = runs_in(home)
    assert run.info.status == "FINISHED"
    metrics = run.data.metrics
    assert metrics["md/density_g_cm3"] == pytest.approx(0.9, rel=0.1) and metrics["cost/ns_per_day"] > 0
    assert {"md/temperature_K", "md/pressure_atm", "md/drift_kcal_mol_ns_atom", "time/packing_s"} <= set(metrics)
    stored = ("trajectory.h5md", "topology.pdb", "thermo.csv", "last.extxyz")
    assert artifacts_of(home, run, "trajectory") == {f"trajectory/{name}" for name in stored}
    assert artifacts_of(home, run, "pictures") == {"pictures/course.png"}
    assert client_of(home).get_experiment(run.info.experiment_id).name == "md/custom"
    folder = next(home.glob("hydra/*/*/trajectory"))
    t = read_trajectory(folder / "trajectory.h5md")
    assert t.positions.shape == (9, 98, 3) and t.names == ("EC",) * 9 + ("Li", "PF6")
    # every molecule keeps its charge in every frame, as the model was told
    assert t.charges is not None and t.fragments is not None
    sums = np.zeros((9, 11))
    np.add.at(sums, (slice(None), t.fragments), t.charges)
    np.testing.assert_allclose(sums, np.tile([0.0] * 9 + [1.0, -1.0], (9, 1)), atol=1e-4)
    assert not list(home.glob("cache/md-*/*.h5md"))


KILLED = """
import os, signal
from runners import simulation
write = simulation.write_arrays
def fatal(path, arrays):
    if path.name == "state.npz" and int(arrays["step"]) == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, arrays)
simulation.write_arrays = fatal
from runners.cli import main
raise SystemExit(main())
"""
"""The program dies when it has written a part of the trajectory but not yet the state that belongs to it."""


def test_a_killed_run_goes_on_and_equals_the_unbroken_one(lsmrun: Run, home: Path, weights: list[Path]) -> None:
    command = (*TINY, f"checkpoint={weights[0]}", "runner.pictures=false", "threads=1")
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", KILLED, *command], env=environment, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    assert len(list(home.glob("cache/md-*/part-*.h5md"))) == 3
    status, out, err = lsmrun(*command)
    assert status == 0, err
    (run,) = runs_in(home)
    assert f"going on with the MLflow run {run.info.run_id}" in out and run.info.status == "FINISHED"
    session = run.data.metrics  # a day's work is counted by what this session did: the last 20 of 40 steps
    assert session["cost/ns_per_day"] * session["cost/md_s"] / 86.4 == pytest.approx(20 * 0.05e-3)
    assert lsmrun(*command, "resume=false")[0] == 0
    killed, unbroken = _thermo(home)
    for name in Thermo.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(killed, name), getattr(unbroken, name), err_msg=name)
    assert len(killed.step) == 41


def test_a_committee_stops_where_its_members_disagree_with_the_frame_saved(
    lsmrun: Run, home: Path, weights: list[Path]
) -> None:
    both = f"checkpoint=[{weights[0]},{weights[1]}]"
    status, _, err = lsmrun(*TINY, both, "md.max_spread_eV_A=1e-6", "md=csvr", "runner.pictures=false")
    assert status == 1
    assert err.startswith("lsmrun: error: ") and "forces of the committee spread by" in err and "(molecule " in err
    (run,) = runs_in(home)
    assert run.info.status == "FAILED" and "spread" in run.data.tags["lsmrun.error"]
    (frame,) = home.glob("hydra/*/*/blow_up.extxyz")
    assert frame.read_text().startswith("98\n")
    assert not list(home.glob("cache/md-*/*.npz"))
    status, _, err = lsmrun(*TINY, both, "md.max_spread_eV_A=1e6", "md=csvr", "runner.pictures=false")
    assert status == 0, err


def test_settings_of_the_model_hold_for_a_checkpoint_as_well(lsmrun: Run, home: Path, weights: list[Path]) -> None:
    plain = (*TINY, f"checkpoint={weights[0]}", "runner.pictures=false", "md=nve", "md.length_ps=0.0001")
    assert lsmrun(*plain)[0] == 0
    assert lsmrun(*plain, "model.forces=fixed_charges", "model.smooth=false")[0] == 0
    one, other = _thermo(home)
    assert one.potential_kcal_mol[0] != other.potential_kcal_mol[0]
    assert "model.width" in refused(lsmrun(*plain, "model.width=32"))
    assert "the checkpoint's model is fixed; of it can be set forces" in refused(lsmrun(*plain, "model.charges=false"))

    # what one run left is the start of another
    (last, _) = sorted(home.glob("hydra/*/*/trajectory/last.extxyz"))
    own = ("runner=md", "model=mlff", "system=box", f"system.file={last}", *STEPS[:1], "md.length_ps=0.0001")
    keep = ("runner.relaxation.steps=0", "runner.relaxation.soft_start_ps=0", "runner.pictures=false", "md=nve")
    status, out, err = lsmrun(*own, *keep, f"checkpoint={weights[0]}")
    assert status == 0, err
    assert "9 EC, 1 Li, 1 PF6: 98 atoms" in out
    assert _thermo(home)[-1].temperature_K[0] == pytest.approx(one.temperature_K[-1], rel=1e-4)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("model=lsm", "model=lsm: runner=md takes a force field; give model=mlff"),
        ("system.solvents=[FECC]", "FECC: no such molecule; did you mean FEC?"),
        ("system.salts=[LiPF]", "LiPF: no such salt; did you mean LiPF6?"),
        ("system.solvent_amounts=[1,2]", "system: 1 solvents and 2 solvent_amounts: give one for each"),
        ("system.density_g_cm3=0", "system.density_g_cm3=0: must be a number > 0.01"),
        ("system.solvent_amounts=[2]", "Å wide, at least 10 Å are needed: take more molecules"),
        ("system.solvents=['CS(C)=O']", "element S was not trained; this model knows H, C, O"),
        ("md=npt_berendsen", "md=npt_berendsen: no such option (allowed: csvr, langevin, npt,"),
        ("md.ensemble=berendsen", "Berendsen's coupling samples no ensemble"),
        ("md.timestep_fs=1", "md.timestep_fs=1: unknown key; did you mean md.time_step_fs?"),
        ("system=dmc_ec_lipf", "system=dmc_ec_lipf: no such option; did you mean dmc_ec_lipf6?"),
        ("runner.relaxation.step=3", "did you mean runner.relaxation.steps?"),
        ("md.pressure_damping_fs=0.1", "md: pressure_damping_fs=0.1: must be at least 0.5, 10 time steps"),
        ("runner.relaxation.friction_fs=0.1", "friction_fs=0.1: must be at least 5, 10 time steps"),
        ("checkpoint=nothing", "checkpoint=nothing: no model in this MLflow run"),
        ("checkpoint=none.safetensors", "checkpoint=none.safetensors: no such file or folder"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    lsmrun: Run, home: Path, weights: list[Path], tmp_path: Path, typed: str, said: str
) -> None:
    path = weights[0]
    if "trained" in said:
        field = ForceField()
        field.trained[:] = False
        field.trained[[1, 6, 8]] = True
        tensors, settings = dump(field)
        path = tmp_path / "few.safetensors"
        path.write_bytes(tensors)
        path.with_suffix(".yaml").write_text(settings)
    more = ("system.salts=[]", "system.salt_amounts=[]") if "trained" in said else ()
    given = () if typed.startswith("checkpoint") else (f"checkpoint={path}",)
    assert said in refused(lsmrun(*TINY, *given, *more, typed))
    assert not runs_in(home)


def test_one_model_given_twice_is_no_committee(lsmrun: Run, home: Path, weights: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    for suffix in (".safetensors", ".yaml"):
        copy.with_suffix(suffix).write_bytes(weights[0].with_suffix(suffix).read_bytes())
    said = refused(lsmrun(*TINY, f"checkpoint=[{weights[0]},{weights[1]},{copy}]"))
    assert f"checkpoint: {weights[0]} and {copy} have the same weights" in said
    assert not runs_in(home)


def test_a_list_of_models_is_for_runners_that_take_a_committee(lsmrun: Run, weights: list[Path]) -> None:
    both = f"checkpoint=[{weights[0]},{weights[1]}]"
    assert "runner=evaluate takes one model" in refused(lsmrun("runner=evaluate", "model=mlff", both))


def test_a_model_is_found_by_the_name_of_its_run(lsmrun: Run, home: Path) -> None:
    network = ("model.network.width=16", "model.network.heads=4", "model.network.n_radial=8", "model.network.hidden=8")
    tiny = ("data.n_train=6", "data.test=[]", "data.valid_fraction=0.03", "training.epochs=1", "runner.pictures=false")
    assert lsmrun("model=mlff", *network, *tiny, "tracking.name=mine")[0] == 0
    status, _, err = lsmrun("runner=evaluate", "checkpoint=mine", "runner.pictures=false")
    assert status == 0, err


def test_molecules_that_a_model_has_never_seen_are_told(lsmrun: Run, home: Path, tmp_path: Path) -> None:
    options = {"name": "mine", "train": "package:carbonates_train.xyz", "dispersion": "included"}
    labels = FrameFiles(**options, keys=LabelKeys(composition="Comp")).load(tmp_path, 0)
    nameless = [replace(frame, composition="C3H4O3") for frame in labels.train]
    saved = []
    for k, frames in enumerate((labels.train, nameless)):
        write_force_field(tmp_path / str(k), ForceField(), replace(labels, train=frames), {"seed": 0})
        saved.append(read_force_field(tmp_path / str(k), str(k)))
    assert set(saved[0].labels["molecules"]) <= {"DEC", "DMC", "EC", "EMC", "PC", "VC"}
    assert saved[0].strange(["DMC", "EA", "EA"]) == ["EA"] and saved[1].strange(["EA"]) == []
    status, out, err = lsmrun("runner=md", "model=mlff", "system=ma", "system.n_atoms=120", *STEPS, *RELAXATION)
    assert status == 0, err
    assert "warning: MA: no molecule of this kind is among the labels of the model" in out + err


def test_a_packaged_model_is_named_as_such(lsmrun: Run, home: Path) -> None:
    run = ("runner=md", "model=mlff", "system=emc", "system.n_atoms=120", *STEPS, *RELAXATION)
    said = (
        "checkpoint=package:loops: no model of this name comes with the package (there are default_model, loop_model)"
    )
    assert said in refused(lsmrun(*run, "checkpoint=package:loops"))
    status, out, err = lsmrun(*run, "checkpoint=package:loop_model")
    assert status == 0, err
    assert "not validated" not in out + err and "no molecule of this kind" not in out + err


def test_the_shipped_model_is_warned_of_in_the_words_of_its_card() -> None:
    assert "is not validated for densities" in _caution(mlff.default_model().with_name("MODEL_CARD.md"))
