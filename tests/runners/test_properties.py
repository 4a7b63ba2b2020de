"""`runner=properties` from the command line: stages, report, resuming, own trajectories, and what is refused.

The model is a small network with random weights: its liquid means nothing, but every stage runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mlff.get import NetworkParameters
from mlff.model import ForceField, ForceFieldParameters
from mlff.weights import dump
from runners.compose import Source
from runners.options import CONF, describe_file
from runners.plan import make_plan
from tests.command_line import Run, artifacts_of, refused, runs_in

BOX = ("system=dmc", "system.n_atoms=96", "system.density_g_cm3=1.0")
CALM = ("runner.relaxation.steps=0", "runner.relaxation.soft_start_ps=0")
SHORT = (
    *CALM,
    "properties.blocks=2",
    "properties.density.length_ps=0.02",
    "properties.settle.length_ps=0.003",
    "properties.transport.length_ps=0.085",
    "properties.transport.frame_every_fs=5",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved force field without charges and dispersion, its forces too small to matter."""
    torch.manual_seed(0)
    network = NetworkParameters(width=16, heads=4, n_radial=8, hidden=8)
    field = ForceField(ForceFieldParameters(network=network, charges=False, dispersion="none"))
    with torch.no_grad():
        for weight in field.energy.parameters():
            weight *= 0.1
    tensors, settings = dump(field)
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").write_bytes(tensors)
    about = {"format": "lsmrun-force-field-1", "labels": {}, "config": {}}
    (folder / "model.yaml").write_text(settings + yaml.safe_dump(about))
    return folder / "model.safetensors"


def test_every_stage_runs_and_is_reported(lsmrun: Run, home: Path, model: Path) -> None:
    status, out, err = lsmrun("runner=properties", *BOX, *SHORT, f"checkpoint={model}")
    assert status == 0, err
    (run,) = runs_in(home)
    found = run.data.metrics
    assert {"md/temperature_K", "md/volume_A3", "cost/ms_per_step"} <= found.keys()
    assert {"md/density_g_cm3", "unresolved/density_g_cm3"} & found.keys()
    assert {"unresolved/viscosity_mPa_s", "unresolved/viscosity_error_mPa_s"} <= found.keys()  # 0.2 ps see no viscosity
    assert {"md/diffusion_box_DMC_m2_s", "unresolved/diffusion_box_DMC_m2_s"} & found.keys()
    assert "stage-density-0/density_g_cm3" in found
    assert "expected 95 % error of density" in out and "ms a step: about" in out
    assert "viscosity: not resolved (" in out and "measured 0.585 at 298.15 K" in out
    assert "md/viscosity_mPa_s" not in out and "md/viscosity_mPa_s" not in found
    assert artifacts_of(home, run, "pictures") == {
        f"pictures/{n}.png" for n in ("density", "viscosity", "displacements", "radial")
    }
    assert {"curves.npz", "properties.txt"} <= artifacts_of(home, run)
    left = list((home / "cache").glob("md-stage-*/*.h5md"))
    assert not left


def test_a_killed_run_goes_on_with_the_stage_it_was_in(
    lsmrun: Run, home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlff.dynamics.simulation
    import mlff.properties

    command = ("runner=properties", *BOX, *SHORT, "properties.replicas=1", f"checkpoint={model}")
    simulate, density, lengths = mlff.dynamics.simulation.simulate, mlff.properties.density, []

    def counted(*arguments: object, **more: object) -> object:
        lengths.append(arguments[2].length_ps)
        return simulate(*arguments, **more)

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mlff.dynamics.simulation, "simulate", counted)
    monkeypatch.setattr(mlff.properties, "density", killed)
    assert lsmrun(*command)[0] != 0
    monkeypatch.setattr(mlff.properties, "density", density)
    status, _, err = lsmrun(*command)
    assert status == 0, err
    assert lengths == [0.02, 0.003, 0.085]  # the density was not simulated again
    (run,) = runs_in(home)
    assert run.info.status == "FINISHED"
    whole = lsmrun(*command, "resume=false", "tracking.name=unbroken")
    assert whole[0] == 0 and len(lengths) == 6
    first, second = (r.data.metrics for r in runs_in(home))
    key = "unresolved/viscosity_mPa_s"
    assert first[key] == pytest.approx(second[key], rel=1e-9)


