"""A sweep: its jobs known and checked before the first starts, one parent run over all of them."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from runners.check import UserError, build
from runners.compose import Source, check_is_installed, implied, parse
from runners.context import job_hash
from runners.errors import FAILED
from runners.job import interruptible
from runners.options import find_groups
from runners.paths import home_folder
from runners.plan import Plan, make_plan
from runners.provenance import provenance
from runners.run_names import RunLabel
from runners.store import open_store
from runners.sweeps.launch import Ended, Job, Launcher, counted, open_launcher
from runners.tracking import Tracker

if TYPE_CHECKING:
    from runners.sweeps.search import Search


class Way(Protocol):
    """How a sweep comes to its jobs: all combinations of values, or a search."""

    @property
    def name(self) -> str:
        """Name of the parent run."""

    @property
    def identity(self) -> str:
        """Equal for equal sweeps: one that is started again goes on in the parent run with this hash."""

    @property
    def go_on_with(self) -> tuple[str, ...]:
        """Ends of a parent run that is gone on with."""

    def alone(self, resume: bool) -> AbstractContextManager[None]:
        """Around everything else: what only one process may have open."""

    def run(self, launcher: Launcher, told: Sequence[str], tracker: Tracker | None) -> Ended:
        """Run all jobs, each with what it is told, and return how many there were and how many of them failed."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep runs over and where its jobs leave their files."""

    varied: tuple[str, ...]
    first: Plan
    folder: Path
    way: Way

    def start(self) -> Tracker | None:
        """Begin the parent run, or go on with that of the same sweep; None if nothing is tracked."""
        if not self.first.is_tracked:
            return None
        options = self.first.options
        tracker = Tracker(open_store(home_folder(options.paths.home), options.tracking.uri))
        label = RunLabel(
            experiment=self.first.experiment,
            name=options.tracking.name or self.way.name,
            job=self.way.identity,
            parent=options.tracking.parent,
            tags={
                "lsmrun.varied": " ".join(self.varied),
                **provenance(options.threads or 0),
                **self.first.tags_of_all(self.varied),
            },
        )
        tracker.start(label, resume=options.resume, go_on_with=self.way.go_on_with)
        if tracker.resumed:
            print(f"going on with the MLflow run {tracker.run_id} of this sweep", flush=True)
        return tracker

    def told(self, tracker: Tracker | None) -> list[str]:
        """What the parent tells each job: its parent run and what varies."""
        told = [f"tracking.varied=[{','.join(self.varied)}]"]
        return [*told, f"tracking.parent={tracker.run_id}"] if tracker else told


@dataclass(frozen=True)
class Grid:
    """All combinations of the given values."""

    jobs: tuple[tuple[str, ...], ...]
    hashes: tuple[str, ...]
    name: str
    at_once: int | None
    go_on_with: tuple[str, ...] = ("KILLED", "FAILED")

    @property
    def identity(self) -> str:
        """Hash of the jobs, in any order."""
        return hashlib.sha256(" ".join(sorted(self.hashes)).encode()).hexdigest()[:16]

    def alone(self, resume: bool) -> AbstractContextManager[None]:
        """Nothing is kept beside the parent run."""
        return contextlib.nullcontext()

    def run(self, launcher: Launcher, told: Sequence[str], tracker: Tracker | None) -> Ended:
        """Run the jobs that are not finished in this sweep yet."""
        done = tracker.finished_jobs() if tracker and tracker.resumed else set()
        left = [
            Job(number, (*overrides, *told))
            for number, (overrides, job) in enumerate(zip(self.jobs, self.hashes, strict=True))
            if job not in done
        ]
        if skipped := len(self.jobs) - len(left):
            print(f"skipping {skipped} of {len(self.jobs)} jobs: they are finished (resume=false runs all)", flush=True)
        failed = [number for batch in _batches(left, self.at_once) for number in launcher.run(batch)]
        return Ended(len(left), len(failed), skipped)


def run_sweep(source: Source, typed: Sequence[str]) -> int:
    """Run a sweep under one parent run and return the exit status; one failed job does not stop the rest."""
    sweep, common = plan_sweep(source, typed)
    resume = sweep.first.options.resume
    with interruptible(), sweep.way.alone(resume), open_launcher(source, common, sweep.folder) as launcher:
        tracker = sweep.start()
        try:
            ended = sweep.way.run(launcher, sweep.told(tracker), tracker)
        except BaseException as error:
            if tracker:
                tracker.settle()
                tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", error)
            raise
        if tracker:
            if ended.failed:
                tracker.settle()
            tracker.end("FAILED" if ended.failed else "FINISHED")
            print(f"sweep of {ended}; to look at them: {tracker.store.ui_command}")
    if ended.failed:
        print(f"lsmrun: error: {ended.failed} of {counted(ended.ran, 'job')} failed: {sweep.folder}", file=sys.stderr)
    return FAILED if ended.failed else 0


