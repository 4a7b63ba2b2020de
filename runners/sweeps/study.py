"""An Optuna study in SQLite: opened by a search, followed by each of its trials in whatever process that runs."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import TrialState

from runners.check import UserError
from runners.job import Pruned
from runners.options import suggest

NO_METRIC = "no metric"
"""User attribute of a trial that ended without the metric that is searched by: what to say of it."""
WAIT_S = 60.0
"""How long a process waits for its turn to write."""


def open_storage(path: Path) -> RDBStorage:
    """The SQLite file of all studies, made if needed; one process at a time may make it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    new = not path.exists()
    if new:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _logging_left_alone():
        storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": WAIT_S}})
    if new:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA journal_mode=WAL")
    return storage


@contextlib.contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Optuna's migrations reconfigure logging, and silence every logger there is, where the root has no handler."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def make_pruner(name: str, startup_trials: int, warmup_steps: int) -> BasePruner:
    """The pruner of this name."""
    if name == "median":
        return MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=warmup_steps)
    return HyperbandPruner(min_resource=max(1, warmup_steps)) if name == "hyperband" else NopPruner()


@contextlib.contextmanager
def follow(sweeper: Any) -> Iterator[Follower]:
    """Follow the trial that this process runs, and tell the study how it ended.

    `sweeper` is Hydra's configuration of the search. An interrupted trial stays as it is: the search runs it again.
    """
    pruner = make_pruner(sweeper.pruner, sweeper.startup_trials, sweeper.warmup_steps)
    study = optuna.load_study(study_name=sweeper.study, storage=open_storage(Path(sweeper.storage)), pruner=pruner)
    follower = Follower(study, int(sweeper.trial), sweeper.metric, sweeper.watched, int(sweeper.watch_every))
    try:
        yield follower
        value = follower.result()
    except Pruned as pruned:
        study.tell(follower.number, state=TrialState.PRUNED)
        print(f"[job {follower.number}] pruned: {pruned}", flush=True)
    except Exception:
        study.tell(follower.number, state=TrialState.FAIL)
        raise
    else:
        study.tell(follower.number, value)


class Follower:
    """Watches the metrics of one trial."""

    def __init__(self, study: Study, number: int, metric: str, watched: str, every: int) -> None:
        self.number = number
        self._study, self._metric, self._watched, self._every = study, metric, watched, every
        self._id = study.get_trials(deepcopy=False)[number]._trial_id
        self._last: dict[str, float] = {}

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Report the watched metric of this step; raises `Pruned` if the trial is not worth going on with."""
        self._last |= values
        if self._watched not in values or step % self._every:
            return
        storage = self._study._storage
        storage.set_trial_intermediate_value(self._id, step, float(values[self._watched]))
        if self._study.pruner.prune(self._study, storage.get_trial(self._id)):
            raise Pruned(f"{self._watched} {values[self._watched]:.4g} at step {step}")

    def result(self) -> float:
        """The metric that is searched by; raises `UserError` if the run has none."""
        if self._metric not in self._last:
            hint = suggest(self._metric, sorted(self._last))
            told = f"hydra.sweeper.metric={self._metric}: the run recorded no such metric{hint}"
            self._study._storage.set_trial_user_attr(self._id, NO_METRIC, told)
            raise UserError(told)
        if math.isnan(self._last[self._metric]):
            raise UserError(f"{self._metric}: is not a number")
        return float(self._last[self._metric])