def test_replicas_side_by_side_are_those_of_one_after_another(
    lsmrun: Run, home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runners.properties_stages
    from runners.side_by_side import side_by_side

    command = (
        "runner=properties",
        *BOX,
        *SHORT,
        "properties.replicas=2",
        "runner.pictures=false",
        f"checkpoint={model}",
    )
    assert lsmrun(*command, "threads=1")[0] == 0
    sent: list[int] = []

    def counted(context: Any, parts: Any) -> Any:
        sent.append(len(parts))
        return side_by_side(context, parts)

    monkeypatch.setattr("runners.side_by_side.WORTH_STEPS", 0)
    monkeypatch.setattr("runners.side_by_side.ALONE_ATOMS", 1000)  # so small a share gains nothing inside a box
    monkeypatch.setattr(runners.properties_stages, "side_by_side", counted)
    status, out, err = lsmrun(*command, "threads=2", "resume=false")
    assert status == 0, err
    assert sent == [2, 2] and "2 replicas, 2 at a time; " in out and "stage-transport-1: done in" in out
    apart, alone = (
        {k: v for k, v in run.data.metrics.items() if k.startswith(("md/", "unresolved/", "stage-"))}
        for run in runs_in(home)
    )
    assert apart == pytest.approx(alone, rel=1e-6) and "stage-transport-1/density_g_cm3" in apart
    assert not list((home / "cache").glob("md-stage-*/*.h5md"))


def test_a_trajectory_of_ones_own_is_analysed(lsmrun: Run, home: Path, model: Path) -> None:
    common = (*BOX, *CALM, "runner.pictures=false", f"checkpoint={model}", "md.length_ps=0.08", "md.frame_every_fs=2")
    for ensemble in ("nve", "npt"):
        status, out, err = lsmrun("runner=md", f"md={ensemble}", *common)
        assert status == 0, err
        path = next(line for line in out.splitlines() if line.startswith("trajectory: ")).split()[1]
        status, out, err = lsmrun(
            "runner=properties", "system=dmc", "properties.blocks=2", f"runner.trajectory=[{path}]"
        )
        assert status == 0, err
        assert ("density: " in out) == (ensemble == "npt")
        assert ("self-diffusion of DMC" in out) == (ensemble == "nve")
    assert "md/temperature_K" in runs_in(home)[1].data.metrics


def test_a_trajectory_of_ones_own_is_held_to_the_rules_of_transport(lsmrun: Run, home: Path, model: Path) -> None:
    common = (*BOX, *CALM, "runner.pictures=false", f"checkpoint={model}", "md.length_ps=0.08", "md.frame_every_fs=2")

    def made(*typed: str) -> str:
        status, out, err = lsmrun("runner=md", *common, *typed)
        assert status == 0, err
        return next(line for line in out.splitlines() if line.startswith("trajectory: ")).split()[1]

    def analysed(*paths: str) -> tuple[int, str, str]:
        return lsmrun(
            "runner=properties", "system=dmc", "properties.blocks=2", f"runner.trajectory=[{','.join(paths)}]"
        )

    weak, fast, warm = (
        made("md=nvt"),
        made("md=nvt", "md.temperature_damping_fs=10"),
        made("md=nve", "md.temperature_K=350"),
    )
    before = len(runs_in(home))
    assert f"runner.trajectory: {fast}: temperature_damping_fs=10: a thermostat that fast" in refused(
        analysed(weak, fast)
    )
    assert f"runner.trajectory: {warm}: temperature_K=350, and {weak} has 300: replicas have one target" in refused(
        analysed(weak, warm)
    )
    assert "a file is given twice" in refused(analysed(weak, weak))
    assert len(runs_in(home)) == before
    import h5py

    with h5py.File(weak, "r+") as file:
        del file["parameters"]  # a file of before they were recorded
    status, out, err = analysed(weak)
    assert status == 0 and "self-diffusion of DMC" in out, err
    assert "written before trajectories told how they were made" in out + err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("properties.transport.ensemble=langevin",), "friction and noise on every atom"),
        (("properties.transport.temperature_damping_fs=50",), "at least 1000"),
        (("properties.replicas=0",), "properties.replicas=0: must be a whole number >= 1"),
        (("properties=quik",), "quick"),
        (("runner.trajectory=[no.h5md]",), "no.h5md: no such trajectory"),
        (("checkpoint=nowhere.safetensors",), "checkpoint=nowhere.safetensors: no such file"),
    ],
)
def test_what_is_refused(lsmrun: Run, typed: tuple[str, ...], told: str) -> None:
    assert told in refused(lsmrun("runner=properties", "system=dmc", *typed))


