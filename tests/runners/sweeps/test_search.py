"""Searches: the space, trials that fail, are pruned or killed, and what the parent run is left with."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra `sweeps` is not installed: pip install 'lsmrun[sweeps]'")

import optuna

from runners.check import UserError
from runners.cli import PROGRAM
from runners.compose import Source, parse
from runners.context import job_hash
from runners.plan import make_plan
from runners.store import open_store
from runners.sweeps.search import Search, SearchSettings
from runners.sweeps.space import corners, read_space
from runners.sweeps.sweep import plan_sweep
from tests.command_line import launched, refused, runs_in

SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.watched=valid/accuracy")
SPACE = ("model.gain=tag(log,interval(0.1,2))", "data.n=choice(3,4)")


def artifact(home: Path, run_id: str, name: str) -> Path:
    return Path(open_store(home).client().download_artifacts(run_id, name))


def trials(home: Path, run_id: str) -> list[dict[str, str]]:
    with artifact(home, run_id, "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def space_of(*typed: str) -> dict:
    return read_space({text.partition("=")[0]: parse(text, {}) for text in typed})


def test_a_search_leaves_best_values_trials_and_pictures_in_the_parent(toy, home: Path) -> None:
    status, out, err = toy(*SEARCH, *SPACE, "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none")
    assert (status, err) == (0, "")
    parent, *children = runs_in(home)
    assert parent.info.status == "FINISHED" and parent.info.run_name == "search gain x n"
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    table = trials(home, parent.info.run_id)
    assert [row["state"] for row in table] == ["complete"] * 4
    for row, child in zip(table, children, strict=True):
        assert float(child.data.params["model.gain"]) == float(row["model.gain"])
        assert child.data.params["data.n"] == row["data.n"]
        assert child.info.run_name == f"gain={float(row['model.gain']):.6g} n={row['data.n']}"
        assert float(row["value"]) == child.data.metrics["valid/accuracy"] == 0.2 * float(row["model.gain"])
        assert 0.1 <= float(row["model.gain"]) <= 2
    best = max(table, key=lambda row: float(row["value"]))
    assert parent.data.tags["lsmrun.best"] == f"model.gain={best['model.gain']} data.n={best['data.n']}"
    assert float(parent.data.tags["lsmrun.best.value"]) == float(best["value"])
    assert f"command: lsmrun model=toy {parent.data.tags['lsmrun.best']}" in artifact(
        home, parent.info.run_id, "best.yaml"
    ).read_text().replace("\n  ", " ")
    for name in ("history", "importance"):
        assert artifact(home, parent.info.run_id, f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"(best {float(best['value']):.6g}, trial {best['trial']})" in out


def test_a_trial_is_told_all_that_its_choices_imply() -> None:
    source = Source()
    sweep, common = plan_sweep(source, ["hydra/sweeper=optuna", "model=rram_lsm", "data=choice(ntidigits)", "seed=1,2"])
    search = sweep.way
    assert isinstance(search, Search)
    search._study = optuna.create_study()
    trial = search._ask()
    (plan,) = launched(source, common, [search._job(trial, []).overrides])
    checked = source.compose(["model=rram_lsm", "data=ntidigits", f"seed={trial.params['seed']}"])
    assert plan.choices["readout"] == "linear_probe_ntidigits"
    assert job_hash(plan.config) == job_hash(make_plan(checked, checked.hydra).config)


def test_a_study_goes_on_where_it_was_and_a_fresh_one_finds_the_same(toy, home: Path) -> None:
    search = (*SEARCH, *SPACE, "hydra.sweeper.startup_trials=2", "hydra.sweeper.pruner=none")
    assert toy(*search, "hydra.sweeper.n_trials=2")[0] == 0
    status, out, _ = toy(*search, "hydra.sweeper.n_trials=4")
    assert status == 0 and "2 of 4 trials are there" in out
    (parent,) = [r for r in runs_in(home) if "lsmrun.varied" in r.data.tags]
    assert len(runs_in(home)) == 5
    status, _, _ = toy(*search, "hydra.sweeper.n_trials=4")
    assert status == 0 and len(runs_in(home)) == 5
    status, out, _ = toy(*search, "hydra.sweeper.n_trials=4", "resume=false")
    assert status == 0 and "0 of 4 trials are there" in out
    fresh = [r for r in runs_in(home) if "lsmrun.varied" in r.data.tags][1]
    values = [[row["value"] for row in trials(home, run.info.run_id)] for run in (parent, fresh)]
    assert values[0] == values[1] and len(set(values[0])) == 4


def test_a_bad_trial_is_pruned_and_is_no_failure(toy, home: Path) -> None:
    settings = ("hydra.sweeper.n_trials=6", "hydra.sweeper.startup_trials=1", "hydra.sweeper.warmup_steps=1")
    status, _, err = toy(*SEARCH, "model.gain=range(1,10)", *settings, "runner.epochs=5")
    assert (status, err) == (0, "")
    parent, *children = runs_in(home)
    states = [row["state"] for row in trials(home, parent.info.run_id)]
    assert states.count("pruned") >= 1 and states[0] == "complete"
    for state, child in zip(states, children, strict=True):
        assert child.info.status == "FINISHED"
        assert ("lsmrun.pruned" in child.data.tags) == (state == "pruned")
        assert ("test/accuracy" in child.data.metrics) == (state != "pruned")
    pruned = children[states.index("pruned")]
    assert len(open_store(home).client().get_metric_history(pruned.info.run_id, "valid/accuracy")) < 5


def test_a_failing_trial_is_recorded_and_the_search_goes_on(toy, home: Path) -> None:
    status, _, err = toy(*SEARCH, "model.gain=0.5,2", "runner.stop=error", "hydra.sweeper.n_trials=5")
    assert status == 1
    parent, *children = runs_in(home)
    states = {row["model.gain"]: row["state"] for row in trials(home, parent.info.run_id)}
    assert states == {"0.5": "complete", "2": "fail"} and len(children) == 5
    assert "RuntimeError: the toy broke" in err and "of 5 jobs failed" in err


def test_a_metric_that_no_run_has_ends_the_search_after_one_trial(toy, home: Path) -> None:
    status, _, err = toy(*SEARCH, "seed=1,2", "hydra.sweeper.n_trials=3", "hydra.sweeper.metric=valid/acuracy")
    assert status == 2
    said = "hydra.sweeper.metric=valid/acuracy: the run recorded no such metric; did you mean valid/accuracy?"
    of_job, of_search = err.splitlines()
    assert said in of_job and of_search.startswith(f"lsmrun: error: {said}") and "the search ends here" in of_search
    assert [r.info.status for r in runs_in(home)] == ["FAILED", "FINISHED"]  # the search and its one trial


def test_a_killed_search_runs_the_interrupted_trial_again_in_the_same_runs(toy, toy_conf: Path, home: Path) -> None:
    arguments = [*SEARCH, "model.gain=interval(0.1,2)", "runner.stop=sleep", "seed=1", "hydra.sweeper.n_trials=1"]
    command = [sys.executable, "-c", PROGRAM, "--config-dir", str(toy_conf), "model=toy", *arguments]
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while not (len(runs_in(home)) >= 2 and runs_in(home)[-1].info.status == "RUNNING"):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.2)
        if "this search is running already" not in refusal_of(toy, arguments):
            pytest.fail("a search that is running was begun again")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
        assert process.communicate()
    parent, child = runs_in(home)
    assert (parent.info.status, child.info.status) == ("KILLED", "KILLED")
    first, second = trials(home, parent.info.run_id)
    assert (first["state"], second["state"]) == ("interrupted", "running")
    assert first["model.gain"] == second["model.gain"] == child.data.params["model.gain"]


def refusal_of(toy, arguments: list[str]) -> str:
    status, _, err = toy(*arguments)
    assert status == 2
    return err


@pytest.mark.parametrize(
    "metric",
    ["test/accuracy", "published/test_accuracy", "epoch/test/accuracy", "epoch/published/audio_to_image",
     "baseline/raw_counts_accuracy", "fold/liquid_accuracy", "transfer/liquid/real_to_real",
     "network/audio_to_image/seen", "forces/mae_meV_per_A", "accuracy"],
)  # fmt: skip
def test_a_search_sees_no_metric_that_may_come_from_test_data(metric: str) -> None:
    for name in ("metric", "watched"):
        with pytest.raises(ValueError, match=f"{name}={metric}: a search must not see test data; take valid/..."):
            SearchSettings(**{name: metric})


@pytest.mark.parametrize("metric", ["valid/forces_mae_meV_per_A", "epoch/valid/accuracy", "liquid/branching_factor"])
def test_a_search_by_what_no_test_label_has_a_part_in_is_allowed(metric: str) -> None:
    assert SearchSettings(metric=metric, watched=metric).metric == metric


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["hydra.sweeper.metric=test/accuracy"], "metric=test/accuracy: a search must not see test data"),
        (["hydra.sweeper.watched=test/accuracy"], "watched=test/accuracy: a search must not see test data"),
        (["hydra.sweeper.n_trails=3"], "did you mean hydra.sweeper.n_trials?"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be a whole number >= 1"),
        (["hydra.sweeper.sampler=tbe"], "must be one of tpe, random; did you mean tpe?"),
        (["hydra.sweeper.n_jobs=3"], "hydra.sweeper.n_jobs=3: needs hydra/launcher=joblib"),
        (["data.n=int(interval(0,3))"], "data: n=0: must be 1 or more"),
        (["model.gain=tag(log,interval(0,1))"], "model.gain=tag(log,interval(0,1)): is no range to search in"),
        (["model.gian=interval(0,1)"], "model.gian="),
    ],
)
def test_a_search_that_cannot_be_does_not_begin(toy, home: Path, typed: list[str], said: str) -> None:
    assert said in refused(toy(*SEARCH, "seed=1,2", *typed))
    assert runs_in(home) == [] and not (home / "optuna.db").exists()


def test_an_interval_without_a_search_is_told(toy) -> None:
    assert "an interval of model.gain needs a search; add hydra/sweeper=optuna" in refused(
        toy("-m", "model.gain=interval(0,1)")
    )


def test_the_space_is_read_from_the_words_of_a_sweep() -> None:
    space = space_of("a=int(interval(1,5))", "b=tag(log,interval(0.01,1))", "c=range(1,10,4)", "d=choice(x,'y z',3)")
    a, b, c, d = (dimension.distribution for dimension in space.values())
    assert (a.low, a.high, a.log, type(a).__name__) == (1, 5, False, "IntDistribution")
    assert (b.low, b.high, b.log, type(b).__name__) == (0.01, 1.0, True, "FloatDistribution")
    assert (c.low, c.high, c.step) == (1, 9, 4)  # as in a sweep, the end of a range is not in it
    assert d.choices == ("x", "y z", 3)
    assert [space["d"].override(choice) for choice in d.choices] == ["d=x", r"d=y\ z", "d=3"]
    assert space["b"].override(0.1) == "b=0.1"
    tried = corners(space)
    assert tried[0] == ["a=1", "b=0.01", "c=1", "d=x"] and len(tried) == 6
    assert {word for point in tried for word in point} >= {"a=5", "b=1.0", "c=9", r"d=y\ z"}
    with pytest.raises(UserError, match=r"a=range\(3,3\): is no range to search in"):
        space_of("a=range(3,3)")
