"""Training and evaluation of force fields from the command line: results, resuming, saved models, wrong input."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ase.io import write
from omegaconf import OmegaConf

import mlff
from mlff.authors_format import write_train_data
from mlff.labelled import read_atoms
from mlff.training.losses import Weights
from mlff.training.options import Training
from mlff.training.trainable import ModelOptions
from mlff.training.trainer import Trainer
from runners.check import build
from runners.compose import Source
from runners.options import CONF
from runners.plan import make_plan
from tests.command_line import Run, artifacts_of, refused, runs_in
from tests.mlff.label_sets import label_set
from tests.mlff.samples import model

NETWORK = tuple(f"model.network.{k}" for k in ("width=16", "heads=4", "n_radial=8", "hidden=8"))
TINY = ("model=mlff", *NETWORK, "data.n_train=10", "data.test=[]", "data.valid_fraction=0.03", "training.epochs=2")
PLAIN = (*TINY, "runner.pictures=false")


def test_the_embedded_frames_train_a_model_that_loads_and_scores(lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*TINY, "training.weights.virial=0.01")
    assert status == 0, err
    (run,) = runs_in(home)
    names = ("energy/mae_meV_per_atom", "forces/mae_meV_per_A", "charges/mae_e", "dipole/mae_D")
    metrics = run.data.metrics
    assert all(name in out and metrics[name] > 0 for name in names)
    assert "the charge labels give the dipole labels to 0." in out and "dispersion: labels included" in out
    assert "virials: made from the forces of the clusters" in out
    assert {"by_element/H_forces_mae_meV_per_A", "epoch/valid/loss", "epoch/train/loss", "time/training_s"} <= set(
        metrics
    )
    assert metrics["valid/forces_mae_meV_per_A"] == pytest.approx(metrics["forces/mae_meV_per_A"], rel=1e-4)
    assert run.data.tags["lsmrun.scored_on"] == "valid"
    assert run.data.params["training.where_labelled.forces"] != "" and run.data.params["training"] == "modern"
    assert {f"pictures/{name}.png" for name in ("parity_valid", "errors_valid", "training")} == artifacts_of(
        home, run, "pictures"
    )
    assert {f"errors/valid_by_{kind}.csv" for kind in ("element", "composition")} == artifacts_of(home, run, "errors")
    assert {d.dataset.name for d in run.inputs.dataset_inputs} == {"carbonates"}

    status, out, err = lsmrun("runner=evaluate", f"checkpoint={run.info.run_id}", "runner.pictures=false")
    assert status == 0, err
    scored = runs_in(home)[-1]
    told = ("model", "model.network.width", "training", "data.n_train", "seed")
    assert [scored.data.params[k] for k in told] == [run.data.params[k] for k in told]
    assert scored.data.tags["lsmrun.model"] == "mlff" and scored.info.run_name == "mlff pictures=false"
    again = scored.data.metrics
    assert {n: again[n] for n in names} == pytest.approx({n: metrics[n] for n in names}, rel=1e-5)

    folder = next(home.glob("hydra/*/*/model"))
    model = mlff.load(folder / "model.safetensors")
    assert sorted(z for z in range(87) if model.trained[z]) == [1, 6, 8]
    _check_typed_data(lsmrun, folder)
    others = ("runner=evaluate", f"checkpoint={folder}", "data=carbonates", "data.dispersion=none", "data.test=[]")
    assert "cannot be mixed (checkpoint: included, carbonates: none)" in refused(lsmrun(*others))
    assert "data=digits: force fields take frames, not images" in refused(lsmrun(*others[:2], "data=digits"))


def _check_typed_data(lsmrun: Run, folder: Path) -> None:
    """Keys of `data` change the checkpoint's own section; test files that are typed need no training file."""
    path = folder / "mine.xyz"
    frames = read_atoms(Path(mlff.__file__).parent / "data" / "carbonates_train.xyz")[-5:]
    write(path, frames, format="extxyz")
    score = ("runner=evaluate", f"checkpoint={folder}", "runner.pictures=false")
    for typed in (("data.n_test=3", f"data.test={path}"), ("data=frames", "data.n_test=3", f"data.test={path}")):
        status, out, err = lsmrun(*score, *typed)
        assert status == 0, err
        assert "errors of the 3 test frames of carbonates" in out
    assert "none.xyz: no such file" in refused(lsmrun(*score, "data.test=none.xyz"))
    assert "data.tets=x: unknown key; did you mean data.test?" in refused(lsmrun(*score, "data=frames", "data.tets=x"))
    said = refused(lsmrun(*score, f"data.test={path}", "data.keys={energy:E,forces:F,charges:q,dipole:d}"))
    assert "mine.xyz[0]: has no label under the names of data.keys (keys present: " in said


@pytest.mark.parametrize("data", ["bamboo", "electrolyte"])
def test_the_published_recipe_starts_on_published_files_and_packaged_clusters(
    data: str, lsmrun: Run, home: Path, tmp_path: Path
) -> None:
    typed = [
        "model=mlff",
        f"data={data}",
        "training=bamboo2024",
        *NETWORK,
        "training.epochs=1",
        "runner.pictures=false",
    ]
    if data == "bamboo":
        made = label_set(model(dispersion="none"), 8)
        write_train_data([*made.train, *made.valid], tmp_path / "train_data.pt")
        typed.append(f"data.train={tmp_path / 'train_data.pt'}")
    else:
        typed += ["data.n_train=8", "data.valid_fraction=0.002"]
    status, _, err = lsmrun(*typed)
    assert status == 0, err
    assert runs_in(home)[0].data.metrics["epoch/train/loss"] > 0