def test_ions_need_a_model_that_knows_charges(lsmrun: Run, model: Path) -> None:
    status, _, err = lsmrun("runner=properties", "system=dmc_ec_lipf6", "system.n_atoms=400", f"checkpoint={model}")
    assert status == 2 and "predicts no charges, and the box holds Li, PF6" in err and err.count("\n") == 1


def test_ions_of_another_charge_than_was_trained_are_refused(lsmrun: Run, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NetworkParameters(width=16, heads=4, n_radial=8, hidden=8)
    tensors, settings = dump(ForceField(ForceFieldParameters(network=network)))
    (tmp_path / "neutral.safetensors").write_bytes(tensors)
    about = {"format": "lsmrun-force-field-1", "labels": {"molecule_charges": [0.0]}, "config": {}}
    (tmp_path / "neutral.yaml").write_text(settings + yaml.safe_dump(about))
    command = ("runner=properties", "system=dmc_ec_lipf6", "system.n_atoms=400", "properties.replicas=1")
    status, _, err = lsmrun(*command, f"checkpoint={tmp_path / 'neutral.safetensors'}")
    assert status == 2 and "was trained on molecules of charge +0 only, and the box holds Li" in err, err


def test_weights_are_also_looked_for_in_the_reference_folder(
    lsmrun: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSMRUN_REFERENCE", str(model.parent))
    status, _, err = lsmrun(
        "runner=properties", "system=dmc_ec_lipf6", "system.n_atoms=400", "checkpoint=model.safetensors"
    )
    assert status == 2 and "predicts no charges" in err


EXPERIMENTS = sorted(p.stem for p in CONF.glob("experiment/mlff/properties_*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_what_its_name_says(name: str) -> None:
    cfg = Source().compose([f"experiment=mlff/{name}"])
    plan = make_plan(cfg, cfg.hydra)
    p, short = plan.parts["properties"], name.removeprefix("properties_")
    assert plan.parts["system"].name.startswith(short.removeprefix("transport_"))
    assert (p.transport is not None) == short.startswith("transport_")
    assert plan.options.checkpoints == ("bamboo/weights.safetensors",)
    assert 300 <= plan.parts["system"].n_atoms <= 1000
    assert describe_file(CONF / "experiment" / "mlff" / f"{name}.yaml").endswith(".")


def test_a_tiny_experiment_runs_to_the_end(lsmrun: Run, model: Path) -> None:
    short = ("system.n_atoms=96", "properties.density.length_ps=0.02", "properties.replicas=1", *CALM)
    status, out, err = lsmrun("experiment=mlff/properties_dmc", *short, f"checkpoint={model}", "runner.pictures=false")
    assert status == 0, err
    assert "density: " in out and "published 1.053 at 300 K" in out


@pytest.mark.parametrize("name", ["quick", "laptop", "full"])
def test_presets_grow(name: str) -> None:
    cfg = Source().compose(["runner=properties", f"properties={name}"])
    p = make_plan(cfg, cfg.hydra).parts["properties"]
    transport = p.transport.length_ps if p.transport else 0.0
    steps = p.replicas * (p.density.length_ps + transport)
    assert {"quick": steps < 100, "laptop": 500 < steps < 1000, "full": steps > 10_000}[name]
