"""Sweeps: parallel workers, queues, kills and restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runners.cli import PROGRAM
from runners.compose import EXTRAS, Source, check_is_installed
from runners.context import job_hash
from runners.paths import usable_cores
from runners.sweeps.launch import Launcher
from runners.sweeps.sweep import Grid, plan_sweep
from tests.command_line import launched, refused, runs_in

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def start(toy_conf: Path, *arguments: str) -> subprocess.Popen[str]:
    """A sweep in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, "--config-dir", str(toy_conf), "model=toy", "-m", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def statuses(home: Path) -> list[str]:
    return [run.info.status for run in runs_in(home)]


def test_the_jobs_that_run_are_those_that_were_checked_with_all_that_their_choices_imply() -> None:
    source = Source()
    sweep, common = plan_sweep(source, ["model=rram_lsm", "data=nmnist_sim,fsdd"])
    assert isinstance(sweep.way, Grid)
    plans = launched(source, common, sweep.way.jobs)
    assert [plan.choices["readout"] for plan in plans] == ["linear_probe", "linear_probe_ntidigits"]
    assert tuple(job_hash(plan.config) for plan in plans) == sweep.way.hashes


@pytest.mark.parametrize(
    ("typed", "told", "not_told"),
    [
        (["seed=0,1"], {"lsmrun.model": "nalsm", "lsmrun.data": "digits"}, set()),
        (["data=mnist,digits", "model=nalsm"], {"lsmrun.model": "nalsm"}, {"lsmrun.data", "lsmrun.readout"}),
        (["model=nalsm,lsm", "data=digits"], {"lsmrun.data": "digits"}, {"lsmrun.model"}),
        (["runner=evaluate", "checkpoint=a,b"], {"lsmrun.runner": "evaluate"}, {"lsmrun.model", "lsmrun.data"}),
    ],
)
def test_the_parent_is_tagged_with_what_holds_for_every_job(
    typed: list[str], told: dict[str, str], not_told: set[str]
) -> None:
    sweep, _ = plan_sweep(Source(), typed)
    tags = sweep.first.tags_of_all(sweep.varied)
    assert told.items() <= tags.items() and not not_told & set(tags)


def test_a_sweep_started_again_skips_what_is_finished_and_goes_on_in_the_same_parent(toy, home: Path) -> None:
    status, _, _ = toy("-m", "model.gain=2,1", "seed=0,1", "runner.stop=interrupt", "runner.epochs=1")
    assert status == 0
    arguments = ("-m", "model.gain=0.5,2,1", "runner.stop=error")
    status, _, _ = toy(*arguments)
    before = runs_in(home)
    assert status == 1 and [r.info.status for r in before[5:]] == ["FAILED", "FINISHED", "FAILED", "FINISHED"]
    status, out, _ = toy(*arguments)
    assert status == 1
    assert f"going on with the MLflow run {before[5].info.run_id}" in out
    assert "skipping 2 of 3 jobs" in out and "sweep of 3 jobs: 1 ran now, 2 were finished before; to look" in out
    assert "[job 1] gain=2" in out and "[job 0]" not in out and "[job 2]" not in out
    (again,) = runs_in(home)[9:]
    assert again.data.tags["mlflow.parentRunId"] == before[5].info.run_id
    status, out, _ = toy(*arguments, "resume=false")
    assert "skipping" not in out and len(runs_in(home)) == 14


def test_a_killed_job_is_gone_on_with_in_its_own_run(home: Path, toy_conf: Path) -> None:
    arguments = ("seed=0,1,2", "runner.stop=sleep")
    process = start(toy_conf, *arguments)
    wait_for(lambda: len(runs_in(home)) == 3 and runs_in(home)[1].info.status == "FINISHED")
    process.kill()
    process.communicate()
    parent, finished, killed = runs_in(home)
    patience = time.monotonic()
    again = start(toy_conf, *arguments)
    wait_for(lambda: len(list(home.glob("hydra/*/*/1/state.txt"))) == 2)
    again.send_signal(signal.SIGTERM)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 143, err
    assert time.monotonic() - patience < 60
    assert "skipping 1 of 3 jobs" in out and "[job 0]" not in out
    assert f"going on with the MLflow run {parent.info.run_id}" in out
    assert {r.info.run_id for r in runs_in(home)} == {parent.info.run_id, finished.info.run_id, killed.info.run_id}
    assert statuses(home) == ["KILLED", "FINISHED", "KILLED"]


