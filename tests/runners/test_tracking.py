"""The MLflow store and the runs in it, through kills, restarts and rivals."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from runners.check import UserError
from runners.cli import PROGRAM
from runners.compose import Source
from runners.context import job_hash
from runners.plan import make_plan
from runners.provenance import process_is_gone, provenance
from runners.run_names import RunLabel, flatten, run_name
from runners.store import open_store
from runners.tracking import Tracker
from tests.command_line import refused


def label(job: str = "a" * 16, **more) -> RunLabel:
    return RunLabel(experiment="classify/toy", name="toy", job=job, **more)


def started(home: Path, resume: bool = True, **more) -> Tracker:
    tracker = Tracker(open_store(home))
    tracker.start(label(**more), resume=resume)
    return tracker


def runs_of(tracker: Tracker) -> list:
    client = tracker.store.client()
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def history(tracker: Tracker, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in tracker.store.client().get_metric_history(tracker.run_id, key)]


def test_a_run_tells_what_it_was_and_where_it_came_from(toy, home: Path) -> None:
    status, _, err = toy(
        "model.gain=2", "seed=7", "tracking.tags={team: red}", "tracking.tags.lab=3", "tracking.name=mine"
    )
    assert status == 0, err
    client = open_store(home).client()
    run = client.search_runs([client.get_experiment_by_name("toy/toy").experiment_id])[0]
    assert run.info.run_name == "mine"
    assert {
        "model.gain": "2",
        "seed": "7",
        "data.n": "4",
        "model": "toy",
        "data": "toy",
        "checkpoint": "null",
    }.items() <= run.data.params.items()
    assert not any(key.startswith(("tracking", "paths")) for key in run.data.params)
    tags = run.data.tags
    assert (tags["team"], tags["lab"]) == ("red", "3") and tags["lsmrun.model"] == "toy"
    wanted = ("cpu", "threads", "command", "pid", "pid_started", "host", "python", "packages")
    assert [name for name in wanted if not tags.get(f"lsmrun.{name}")] == []
    assert "numba" in tags["lsmrun.packages"]
    assert run.data.metrics["test/accuracy"] == 1.0
    assert run.data.metrics["time/INIT_s"] >= 0
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("toy", "0123abcd")
    assert [t.value for t in dataset.tags] == ["training"]
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "environment.yaml"} <= files
    assert "gain: 2" in Path(client.download_artifacts(run.info.run_id, "config.yaml")).read_text()


def test_jobs_that_record_the_same_data_at_once_both_succeed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = started(home), started(home, job="b" * 16)
    log_inputs, said = MlflowClient.log_inputs, ["UNIQUE constraint failed: datasets.name"]

    def overtaken(client: MlflowClient, run_id: str, *more: object, **named: object) -> None:
        if said:  # the other job was there between the question and the answer
            log_inputs(client, first.run_id, *more, **named)
            raise MlflowException(said.pop())
        log_inputs(client, run_id, *more, **named)

    monkeypatch.setattr(MlflowClient, "log_inputs", overtaken)
    second.input("digits", "0123abcd", "here")
    assert [r.inputs.dataset_inputs[0].dataset.digest for r in runs_of(first)] == ["0123abcd"] * 2
    said.append("disk I/O error")
    with pytest.raises(MlflowException, match="disk"):
        second.input("digits", "4567", "here")


def test_the_commit_of_the_checkout_is_a_tag_and_tells_changes() -> None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        pytest.skip("the tests do not run in a git checkout")
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    tags = provenance(1)
    assert tags["lsmrun.git.commit"] == head.strip()
    assert tags["lsmrun.git.dirty"] in ("true", "false")


def test_artifacts_lie_under_the_home_at_an_absolute_place(home: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    assert matplotlib.get_backend()
    tracker = started(home)
    tracker.figure(Figure(), "pictures/raster.png")
    tracker.text("note", "note.txt")
    (home / "folder").mkdir()
    (home / "folder" / "a.npz").write_bytes(b"1")
    tracker.artifact(home / "folder", "counts")
    tracker.end()
    names = {p.name for p in (home / "artifacts" / "classify" / "toy").rglob("*") if p.is_file()}
    assert names == {"raster.png", "note.txt", "a.npz"}
    assert tracker.download(tracker.run_id or "", "note.txt").read_text() == "note"
    with pytest.raises(UserError, match=r"no nothing\.txt in this MLflow run"):
        tracker.download(tracker.run_id or "", "nothing.txt")
    with pytest.raises(UserError, match="no x in this MLflow run"):
        tracker.download("0" * 32, "x")


def test_metrics_are_written_in_few_calls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    tracker = started(home)
    sizes: list[int] = []
    real = MlflowClient.log_batch

    def counted(self, run_id, metrics=(), **more):
        sizes.append(len(metrics))
        return real(self, run_id, metrics=metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    for step in range(2500):
        tracker.metrics({"loss": step / 7}, step=step)
    tracker.end()
    assert sum(sizes) == 2500 and len(sizes) <= 8 and max(sizes) <= 1000
    assert history(tracker, "loss") == [(step, step / 7) for step in range(2500)]


def test_what_is_recorded_before_the_start_is_kept(home: Path) -> None:
    tracker = Tracker(open_store(home))
    tracker.metrics({"early": 1.0})
    tracker.tags({"early": "yes"})
    with pytest.raises(RuntimeError, match="not started yet"):
        tracker.text("x", "x.txt")
    tracker.start(label())
    tracker.end()
    run = runs_of(tracker)[0]
    assert (run.data.metrics["early"], run.data.tags["early"]) == (1.0, "yes")


def sweep_over(home: Path, job: str) -> Tracker:
    tracker = Tracker(open_store(home))
    tracker.start(label(job=job, tags={"lsmrun.varied": "seed"}))
    return tracker


def test_a_killed_job_belongs_to_the_sweep_that_goes_on_with_it(home: Path) -> None:
    smaller, larger = sweep_over(home, "1" * 16), sweep_over(home, "2" * 16)
    killed = started(home, parent=smaller.run_id)
    killed.end("KILLED")
    alone = started(home)  # outside any sweep it stays where it was
    assert smaller.run_id == smaller.store.client().get_run(killed.run_id).data.tags["mlflow.parentRunId"]
    alone.end("KILLED")
    resumed = started(home, parent=larger.run_id)
    resumed.end()
    assert killed.run_id == alone.run_id == resumed.run_id
    assert (larger.finished_jobs(), smaller.finished_jobs()) == ({"a" * 16}, set())


def test_a_sweep_over_data_sets_knows_its_jobs_in_every_experiment(home: Path) -> None:
    sweep = sweep_over(home, "1" * 16)
    for job, data in (("a" * 16, "toy"), ("b" * 16, "other")):
        tracker = Tracker(open_store(home))
        tracker.start(RunLabel(experiment=f"classify/{data}", name=data, job=job, parent=sweep.run_id))
        tracker.end()
    assert sweep.finished_jobs() == {"a" * 16, "b" * 16}


def test_a_killed_run_goes_on_in_the_same_run_without_writing_twice(home: Path) -> None:
    first = started(home)
    first.params({"seed": 1})
    first.metrics({"loss": 0.5}, step=0)
    first.metrics({"loss": 0.4, "time/INIT_s": 9.0}, step=1)
    first.end("KILLED", KeyboardInterrupt())
    second = started(home)
    assert second.resumed and second.run_id == first.run_id
    second.params({"seed": 1, "more": 2})
    for step, loss in enumerate((0.9, 0.9, 0.3)):
        second.metrics({"loss": loss}, step=step)
    second.end()
    assert history(second, "loss") == [(0, 0.5), (1, 0.4), (2, 0.3)]
    (run,) = runs_of(second)
    assert run.info.status == "FINISHED" and "lsmrun.error" not in run.data.tags
    assert run.data.params == {"seed": "1", "more": "2"}


@pytest.mark.parametrize(
    ("status", "resume", "job"), [("FINISHED", True, "a"), ("KILLED", False, "a"), ("KILLED", True, "b")]
)
def test_a_new_run_begins_after_an_end_on_request_or_for_other_work(
    home: Path, status: str, resume: bool, job: str
) -> None:
    first = started(home, job="a")
    first.end(status)
    second = started(home, resume=resume, job=job)
    assert not second.resumed and second.run_id != first.run_id
    second.end()


def test_kill_9_leaves_a_run_that_the_next_start_marks_and_goes_on_with(toy, toy_conf: Path, home: Path) -> None:
    arguments = ["--config-dir", str(toy_conf), "model=toy", "runner.stop=kill"]
    killed = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tracker = Tracker(open_store(home))
    (run,) = runs_of(tracker)
    assert run.info.status == "RUNNING"
    assert process_is_gone(run.data.tags)
    status, _, _ = toy("seed=5")  # other work: marks the stale run, begins its own
    assert status == 0
    stale = next(r for r in runs_of(tracker) if r.info.run_id == run.info.run_id)
    assert stale.info.status == "KILLED" and "process is gone" in stale.data.tags["lsmrun.error"]
    again = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert f"going on with the MLflow run {run.info.run_id}" in again.stdout
    assert len(runs_of(tracker)) == 2


def test_a_living_process_of_this_or_another_host_is_left_alone() -> None:
    me = provenance(1)
    assert not process_is_gone(me)
    assert not process_is_gone(me | {"lsmrun.host": "elsewhere", "lsmrun.pid": "999999999"})
    assert process_is_gone(me | {"lsmrun.pid": "999999999"})
    assert process_is_gone(me | {"lsmrun.pid_started": "1.0"})
    assert not process_is_gone({})


def test_eight_processes_on_a_fresh_store_at_once_all_succeed(tmp_path: Path, toy_conf: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")} | {
        "LSMRUN_HOME": str(tmp_path / "h")
    }
    command = [sys.executable, "-c", PROGRAM, "--config-dir", str(toy_conf), "model=toy"]
    processes = [
        subprocess.Popen(
            [*command, f"seed={i}"], env=environment, cwd=tmp_path, stdout=-3, stderr=subprocess.PIPE, text=True
        )
        for i in range(8)
    ]
    errors = [p.communicate(timeout=240)[1] for p in processes]
    assert [p.returncode for p in processes] == [0] * 8, errors
    runs = runs_of(Tracker(open_store(tmp_path / "h")))
    assert [r.info.status for r in runs] == ["FINISHED"] * 8
    assert {r.info.experiment_id for r in runs} == {runs[0].info.experiment_id}
    with sqlite3.connect(tmp_path / "h" / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A team's own MLflow server on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 's.db'}",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.25)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_a_teams_own_server_is_used(toy, home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (home / "mlflow.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    status, out, err = toy("tracking.experiment=ours")
    assert status == 0, err
    assert f"open {server}" in out
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    status, _, err = toy("tracking.experiment=ours", f"tracking.uri={server}", "seed=1")
    assert status == 0, err
    client = Tracker(open_store(home, server)).store.client()
    runs = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert [r.info.status for r in runs] == ["FINISHED", "FINISHED"]
    assert "config.yaml" in {f.path for f in client.list_artifacts(runs[0].info.run_id)}
    assert (home / "mlflow.db").read_bytes() == before


def test_a_store_that_is_none_is_told_before_work_starts(toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    monkeypatch.setenv("LSMRUN_HOME", str(mine))
    store = mine / "mlflow.db"
    store.mkdir(parents=True)
    assert "a folder is where the MLflow store should be" in refused(toy())
    store.rmdir()
    store.write_text("no database")
    assert f"{store}: not an MLflow store (file is not a database)" in refused(toy())
    assert [p.name for p in mine.iterdir()] == ["mlflow.db"] and store.read_text() == "no database"


def test_a_store_of_another_version_is_left_alone(
    toy, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("LSMRUN_HOME", str(mine))
    shutil.copy(home / "mlflow.db", mine)
    with contextlib.closing(sqlite3.connect(mine / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'another'")
        database.commit()
    status, _, err = toy()
    assert status == 2 and err.count("\n") == 1
    assert "mlflow.db cannot be used: " in err and "mlflow db upgrade" in err


def test_a_server_that_is_not_there_is_told_before_work_starts(toy, home: Path) -> None:
    started_at = time.perf_counter()
    status, out, err = toy("tracking.uri=http://127.0.0.1:9")
    assert (status, out) == (2, "")
    assert (
        err.startswith("lsmrun: error: tracking server http://127.0.0.1:9: cannot be reached") and err.count("\n") == 1
    )
    assert time.perf_counter() - started_at < 10
    assert not (home / "hydra").exists()


def test_equal_work_has_one_name_whatever_the_paths_threads_or_tracking() -> None:
    config = {"seed": 0, "model": {"a": 1, "b": 2}, "threads": 1, "paths": {"home": "x"}, "tracking": {}}
    same = {"model": {"b": 2, "a": 1}, "seed": 0, "threads": 2, "paths": {"home": "y"}, "tracking": {"name": "z"}}
    assert job_hash(config) == job_hash(same)
    assert job_hash(config) != job_hash(config | {"seed": 1})


@pytest.mark.parametrize(
    ("typed", "told", "untold"),
    [
        ((), {"model", "data", "readout"}, {"system"}),
        (("runner=dynamics",), {"model", "data"}, {"readout"}),
        (("model=rram_lsm", "runner=dynamics"), {"model", "data", "device"}, {"readout"}),
        (("runner=evaluate", "model=rram_lsm"), set(), {"model", "data", "readout", "device"}),
        (("runner=md",), {"system", "md"}, {"model", "data", "training"}),
    ],
)
def test_a_run_does_not_tell_sections_that_its_runner_does_not_need(
    typed: tuple[str, ...], told: set[str], untold: set[str]
) -> None:
    cfg = Source().compose(list(typed))
    plan = make_plan(cfg, cfg.hydra)
    sections = {key.partition(".")[0] for key in plan.params}
    assert told <= sections and not untold & sections
    assert not untold & {tag.removeprefix("lsmrun.") for tag in plan.tags}


def test_long_values_are_cut_and_nested_keys_joined(home: Path) -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
    tracker = started(home, tags={"long": "x" * 9000})
    tracker.params({"long": "y" * 9000})
    tracker.end()
    run = runs_of(tracker)[0]
    assert run.data.params["long"] == "y" * 497 + "..."
    assert len(run.data.tags["long"]) == 5000


def test_runs_are_named_by_what_was_asked_for() -> None:
    choices = {"model": "nalsm", "data": "mnist"}
    typed = ["data=mnist", "model.w_astro=0.02", "seed=1", "tracking.name=x", "hydra.sweep.dir=y", "threads=2"]
    assert run_name(choices, []) == "nalsm"
    assert run_name(choices, typed) == "nalsm w_astro=0.02 seed=1"
    assert run_name(choices, typed, ["seed"]) == "seed=1"
    assert run_name(choices | {"experiment": "nalsm/mnist_1000"}, ["experiment=nalsm/mnist_1000"]) == "nalsm/mnist_1000"