def test_training_goes_on_from_a_checkpoint_of_the_same_labels(lsmrun: Run, home: Path) -> None:
    assert lsmrun(*PLAIN)[0] == 0
    folder = next(home.glob("hydra/*/*/model"))
    short = ("model=mlff", "data.n_train=4", "data.test=[]", "training.epochs=1", "runner.pictures=false")
    more = ("data.valid_fraction=0.03", f"checkpoint={folder}")
    status, out, err = lsmrun(*short, *more)
    assert status == 0, err
    assert "4 frames for training" in out and mlff.load(next(home.glob("hydra/*/*/model/*.safetensors")))
    assert "whose model is fixed" in refused(lsmrun(*short, *more, "model.network.width=32"))
    assert "cannot be mixed" in refused(lsmrun(*short, *more, "data.dispersion=none"))


def test_an_interrupted_run_goes_on_in_its_place_with_the_same_end(
    lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lsmrun(*PLAIN, "resume=false")[0] == 0
    wanted = runs_in(home)[0].data.metrics
    finish = Trainer.finish_epoch

    def interrupted(self: Trainer) -> Any:
        if self.at.epoch == 1:
            raise KeyboardInterrupt
        return finish(self)

    monkeypatch.setattr("runners.checkpoint.Throttle.ready", lambda self: True)
    monkeypatch.setattr(Trainer, "finish_epoch", interrupted)
    status, _, err = lsmrun(*PLAIN)
    assert (status, err) == (130, "lsmrun: interrupted\n")
    monkeypatch.setattr(Trainer, "finish_epoch", finish)
    status, out, err = lsmrun(*PLAIN)
    assert status == 0, err
    _, run = runs_in(home)
    assert f"going on with the MLflow run {run.info.run_id}" in out
    for name in ("forces/mae_meV_per_A", "epoch/train/loss", "epoch/valid/loss"):
        assert run.data.metrics[name] == wanted[name], name
    assert not list(home.glob("cache/training-*/state.npz"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("data.dispersion=maybe", "data.dispersion=maybe: must be one of included, none"),
        ("data=frames", "data.train: has no value; give data.train=..."),
        ("training.weights.virial=-1", "training.weights.virial=-1: must be a number >= 0"),
        ("training.optimizer=adam", "training.optimizer=adam: unknown key; did you mean training.optimiser?"),
        ("data.keys.forces=force", "no 'force' for forces (keys present: Comp, Nmols, charges, dipole, energy, forces"),
        ("data.train=here.xyz", "here.xyz: no such file (looked for "),
        ("model.network.heads=5", "model.network: width=16 is not a multiple of heads=5"),
        ("data=digits", "model=mlff data=digits: mlff takes frames and digits has images;"),
        ("data.n_train=900", "n_train=900: only"),
    ],
)
def test_wrong_input_is_refused_in_one_line(lsmrun: Run, home: Path, typed: str, said: str) -> None:
    wanted = [typed] if typed.startswith("data=") else [*PLAIN, typed]
    wanted = [*PLAIN[:5], typed] if typed.startswith("data=") else wanted
    assert said in refused(lsmrun(*wanted))
    assert runs_in(home) == []


def test_the_full_configuration_shows_every_key_with_its_default() -> None:
    section = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "mlff.yaml"))["model"]
    assert build(section, "model") == ModelOptions()
    assert set(section) - {"_target_"} == {f.name for f in dataclasses.fields(ModelOptions)}
    section = OmegaConf.to_container(OmegaConf.load(CONF / "training" / "modern.yaml"))
    modern = build(section, "training")
    assert dataclasses.replace(modern, where_labelled=Weights()) == Training()
    published = OmegaConf.to_container(OmegaConf.load(CONF / "training" / "bamboo2024.yaml"))
    assert set(published["training"]) == set(section)
    assert set(published["model"]) < set(OmegaConf.load(CONF / "model" / "mlff.yaml").model)


def test_the_published_recipe_changes_the_model_and_what_is_typed_wins() -> None:
    def plan(*typed: str) -> Any:
        cfg = Source().compose(["model=mlff", *typed])
        return make_plan(cfg, cfg.hydra)

    published = plan("training=bamboo2024", "training.epochs=7", "model.smooth=true").parts
    assert (published["model"].forces, published["model"].smooth) == ("fixed_charges", True)
    assert (published["training"].optimiser, published["training"].epochs) == ("adamax", 7)
    assert published["training"].where_labelled.given()["response"] == 300.0
    assert plan().parts["model"].forces == "conservative"


def test_several_processes_are_refused_where_only_one_can_work(lsmrun: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "runner=classify: works in one process; torchrun started 2" in refused(lsmrun("data=digits"))


def test_of_several_processes_only_the_first_records(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    from runners.distributed import SilentTracker, is_follower
    from runners.store import open_store

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert not is_follower()
    monkeypatch.setenv("RANK", "1")
    assert is_follower()
    tracker = SilentTracker(open_store(home))
    tracker.start(None)  # type: ignore[arg-type]
    tracker.metrics({"a": 1.0})
    tracker.figure(None, "x.png")  # type: ignore[arg-type]
    with tracker.phase("training"):
        tracker.artifact(home)
    tracker.end()
    assert runs_in(home) == [] and tracker.run_id is None
