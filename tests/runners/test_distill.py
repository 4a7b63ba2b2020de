"""Distillation from the command line: what it reports, how it goes on, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mlff
from mlff import scores
from mlff.datasets import FrameFiles, LabelSet
from mlff.distillation import Distillation
from mlff.distiller import Distiller
from mlff.training.losses import Weights
from runners.check import UserError, build
from runners.compose import Source, resolve
from runners.distill import check_weights, usable_weights
from runners.force_fields import read_force_field, write_force_field
from tests.command_line import Run, refused, runs_in
from tests.mlff.liquids import liquid, perturbed, save, write_trajectory
from tests.mlff.samples import model

SMALL = ("data.n_train=8", "data.test=[]", "data.valid_fraction=0.02", "distillation.epochs=1", "distillation.batch=2")


@pytest.fixture
def typed(tmp_path: Path) -> tuple[str, ...]:
    """Three members of one kin and frames of a liquid."""
    teacher = model().float()
    members = [save(perturbed(teacher, seed, 0.02), tmp_path / f"member-{seed}") for seed in range(3)]
    path = write_trajectory([liquid(k) for k in range(4)], tmp_path / "water.h5md")
    named = f"checkpoint=[{','.join(map(str, members))}]"
    return ("model=mlff", "runner=distill", named, "data=carbonates", *SMALL, f"runner.trajectories=[{path}]")


def test_three_models_become_one_that_loads(typed: tuple[str, ...], lsmrun: Run, home: Path) -> None:
    status, out, err = lsmrun(*typed, "runner.stable_ps=0.003")
    assert status == 0, err
    (run,) = runs_in(home)
    metrics = run.data.metrics
    names = ("forces/mae_meV_per_A", "best_member/forces_mae_meV_per_A", "committee/spread_kcal_mol_A")
    assert all(metrics[name] > 0 and name in out for name in names)
    assert metrics["student/stable_ps"] == metrics["best_member/stable_ps"] == 0.003
    assert metrics["student/from_mean_kcal_mol_A"] > 0
    assert "the student starts as " in out and "4 frames of water" in out
    assert mlff.load(next(home.glob("hydra/*/*/model/model.safetensors"))).dispersion is not None


def test_every_member_is_judged_by_frames_that_it_has_not_learned(
    lsmrun: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"train": "package:carbonates_train.xyz", "valid": [], "valid_fraction": 0.1, "test_fraction": 0.0}
    data |= {"_target_": "mlff.datasets.FrameFiles", "name": "mine", "split": "random", "dispersion": "included"}
    options = {k: v for k, v in data.items() if k != "_target_"}
    seeds = {"a": 5, "b": 6, "c": 5}
    for k, (name, seed) in enumerate(seeds.items()):
        labels = FrameFiles(**options).load(tmp_path, seed)
        write_force_field(tmp_path / name, perturbed(model().float(), k, 0.02), labels, {"data": data, "seed": 0})
    path = write_trajectory([liquid(k) for k in range(4)], tmp_path / "water.h5md")
    scored: list[list[str]] = []
    compare = scores.compare

    def watched(field: Any, frames: Any, *more: Any) -> Any:
        scored.append([f.name for f in frames])
        return compare(field, frames, *more)

    monkeypatch.setattr(scores, "compare", watched)
    named = f"checkpoint=[{','.join(str(tmp_path / name) for name in seeds)}]"
    quiet = ("runner.stable_ps=0", "runner.pictures=false", "distillation.epochs=1", "distillation.batch=64")
    status, _, err = lsmrun("model=mlff", "runner=distill", named, f"runner.trajectories=[{path}]", *quiet)
    assert status == 0, err
    valid = {s: [f.name for f in FrameFiles(**options).load(tmp_path, s).valid] for s in (5, 6)}
    assert scored[:3] == [valid[5], valid[6], valid[5]]
    (about,) = home.glob("hydra/*/*/model/model.yaml")
    saved = read_force_field(about.parent, "student")
    assert saved.config["data"] == data  # which nobody typed
    (run,) = runs_in(home)
    assert (run.data.params["data"], run.data.params["data.train"]) == ("mine", "package:carbonates_train.xyz")
    assert saved.labels["split_seed"] in (5, 6) and scored[3] == scored[4] == valid[saved.labels["split_seed"]]


def test_labels_that_the_set_lacks_teach_nothing_unless_they_were_asked_for(
    typed: tuple[str, ...], lsmrun: Run, home: Path
) -> None:
    bare = (*typed, "data.keys.charges=null", "data.keys.dipole=null", "runner.stable_ps=0", "runner.pictures=false")
    assert lsmrun(*bare)[0] == 0
    said = "distillation.clusters.dipole=2: carbonates has no label dipole (labels: energy, forces)"
    status, _, err = lsmrun(*bare, "distillation.clusters.dipole=2")
    assert status == 2 and said in err and err.count("\n") == 1
    assert len(runs_in(home)) == 1


def test_net_forces_are_taught_by_frames_that_name_their_molecules(tmp_path: Path) -> None:
    def loaded(*typed: str) -> LabelSet:
        config = resolve(Source().compose(["model=mlff", "data=electrolyte", "data.n_train=30", *typed]))
        return build(config["data"], "data").load(tmp_path, 0)

    asked = ["distillation.clusters.net_forces=1"]
    d = Distillation(clusters=Weights(forces=1.0, net_forces=1.0))
    apart = [mlff.load(mlff.default_model())]
    clusters = loaded()
    check_weights(d, clusters, apart, asked)
    assert usable_weights(d, clusters, apart) == d.clusters
    nameless = loaded("data.keys.fragments=null", "data.keys.fragment_charges=null")
    with pytest.raises(UserError, match=r"net_forces=1: no frame of electrolyte names several molecules"):
        check_weights(d, nameless, apart, asked)
    whole = [apart[0].changed(charge_groups="system")]
    with pytest.raises(UserError, match=r"charge_groups=system does not tell molecules apart"):
        check_weights(d, clusters, whole, asked)
    assert usable_weights(d, clusters, whole) == Weights(forces=1.0)


def test_a_killed_distillation_goes_on_where_it_was(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = (*typed, "runner.stable_ps=0", "runner.pictures=false", "distillation=bamboo2024", "distillation.epochs=2")
    quiet = (*quiet, "distillation.learning_rate=1e-3", "distillation.batch=2")
    steps: list[int] = []
    step = Distiller._step

    def interrupted(self: Distiller, *pair: Any) -> float:
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(self.epoch)
        return step(self, *pair)

    def counted(self: Distiller, *pair: Any) -> float:
        steps.append(self.epoch)
        return step(self, *pair)

    monkeypatch.setattr("runners.checkpoint.Throttle.ready", lambda self: True)
    monkeypatch.setattr(Distiller, "_step", interrupted)
    assert lsmrun(*quiet)[0] == 130
    monkeypatch.setattr(Distiller, "_step", counted)
    status, out, err = lsmrun(*quiet)
    assert status == 0, err
    (run,) = runs_in(home)
    assert f"going on with the MLflow run {run.info.run_id}" in out
    assert steps == [0, 0, 1, 1]  # the two frames that are not for validation, twice; none again
    assert not list(home.glob("cache/distillation-*/state.npz"))


def test_a_killed_distillation_starts_anew_where_the_code_has_changed(
    typed: tuple[str, ...], lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = (*typed, "runner.stable_ps=0", "runner.pictures=false")
    monkeypatch.setattr("runners.checkpoint.Throttle.ready", lambda self: True)
    finish = Distiller._finish_epoch
    steps: list[int] = []

    def interrupted(self: Distiller, trained: float) -> Any:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return finish(self, trained)

    def counted(self: Distiller, trained: float) -> Any:
        steps.append(self.epoch)
        return finish(self, trained)

    monkeypatch.setattr(Distiller, "_finish_epoch", interrupted)
    assert lsmrun(*quiet)[0] == 130
    monkeypatch.setattr("runners.distill.code_digest", lambda *names: "other code")
    monkeypatch.setattr(Distiller, "_finish_epoch", counted)
    assert lsmrun(*quiet)[0] == 0
    assert steps == [0, 1]  # scored before its first step: nothing of the old state was taken


def test_wrong_input_is_refused_in_one_line(typed: tuple[str, ...], lsmrun: Run, home: Path) -> None:
    named = typed[2].removeprefix("checkpoint=[").removesuffix("]").split(",")
    two = [t for t in typed if not t.startswith("checkpoint")]
    assert "needs at least 3 models: checkpoint=[a,b,c]" in refused(lsmrun(*two, f"checkpoint=[{named[0]},{named[1]}]"))
    assert "have the same weights" in refused(lsmrun(*two, f"checkpoint=[{named[0]},{named[1]},{named[0]}]"))
    without = [t for t in typed if not t.startswith("runner.trajectories")]
    assert "runner.trajectories: has no value" in refused(lsmrun(*without))
    assert "no such trajectory" in refused(lsmrun(*without, "runner.trajectories=[nothing.h5md]"))
    assert "no frame after 50 ps" in refused(lsmrun(*typed, "runner.skip_ps=50"))
    assert "cannot be mixed" in lsmrun(*typed, "data.dispersion=none")[2]
    assert "distillation.learns=none: must be one of all, read_out" in refused(
        lsmrun(*typed, "distillation.learns=none")
    )
    assert runs_in(home) == []