def plan_sweep(source: Source, typed: Sequence[str]) -> tuple[Sweep, list[str]]:
    """Find and check the jobs of a sweep, and the overrides that they share; raises `UserError` if one is wrong.

    A search finds its values as it goes: of each key, every choice and both ends of a range are checked.
    """
    groups = find_groups(source.config_dir)
    typed_overrides = [parse(text, groups) for text in typed]
    common = [str(o.input_line) for o in typed_overrides if not o.is_sweep_override()]
    hydra = source.compose(common).hydra
    check_is_installed(f"hydra/sweeper={hydra.runtime.choices.get('hydra/sweeper')}")
    listed = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    every = {o.key_or_group: o for o in [*(parse(text, groups) for text in listed), *typed_overrides]}
    varied = {str(key): o for key, o in every.items() if o.is_sweep_override()}
    if not varied:
        raise UserError("--multirun: nothing varies; give a key several values, such as seed=0,1,2")
    fixed = [o for o in every.values() if not o.is_sweep_override()]
    sweeper = str(hydra.sweeper._target_).rpartition(".")[2]
    if sweeper not in ("BasicSweeper", "SearchSettings"):
        raise UserError(f"hydra/sweeper={hydra.runtime.choices['hydra/sweeper']}: (allowed: basic, optuna)")
    plan = _plan_grid if sweeper == "BasicSweeper" else _plan_search
    way, first = plan(source, hydra, fixed, varied)
    return Sweep(tuple(varied), first, Path(hydra.sweep.dir).absolute(), way), common


def _plan_grid(
    source: Source, hydra: DictConfig, fixed: Sequence[Override], varied: Mapping[str, Override]
) -> tuple[Grid, Plan]:
    for key, override in varied.items():
        if not override.is_discrete_sweep():
            raise UserError(f"{override.input_line}: an interval of {key} needs a search; add hydra/sweeper=optuna")
    asked = [str(o.input_line) for o in fixed if o.is_hydra_override()]
    shared = [o for o in fixed if not o.is_hydra_override()]
    combinations = BasicSweeper.split_arguments([*shared, *varied.values()], None)[0]
    twice = next((job for job in combinations if combinations.count(job) > 1), None)
    if twice is not None:
        same = " ".join(o for o in twice if o.partition("=")[0] in varied)
        raise UserError(f"--multirun: {same} comes twice; give each value once")
    jobs = [(*job, *implied(job)) for job in combinations]  # the launcher composes them without `Source`
    composed = [source.compose([*asked, *job]) for job in jobs]
    plans = [make_plan(cfg, cfg.hydra) for cfg in composed]
    short = " x ".join(key.rpartition(".")[2] for key in varied)
    name = f"sweep {short} ({counted(len(jobs), 'run')})"
    hashes = tuple(job_hash(p.config) for p in plans)
    return Grid(tuple(jobs), hashes, name, hydra.sweeper.get("max_batch_size")), plans[0]


def _plan_search(
    source: Source, hydra: DictConfig, fixed: Sequence[Override], varied: Mapping[str, Override]
) -> tuple[Search, Plan]:
    from runners.sweeps.search import Search, SearchSettings
    from runners.sweeps.space import corners, read_space

    settings: SearchSettings = build(OmegaConf.to_container(hydra.sweeper, resolve=True), "hydra.sweeper")
    space = read_space(varied)
    asked = [str(o.input_line) for o in fixed if o.is_hydra_override()]
    shared = [str(o.input_line) for o in fixed if not o.is_hydra_override()]
    at_once = settings.n_jobs
    launcher = str(hydra.launcher._target_).rpartition(".")[2]
    if launcher == "BasicLauncher" and (at_once or 1) > 1:
        raise UserError(f"hydra.sweeper.n_jobs={at_once}: needs hydra/launcher=joblib (or submitit_slurm)")
    if launcher == "SlurmLauncher" and at_once is None:
        raise UserError("hydra.sweeper.n_jobs: has no value; say how many trials may run at once on the cluster")
    composed = [source.compose([*asked, *shared, *corner]) for corner in corners(space)]
    plans = [make_plan(cfg, cfg.hydra) for cfg in composed]
    first = plans[0]
    if not first.is_tracked:
        raise UserError("hydra/sweeper=optuna: this runner records no metrics to search by")
    storage = home_folder(first.options.paths.home) / "optuna.db"
    return Search(settings, space, shared, storage, first.experiment, job_hash(first.config)), first


def _batches(jobs: Sequence[Job], at_once: int | None) -> Iterator[Sequence[Job]]:
    size = at_once or len(jobs) or 1
    for i in range(0, len(jobs), size):
        yield jobs[i : i + size]
