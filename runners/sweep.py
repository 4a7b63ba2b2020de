"""A sweep: its jobs known and checked before the first starts, one parent run over all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from runners.check import UserError
from runners.compose import Source, parse
from runners.context import job_hash
from runners.options import find_groups
from runners.paths import home_folder
from runners.plan import Plan, make_plan
from runners.provenance import provenance
from runners.store import open_store
from runners.tracking import RunLabel, Tracker

ERROR_FILE = "error.txt"
"""In the folder of each job of a sweep that failed: its traceback."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep runs over and where its jobs leave their files."""

    varied: tuple[str, ...]
    jobs: tuple[str, ...]
    """Hash of each job."""
    first: Plan
    folder: Path

    def start(self) -> Tracker | None:
        """Begin the parent run, or go on with that of the same sweep if it was killed; None if nothing is tracked."""
        if not self.first.is_tracked:
            return None
        options = self.first.options
        tracker = Tracker(open_store(home_folder(options.paths.home), options.tracking.uri))
        short = " x ".join(key.rpartition(".")[2] for key in self.varied)
        label = RunLabel(
            experiment=self.first.experiment,
            name=options.tracking.name or f"sweep {short} ({len(self.jobs)} runs)",
            job=hashlib.sha256(" ".join(sorted(self.jobs)).encode()).hexdigest()[:16],
            parent=options.tracking.parent,
            tags={"lsmrun.varied": " ".join(self.varied), **provenance(options.threads or 0), **self.first.tags},
        )
        tracker.start(label, resume=options.resume)
        return tracker

    def overrides(self, tracker: Tracker | None) -> list[str]:
        """What the parent tells each job: its folder, its parent run and what varies."""
        told = [f"hydra.sweep.dir='{self.folder}'", f"tracking.varied=[{','.join(self.varied)}]"]
        return [*told, f"tracking.parent={tracker.run_id}"] if tracker else told

    def failed(self) -> list[Path]:
        """Error files of the jobs that failed."""
        return sorted(self.folder.glob(f"*/{ERROR_FILE}"))


def plan_sweep(source: Source, typed: Sequence[str]) -> Sweep:
    """Find and check every job of a sweep; raises `UserError` if there is none or one of them is wrong.

    The jobs of a search that finds its values as it goes (another `hydra/sweeper`) are not known: what is common to them
    is checked.
    """
    groups = find_groups(source.config_dir)
    typed_overrides = [parse(text, groups) for text in typed]
    common = [str(o.input_line) for o in typed_overrides if not o.is_sweep_override()]
    hydra = source.compose(common).hydra
    listed = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    every = [*(parse(text, groups) for text in listed), *typed_overrides]
    varied = tuple(dict.fromkeys(str(o.key_or_group) for o in every if o.is_sweep_override()))
    searches = not str(hydra.sweeper._target_).endswith("BasicSweeper")
    jobs = [common] if searches else BasicSweeper.split_arguments(every, None)[0]
    if not varied and not searches:
        raise UserError("--multirun: nothing varies; give a key several values, such as seed=0,1,2")
    composed = [source.compose(job) for job in jobs]
    plans = [make_plan(cfg, cfg.hydra) for cfg in composed]
    return Sweep(varied, tuple(job_hash(p.config) for p in plans), plans[0], Path(hydra.sweep.dir).absolute())