def test_parallel_workers_share_the_cores_and_tell_errors_at_once(home: Path, toy_conf: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = start(toy_conf, *JOBLIB, "seed=0,1", "model.gain=1,2", "runner.stop=error")
    assert process.stderr is not None
    first = process.stderr.readline()
    assert process.poll() is None  # it is told while the sweep goes on
    assert first.startswith("lsmrun: error: job ") and "gain=2): RuntimeError: the toy broke (log: " in first
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    *of_jobs, last = out.rstrip().splitlines()
    assert last.startswith("sweep of 4 runs; ") and sum("INIT: done" in line for line in of_jobs) == 2
    assert all(line.startswith(tuple(f"[job {k}] " for k in range(4))) for line in of_jobs), out
    assert err.rstrip().splitlines()[-1].startswith("lsmrun: error: 2 of 4 jobs failed")
    parent, *children = runs_in(home)
    assert parent.info.status == "FAILED"
    assert sorted(c.info.status for c in children) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    assert parent.data.tags["lsmrun.pid"] not in {c.data.tags["lsmrun.pid"] for c in children}
    assert {c.data.tags["lsmrun.threads"] for c in children} == {str(max(1, usable_cores() // 2))}


def test_a_worker_that_dies_takes_no_other_job_with_it(home: Path, toy_conf: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = start(toy_conf, *JOBLIB, "runner.stop=kill,never", "seed=0,1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.count("its process died") == 2
    _, *children = runs_in(home)
    ends = {c.info.run_name: c.info.status for c in children}
    assert ends == {
        "stop=kill seed=0": "KILLED",
        "stop=kill seed=1": "KILLED",
        "stop=never seed=0": "FINISHED",
        "stop=never seed=1": "FINISHED",
    }


@pytest.mark.parametrize("launcher", [JOBLIB, ("hydra/launcher=submitit_local",)], ids=["joblib", "submitit_local"])
def test_the_end_of_a_parallel_sweep_ends_its_workers(home: Path, toy_conf: Path, launcher: tuple[str, ...]) -> None:
    pytest.importorskip(EXTRAS[launcher[0]])
    process = start(toy_conf, *launcher, "seed=1,2", "runner.stop=sleep")
    wait_for(lambda: statuses(home) == ["RUNNING"] * 3)
    workers = [int(run.data.tags["lsmrun.pid"]) for run in runs_in(home)[1:]]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert statuses(home) == ["KILLED"] * 3
    for pid in workers:
        wait_for(lambda pid=pid: not _alive(pid), 20)


def test_workers_end_with_a_sweep_that_is_killed_outright(home: Path, toy_conf: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = start(toy_conf, *JOBLIB, "seed=1,2", "runner.stop=sleep")
    wait_for(lambda: statuses(home) == ["RUNNING"] * 3)
    workers = [int(run.data.tags["lsmrun.pid"]) for run in runs_in(home)[1:]]
    process.kill()
    process.wait()
    wait_for(lambda: statuses(home)[1:] == ["KILLED"] * 2, 30)
    wait_for(lambda: not any(map(_alive, workers)), 30)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_submitted_jobs_tell_their_errors_through_the_sweep(toy, home: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    status, _, err = toy("-m", "hydra/launcher=submitit_local", "model.gain=1,2", "runner.stop=error")
    assert status == 1
    assert err.splitlines()[0].startswith("lsmrun: error: job 1 (gain=2): RuntimeError: the toy broke (log: ")
    _, *children = runs_in(home)
    assert sorted(c.info.status for c in children) == ["FAILED", "FINISHED"]
    assert {c.data.tags["lsmrun.threads"] for c in children} == {str(max(1, usable_cores() // 2))}


@pytest.mark.parametrize(
    ("launcher", "threads", "n_jobs", "each"),
    [
        ({"_target_": "x.BasicLauncher"}, None, 9, None),
        ({"_target_": "x.JoblibLauncher", "n_jobs": usable_cores()}, None, 9, 1),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 64}, None, 1, usable_cores()),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 2}, 3, 9, 3),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": 8, "array_parallelism": 256}, None, 9, 8),
        ({"_target_": "x.SlurmLauncher", "cpus_per_task": None, "array_parallelism": 256}, None, 9, None),
    ],
)
def test_threads_of_a_job(launcher: dict, threads: int | None, n_jobs: int, each: int | None) -> None:
    config = OmegaConf.create({"hydra": {"launcher": launcher}, "threads": threads})
    assert Launcher(None, config, Path()).threads(n_jobs) == each


def test_a_plugin_that_is_not_installed_is_told_with_its_extra(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.compose.importlib.util.find_spec", lambda name: None)
    assert "hydra/sweeper=optuna: not installed; pip install 'lsmrun[sweeps]'" in refused(
        toy("-m", "seed=1,2", "hydra/sweeper=optuna")
    )
    with pytest.raises(ValueError, match=r"hydra/launcher=joblib: not installed; pip install 'lsmrun\[sweeps\]'"):
        check_is_installed("hydra/launcher=joblib")


def test_a_wrong_launcher_or_key_of_it_is_refused(toy) -> None:
    assert "hydra/launcher=joblip: no such option; did you mean joblib?" in refused(
        toy("-m", "seed=0,1", "hydra/launcher=joblip")
    )
    assert "did you mean hydra.launcher.n_jobs?" in refused(
        toy("-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jbs=2")
    )
