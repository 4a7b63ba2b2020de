"""The whole loop at toy sizes: every stage runs, a killed loop goes on, a finished one is only read."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import mlff
from runners.compose import Source
from runners.loop import Loop
from runners.options import CONF, describe_file
from runners.plan import make_plan
from runners.stages import as_value, differing
from runners.systems import load_system, target_of
from tests.command_line import Run, client_of, refused, runs_in

TINY = ("experiment=mlff/loop_tiny", "runner.pictures=false", "threads=1")
LABELLED = "ec30_emc70_lipf6_0p92m"


@pytest.mark.timeout(1800)  # many small stages: a busy machine makes it long
def test_the_tiny_loop_runs_from_molecules_to_an_aligned_model(
    lsmrun: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tblite", reason="tblite makes the labels: pip install 'lsmrun[qm]'")
    from runners.align import Align

    run = Align.run

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Align, "run", interrupted)
    status, out, err = lsmrun(*TINY)
    assert status == 130, err
    assert "one epoch of" in out and "predicted: training" in out and "in all" in out
    monkeypatch.setattr(Align, "run", run)
    status, out, err = lsmrun(*TINY)
    assert status == 0, err
    # what had ended is read, what was killed is done
    assert out.count("done before, in") == 11 and "== align: lsmrun model=mlff runner=align" in out
    names = ("loop/labels", "student/forces_mae_meV_per_A", "density/mae_before_g_cm3", "watched/dec_after_g_cm3")
    assert all(name in out for name in names)
    (folder,) = home.glob("loop/*")
    assert mlff.load(folder / "align" / "model" / "model.safetensors").trained[[1, 3, 6, 8, 9, 15]].all()
    with (folder / "densities.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert {name: row["aligned"] for name, row in rows.items()} == {"dmc": "true", "dec": "false"}
    assert all(row["source"] for row in rows.values())
    curve = (folder / "learning_curve.csv").read_text(encoding="utf-8").splitlines()
    assert len(curve) == 1 + 2 * 3
    children = [r for r in runs_in(home) if "mlflow.parentRunId" in r.data.tags]
    parents = {r.data.tags["mlflow.parentRunId"] for r in children}
    parent = client_of(home).get_run(*parents)
    assert client_of(home).get_experiment(parent.info.experiment_id).name == "loop"  # it reads no data set
    assert len(parents) == 1 and len({r.data.tags["mlflow.runName"] for r in children}) == 12
    assert len((folder / "cost.csv").read_text(encoding="utf-8").splitlines()) == 1 + 12
    done = json.loads((folder / "distill" / "done.json").read_text(encoding="utf-8"))
    assert done["command"].startswith("lsmrun model=mlff runner=distill data=labelled")
    explored = [json.loads((folder / f"md-{k}-{LABELLED}" / "done.json").read_text(encoding="utf-8")) for k in (1, 2)]
    assert ["md.ensemble=csvr" in e["command"] for e in explored] == [True, False]  # the last one is for distillation
    assert "md/drift_kcal_mol_ns_atom" in explored[0]["results"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("runner.aligned=[]", "runner.aligned: has no value"),
        ("runner.watched=[dmcc]", "runner.watched: dmcc: no such system; did you mean dmc?"),
        ("runner.aligned=[novec7000]", "novec7000"),
        ("runner.labelled=[dmc] runner.aligned=[ec30_emc70_lipf6_0p92m]", "has elements that no labelled liquid has"),
        ("runner.members=2", "runner.members=2: must be a whole number >= 3"),
        ("alignment.whole=7", "alignment.whole=7: must be true or false"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(lsmrun: Run, home: Path, typed: str, said: str) -> None:
    assert said in refused(lsmrun(*TINY, *typed.split()))
    assert runs_in(home) == [] and not list(home.glob("loop/*"))


@pytest.mark.parametrize("name", ["loop_record", "loop_full", "loop_tiny"])
def test_an_experiment_holds_some_liquid_out_and_has_targets_with_a_source(name: str) -> None:
    cfg = Source().compose([f"experiment=mlff/{name}"])
    plan = make_plan(cfg, cfg.hydra)
    loop = plan.runner
    assert plan.choices["runner"] == "loop" and describe_file(CONF / f"experiment/mlff/{name}.yaml").endswith(".")
    assert loop.watched and not set(loop.watched) & {*loop.labelled, *loop.aligned}
    for key in (*loop.aligned, *loop.watched):
        target = target_of(load_system(key, "runner", loop.size(key)), "runner")
        assert target.source and 0.5 < target.density_g_cm3 < 2.0 and 250 < target.temperature_K < 350
    if name != "loop_tiny":
        assert loop.rounds >= 2 and loop.final_ps >= 100
    settings = OmegaConf.load(CONF / "runner" / "loop.yaml").runner
    assert set(settings) - {"_target_"} == {f.name for f in dataclasses.fields(Loop)}


def test_the_loop_that_tests_run_differs_in_sizes_alone() -> None:
    tiny, record = (OmegaConf.load(CONF / f"experiment/mlff/loop_{name}.yaml") for name in ("tiny", "record"))
    assert tiny.training.weights == record.training.weights
    assert tiny.distillation.clusters == record.distillation.clusters
    for key in ("explore_at", "certain_eV_A"):
        assert tiny.runner[key] == record.runner[key]


def test_only_what_differs_is_typed_again() -> None:
    training = {
        "epochs": 7,
        "batch": 8,
        "weights": {"_target_": "mlff.training.losses.Weights", "energy": 2.5, "forces": None},
    }
    found = differing("training", ["model=mlff", "training=modern"], {"training": training})
    assert found == ["training.epochs=7", "training.weights.energy=2.5"]
    assert as_value(["a b", None, 1.5, True]) == "['a b',null,1.5,true]" and as_value("it's") == r"'it\'s'"
