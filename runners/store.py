"""The MLflow store: made once under a lock, its experiments, and the runs that were left behind in it."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runners.check import UserError, one_line
from runners.paths import check_folder
from runners.provenance import process_is_gone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SERVER_TIMEOUT_S = 5.0
"""How long a tracking server may take to say that it is there."""
LOCK_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Store:
    """Where runs are kept: MLflow's address and, for our own SQLite file, the folder of its artifacts."""

    uri: str
    home: Path

    @property
    def is_server(self) -> bool:
        """Whether another machine or process looks after the store."""
        return not self.uri.startswith("sqlite:")

    @property
    def ui_command(self) -> str:
        """What a user types (or opens) to look at the runs."""
        if self.is_server:
            return f"open {self.uri}"
        return f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --backend-store-uri {self.uri}"

    def client(self) -> MlflowClient:
        """An MLflow client of this store."""
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    @contextlib.contextmanager
    def lock(self) -> Any:
        """Only one process at a time inside; nothing to wait for where a server looks after the store."""
        if self.is_server:
            yield
            return
        from filelock import FileLock

        self.home.mkdir(parents=True, exist_ok=True)
        with FileLock(self.home / "mlflow.lock", timeout=LOCK_TIMEOUT_S):
            yield


def open_store(home: Path, uri: str | None = None) -> Store:
    """The store named by `uri`, else by MLFLOW_TRACKING_URI, else the SQLite file in `home`.

    A server is asked whether it is there, a file whether it can be one; raises `UserError` if not.
    """
    _quieten()
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    if "://" not in uri and not uri.startswith("databricks"):
        raise UserError(f"tracking.uri={uri}: must be an address such as http://host:5000 or sqlite:////path/mlflow.db")
    if uri.startswith("file:"):
        raise UserError(f"tracking.uri={uri}: MLflow has no file store any more; take sqlite:////path/mlflow.db")
    store = Store(uri, home)
    if not store.is_server:
        _check_file(store)
    if uri.startswith(("http://", "https://")):
        _ask_server(uri)
    return store


def _check_file(store: Store) -> None:
    """Raise `UserError` if the SQLite file of the store cannot be made, or is something else; MLflow would try for long."""
    path = Path(store.uri.removeprefix("sqlite:///"))
    if not store.uri.startswith("sqlite:///") or not path.name:
        raise UserError(f"tracking.uri={store.uri}: must name a file, as sqlite:////path/mlflow.db does")
    for folder in (store.home, path.parent):
        check_folder(folder, f"of the MLflow store {path}")
    if path.is_dir():
        raise UserError(f"{path}: a folder is where the MLflow store should be; move it away")
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            database.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.OperationalError:  # locked for a moment: MLflow waits
        return
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: not an MLflow store ({error}); move it away, or set tracking.uri") from error


def create(store: Store) -> None:
    """Make our own store if it is not there yet; several processes may call this at once.

    The tables are made in a file beside the store that takes its place when it is complete: a process that is killed
    here leaves no half-made store. WAL mode lets several runs write at once.
    """
    if store.is_server:
        return
    path = Path(store.uri.removeprefix("sqlite:///"))
    with store.lock():
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".new{os.getpid()}")
        Store(f"sqlite:///{unfinished}", store.home).client().search_experiments(max_results=1)
        with contextlib.closing(sqlite3.connect(unfinished)) as database:
            database.execute("UPDATE experiments SET artifact_location = ?", (str(store.home / "artifacts" / "0"),))
            database.commit()
        unfinished.replace(path)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")


def experiment_id(store: Store, client: MlflowClient, name: str) -> str:
    """The experiment of this name, made if needed, with artifacts under the store's home."""
    from mlflow.exceptions import MlflowException

    with store.lock():
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        if found is not None:
            return str(found.experiment_id)
        folder = None if store.is_server else (store.home / "artifacts" / name).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=folder))
        except MlflowException:
            if (made_by_another := client.get_experiment_by_name(name)) is None:
                raise
            return str(made_by_another.experiment_id)


def all_experiments(client: MlflowClient) -> list[str]:
    """Ids of all experiments of the store."""
    return [str(e.experiment_id) for e in client.search_experiments()]


def mark_stale_runs(client: MlflowClient) -> list[str]:
    """Mark RUNNING runs of this host as KILLED if their process is gone; returns their ids."""
    stale = []
    for run in client.search_runs(
        all_experiments(client), filter_string="attributes.status = 'RUNNING'", max_results=1000
    ):
        if process_is_gone(run.data.tags):
            client.set_tag(run.info.run_id, "lsmrun.error", "killed: the process is gone")
            client.set_terminated(run.info.run_id, "KILLED")
            stale.append(run.info.run_id)
    return stale


def find_ended(client: MlflowClient, experiment: str, job: str, ends: Collection[str]) -> str | None:
    """The latest run of this job, if it ended in one of these ways; None if it did not or the job never ran."""
    runs = client.search_runs(
        [experiment],
        filter_string=f"tags.`lsmrun.job` = '{job}'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return runs[0].info.run_id if runs and runs[0].info.status in ends else None


def find_named(client: MlflowClient, name: str) -> str | None:
    """The id of the latest finished run of this name, in any experiment."""
    if "'" in name:
        return None
    wanted = f"attributes.run_name = '{name}' AND attributes.status = 'FINISHED'"
    runs = client.search_runs(all_experiments(client), wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0].info.run_id if runs else None


def find_finished(client: MlflowClient, job: str) -> Run | None:
    """The latest run of this job that finished, with its metrics, in any experiment."""
    wanted = f"tags.`lsmrun.job` = '{job}' AND attributes.status = 'FINISHED'"
    runs = client.search_runs(all_experiments(client), wanted, max_results=1, order_by=["attributes.start_time DESC"])
    return runs[0] if runs else None


def finished_jobs(client: MlflowClient, parent: str) -> set[str]:
    """Hashes of the jobs that are finished in the sweep of this parent run, one over several data sets included."""
    wanted = f"tags.`mlflow.parentRunId` = '{parent}' AND attributes.status = 'FINISHED'"
    found: set[str] = set()
    experiments, token = all_experiments(client), None
    while token is None or token:
        page = client.search_runs(experiments, filter_string=wanted, max_results=1000, page_token=token)
        found |= {run.data.tags.get("lsmrun.job", "") for run in page}
        token = page.token or ""
    return found


def settle(client: MlflowClient, parent: str, patience_s: float = 10.0) -> None:
    """Mark runs of workers that were ended with their sweep as KILLED, as soon as their processes are gone."""
    running = f"tags.`mlflow.parentRunId` = '{parent}' AND attributes.status = 'RUNNING'"
    experiments, until = all_experiments(client), time.monotonic() + patience_s
    while client.search_runs(experiments, filter_string=running, max_results=1) and time.monotonic() < until:
        if not mark_stale_runs(client):
            time.sleep(0.2)


def download(client: MlflowClient, run_id: str, path: str) -> Path:
    """A local copy of an artifact of a run; raises `UserError` if there is no such run or artifact."""
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run_id, path))
    except (MlflowException, OSError) as error:
        raise UserError(f"{run_id}: no {path} in this MLflow run ({one_line(error)})") from error


def _ask_server(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S):
            return
    except urllib.error.HTTPError:
        return  # a proxy or a log-in page answers: the server is there
    except (OSError, ValueError) as error:
        raise UserError(f"tracking server {uri}: cannot be reached ({one_line(error)})") from error


def _quieten() -> None:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mlflow.*")
