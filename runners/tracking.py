"""One MLflow run: buffered metrics, artifacts and tags, and its end, whatever ends it."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.check import UserError, one_line
from runners.explain import show
from runners.run_names import RunLabel, cut, flatten
from runners.store import (
    Store,
    create,
    download,
    experiment_id,
    find_ended,
    find_named,
    finished_jobs,
    mark_stale_runs,
    settle,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric

FLUSH_INTERVAL_S = 1.0
BATCH = 1000
"""Most metrics that MLflow takes in one call."""
INPUT_TRIES = 5
LONGEST_PARAM = 500
LONGEST_TAG = 5000
LONGEST_NAME = 250

Watcher = Callable[[Mapping[str, float], int], None]


class Tracker:
    """Records one run; what is given to it before `start` is kept and written then."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.run_id: str | None = None
        self.resumed = False
        self._client: MlflowClient | None = None
        self._metrics: list[tuple[str, float, int, int]] = []
        self._tags: dict[str, str] = {}
        self._recorded: dict[str, set[int]] = {}
        self._recorded_keys: set[str] = set()
        self._flushed = time.monotonic()
        self._watchers: list[Watcher] = []

    # --- life of the run

    def start(self, label: RunLabel, resume: bool = True, go_on_with: Collection[str] = ("KILLED",)) -> None:
        """Begin a run, or go on with the latest run of the same job if it has one of these ends.

        Runs whose process is gone are marked KILLED first. Raises `UserError` if the store cannot be used.
        """
        try:
            create(self.store)
            client = self._client = self.store.client()
            experiment = experiment_id(self.store, client, label.experiment)
        except UserError:
            raise
        except (
            Exception
        ) as error:  # of MLflow, its database and its drivers: another version, another scheme, no driver
            address = re.sub(r"//[^/@]*@", "//", self.store.uri)  # without the password
            raise UserError(f"the MLflow store {address} cannot be used: {one_line(error)}") from error
        parent = {"mlflow.parentRunId": label.parent} if label.parent else {}  # a job is of the sweep that ends it
        tags = {**self._tags, **label.tags, "lsmrun.job": label.job, **parent}
        self._tags = {}
        with self.store.lock():
            mark_stale_runs(client)
            ended = find_ended(client, experiment, label.job, go_on_with) if resume else None
            if ended is None:
                run = client.create_run(experiment, tags=_short(tags), run_name=cut(label.name, LONGEST_NAME))
                self.run_id = run.info.run_id
            else:
                self._go_on(client, ended, tags)
        self.flush()

    def end(self, status: str = "FINISHED", error: BaseException | None = None) -> None:
        """Write what is buffered and close the run as FINISHED, FAILED or KILLED, with the error as a tag."""
        if self._client is None or self.run_id is None:
            return
        if error is not None:
            self.tags({"lsmrun.error": f"{type(error).__name__}: {one_line(error)}"})
        self.flush()
        self._client.set_terminated(self.run_id, status)

    def finished_jobs(self) -> set[str]:
        """Hashes of the jobs that are finished below this run, that of a sweep."""
        client, run_id = self._open()
        return finished_jobs(client, run_id)

    def settle(self) -> None:
        """Mark the runs below this one as KILLED whose processes were ended with the sweep."""
        client, run_id = self._open()
        settle(client, run_id)

    # --- what is recorded

    def params(self, config: Mapping[str, Any]) -> None:
        """The configuration as flat params, `model.w_astro` and so on; those the run has already are left alone."""
        from mlflow.entities import Param

        client, run_id = self._open()
        known = client.get_run(run_id).data.params if self.resumed else {}
        flat = {key: cut(show(value), LONGEST_PARAM) for key, value in flatten(config).items() if key not in known}
        items = [Param(key, value) for key, value in flat.items()]
        for i in range(0, len(items), 100):
            client.log_batch(run_id, params=items[i : i + 100])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record values at a step; a (name, step) that the run has already is not written again."""
        now = int(time.time() * 1000)
        self._metrics += [(key, float(value), now, step) for key, value in values.items()]
        if self.run_id is not None and time.monotonic() - self._flushed > FLUSH_INTERVAL_S:
            self.flush()
        for watcher in self._watchers:
            watcher(values, step)

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(values, step)` for all metrics from now on; what it raises ends the run."""
        self._watchers.append(watcher)

    def flush(self) -> None:
        """Write buffered metrics and tags now; to be called before a checkpoint that will skip their making."""
        if self._client is None or self.run_id is None:
            return
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in _short(self._tags).items()]
        fresh = [m for m in self._metrics if not self._is_recorded(m[0], m[3])]
        self._tags, self._metrics = {}, []
        for i in range(0, max(len(fresh), 1), BATCH):
            metrics = [_metric(*m) for m in fresh[i : i + BATCH]]
            self._client.log_batch(self.run_id, metrics=metrics, tags=tags if i == 0 else ())
        self._flushed = time.monotonic()

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags of the run."""
        self._tags |= {key: str(value) for key, value in values.items()}

    def input(self, name: str, digest: str, source: str, context: str = "training", profile: str | None = None) -> None:
        """Record a data set in the run's Dataset column: its name, checksum (36 characters are kept) and origin."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        client, run_id = self._open()
        origin = CodeDatasetSource(tags={"source": source})
        dataset = Dataset(name, digest[:36], origin._get_source_type(), origin.to_json(), profile=profile)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        for left in reversed(range(INPUT_TRIES)):
            try:
                client.log_inputs(run_id, inputs)
            except MlflowException as error:
                # another job of a sweep was the first to record the same data set: now it is there to be found
                if left and "unique constraint" in str(error).lower():
                    continue
                raise
            return

    def artifact(self, path: Path | str, folder: str = "") -> None:
        """Store a file, or a folder with all that is in it, among the run's artifacts."""
        client, run_id = self._open()
        store = client.log_artifacts if Path(path).is_dir() else client.log_artifact
        store(run_id, str(path), folder or None)

    def figure(self, figure: Figure, name: str) -> None:
        """Store a matplotlib figure as the artifact `name`, for instance `rasters/test.png`."""
        with self._named_file(name) as path:
            figure.savefig(path, bbox_inches="tight")

    def text(self, text: str, name: str) -> None:
        """Store text as the artifact `name`."""
        with self._named_file(name) as path:
            path.write_text(text, encoding="utf-8")

    def yaml(self, value: Mapping[str, Any], name: str) -> None:
        """Store plain values as the YAML artifact `name`, keys in the given order."""
        from omegaconf import OmegaConf

        self.text(OmegaConf.to_yaml(OmegaConf.create(dict(value))), name)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Record the wall time of what is inside as the metric `time/<name>_s`."""
        started = time.perf_counter()
        yield
        self.metrics({f"time/{name}_s": time.perf_counter() - started})

    def download(self, run_id: str, path: str) -> Path:
        """A local copy of an artifact of any run in the store; raises `UserError` if there is none."""
        create(self.store)
        return download(self._client or self.store.client(), run_id, path)

    def find(self, name: str) -> str:
        """The id of the latest finished run of this name in any experiment; `name` itself if there is none."""
        create(self.store)
        return find_named(self._client or self.store.client(), name) or name

    # --- inner workings

    def _open(self) -> tuple[MlflowClient, str]:
        if self._client is None or self.run_id is None:
            raise RuntimeError(
                "the MLflow run is not started yet: record artifacts and inputs in run(), not in prepare()"
            )
        return self._client, self.run_id

    def _go_on(self, client: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
        self.run_id, self.resumed = run_id, True
        recorded = client.get_run(run_id).data
        self._recorded_keys = set(recorded.metrics)
        client.update_run(run_id, status="RUNNING")
        if "lsmrun.error" in recorded.tags:
            client.delete_tag(run_id, "lsmrun.error")
        for key, value in _short(tags).items():
            client.set_tag(run_id, key, value)

    def _is_recorded(self, key: str, step: int) -> bool:
        if key not in self._recorded_keys:
            return False
        if key not in self._recorded:
            client, run_id = self._open()
            self._recorded[key] = {m.step for m in client.get_metric_history(run_id, key)}
        return step in self._recorded[key]

    @contextlib.contextmanager
    def _named_file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            yield path
            parent = str(Path(name).parent)
            self.artifact(path, "" if parent == "." else parent)


def _metric(key: str, value: float, timestamp: int, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(key, value, timestamp, step)


def _short(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: cut(value, LONGEST_TAG) for key, value in tags.items()}
