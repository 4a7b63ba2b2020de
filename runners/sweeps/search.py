"""A sweep that finds its values as it goes: `lsmrun -m hydra/sweeper=optuna model.w_astro=interval(0.002,0.05)`.

Trials are asked for in batches, as many as run at once, and told their values by the processes that run them, so that
nothing is lost when the search itself is killed: it goes on in the same study and the same parent run.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field
from pydantic.dataclasses import dataclass

from runners.check import STRICT, UserError
from runners.compose import implied
from runners.sweeps.launch import Ended, Job, Launcher
from runners.sweeps.space import Space
from runners.sweeps.study import NO_METRIC, open_storage
from runners.tracking import Tracker

Count = Annotated[int, Field(ge=1)]
INTERRUPTED = "interrupted"
"""User attribute of a trial that was killed with its search; another trial takes its place."""

BLIND = ("valid/", "train/", "epoch/valid/", "epoch/train/", "init/", "liquid/", "kernel/", "avalanche/", "device/", "cost/",
         "time/", "md/")  # fmt: skip
"""Metrics in which nothing is compared with a test label; those of a liquid tell what it does with test samples, not what
they are. `kernel/` draws its samples evenly from the classes: labels say which samples, no more."""


@dataclass(frozen=True, config=STRICT)
class SearchSettings:
    """What to search by, and how; the last three are filled in for each trial."""

    metric: str = "valid/accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    n_trials: Annotated[Count, Field(description="trials of the whole study")] = 30
    n_jobs: Annotated[Count, Field(description="trials at once")] | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="seed of the sampler")] = 0
    startup_trials: Annotated[int, Field(ge=0, description="trials before sampler and pruner learn")] = 8
    pruner: Literal["median", "hyperband", "none"] = "median"
    watched: str = "epoch/valid/accuracy"
    watch_every: Annotated[Count, Field(description="steps between two looks of the pruner")] = 1
    warmup_steps: Annotated[int, Field(ge=0, description="steps that no trial is pruned in")] = 5
    params: dict[str, Any] = field(default_factory=dict)
    trial: int | None = None
    study: str | None = None
    storage: str | None = None

    def __post_init__(self) -> None:
        for name in ("metric", "watched"):
            if not getattr(self, name).startswith(BLIND):
                raise ValueError(
                    f"{name}={getattr(self, name)}: a search must not see test data; take valid/... "
                    f"(allowed: {', '.join(BLIND)})"
                )


class Search:
    """A search over a space, on top of what all trials share."""

    go_on_with = ("KILLED", "FAILED", "FINISHED")

    def __init__(
        self, settings: SearchSettings, space: Space, shared: Sequence[str], storage: Path, experiment: str, work: str
    ) -> None:
        self.settings, self.space = settings, space
        self._shared, self._storage = shared, storage
        typed = (work, settings.metric, settings.direction, settings.sampler, str(settings.seed))
        told = " ".join((*typed, *sorted(d.typed for d in space.values())))
        self._name = f"{experiment} {hashlib.sha256(told.encode()).hexdigest()[:8]}"
        self._study: Study | None = None

    @property
    def name(self) -> str:
        """Name of the parent run."""
        return f"search {' x '.join(key.rpartition('.')[2] for key in self.space)}"

    @property
    def study(self) -> Study:
        """The open study."""
        if self._study is None:
            raise RuntimeError("the study is open inside `with search.alone(...)` only")
        return self._study

    @property
    def identity(self) -> str:
        """Hash of the study's name."""
        return hashlib.sha256(self.study.study_name.encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def alone(self, resume: bool) -> Iterator[None]:
        """Open the study, that of an earlier start if `resume`; raises `UserError` if the same search runs already."""
        from filelock import FileLock, Timeout

        self._storage.parent.mkdir(parents=True, exist_ok=True)
        lock = self._storage.with_name(f"optuna-{self._name.rpartition(' ')[2]}.lock")
        try:
            with FileLock(lock, timeout=0):
                with FileLock(self._storage.with_suffix(".lock")):
                    storage = open_storage(self._storage)
                known = {s.study_name for s in storage.get_all_studies()}
                names = [self._name, *(f"{self._name}-{k}" for k in range(2, len(known) + 3))]
                unused = next(name for name in names if name not in known)
                name = names[max(0, names.index(unused) - 1)] if resume else unused
                self._study = optuna.create_study(
                    storage=storage, study_name=name, direction=self.settings.direction, load_if_exists=True
                )
                yield
        except Timeout as error:
            raise UserError(f"this search is running already ({lock} is locked)") from error

    def run(self, launcher: Launcher, told: Sequence[str], tracker: Tracker | None) -> Ended:
        """Run trials until the study has as many as are wanted; raises `UserError` where none can have a value."""
        from runners.sweeps.report import report_search, tell_trial

        begun = self._recover()
        print(f"study {self.study.study_name}: {begun} of {self.settings.n_trials} trials are there", flush=True)
        size = self.settings.n_jobs or launcher.workers(self.settings.n_trials)
        asked = failed = 0
        try:
            while (left := self.settings.n_trials - self._counted()) > 0:
                trials = [self._ask() for _ in range(min(size, left))]
                failed += len(launcher.run([self._job(trial, told) for trial in trials]))
                asked += len(trials)
                for trial in trials:
                    self._close(trial)
                    tell_trial(self.study, trial.number, self.settings.metric, tracker)
                self._check_metric(trials)
        finally:
            if tracker:
                report_search(self.study, self.settings, self.space, self._shared, tracker)
        return Ended(asked, failed, begun)

    def _check_metric(self, ended: Sequence[FrozenTrial]) -> None:
        """Raise `UserError` if a trial had no such metric and none before had: a mistyped name finds nothing, ever."""
        told = [self.study._storage.get_trial(trial._trial_id).user_attrs.get(NO_METRIC) for trial in ended]
        known = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if any(told) and not known:
            raise UserError(f"{next(filter(None, told))}; the search ends here")

    def _recover(self) -> int:
        """Ask again for what was running when the search was killed; returns how many trials count."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
            self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self.study.enqueue_trial(trial.params)
        return self._counted()

    def _counted(self) -> int:
        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
        return sum(INTERRUPTED not in trial.user_attrs for trial in ended)

    def _ask(self) -> FrozenTrial:
        """The next trial; its sampler is seeded by its number, so that a killed search finds the same values."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler = _sampler(self.settings, self._counted() + self._open())
        trial = self.study.ask({key: dimension.distribution for key, dimension in self.space.items()})
        return self.study._storage.get_trial(trial._trial_id)

    def _open(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _job(self, trial: FrozenTrial, told: Sequence[str]) -> Job:
        chosen = [*self._shared, *(self.space[key].override(value) for key, value in trial.params.items())]
        own = [
            f"hydra.sweeper.trial={trial.number}",
            f"hydra.sweeper.study='{self.study.study_name}'",
            f"hydra.sweeper.storage='{self._storage}'",
            f"++tracking.tags.trial={trial.number}",
        ]
        return Job(trial.number, (*chosen, *implied(chosen), *told, *own))

    def _close(self, trial: FrozenTrial) -> None:
        """A trial whose process died has told nothing."""
        if self.study._storage.get_trial(trial._trial_id).state == TrialState.RUNNING:
            self.study.tell(trial.number, state=TrialState.FAIL)


def _sampler(settings: SearchSettings, number: int) -> BaseSampler:
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {number}".encode()).digest()[:4], "big")
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=settings.startup_trials, constant_liar=True)
