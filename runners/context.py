"""What a runner is, and what it is given.

A runner is an object with `run(context)`, built from the `runner` section of the configuration:
`conf/runner/<name>.yaml` names its class (`_target_`) and that class's keywords; ours are frozen pydantic dataclasses
in `runners/<name>.py`, light at import because they are imported before anything is known to be right. A user's own
class may stand there as well.

- `needs`: class attribute, the sections that are built for it; default ("model", "data", "readout").
- `parallel`: class attribute, True if several processes of torchrun may share the work; default False.
- `committee`: class attribute, True if `checkpoint=` may be a list of models; default False.
- `reads_checkpoint`: class attribute, False if it opens no saved model: `checkpoint=` is then refused; default True.
- `tracked`: class attribute, False if there is nothing to record in MLflow; default True.
- `prepare(context) -> Any`: optional; everything that can fail because of the user's input (find and load data, open a
  checkpoint). No MLflow run exists yet: a ValueError or OSError raised here is reported in one line with exit status 2
  and leaves nothing behind. What it returns comes back as `context.prepared`.
- `subject(context) -> Subject`: optional, called after `prepare`: what the run is about where a saved model says it and
  not the command; params, tags, name and experiment are then those of the model.
- `run(context) -> dict[str, float] | None`: the MLflow run is started or resumed. The returned key results (metric name
  -> value) are printed last; the runner itself logs them through `context.tracker`. An exception marks the run FAILED.

A model class may carry `kinds`, a tuple of the kinds of data that it takes, and a data class its `kind`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from runners.progress import Advance, Progress
    from runners.tracking import Tracker

NEEDS = ("model", "data", "readout")
"""Sections that are built for a runner that does not say what it needs."""
SECTIONS = (*NEEDS, "training", "system", "md", "labels", "properties")
"""Sections that a runner may need."""


class Runner(Protocol):
    """The one method that every runner has; the optional ones are described above."""

    def run(self, context: Context) -> dict[str, float] | None:
        """Do the work and return the key results."""


@dataclass(frozen=True)
class Subject:
    """What a run is about that was not chosen by its own command: a saved model, as it was made."""

    config: Mapping[str, Any]
    """The model's whole configuration."""
    choices: Mapping[str, str]
    """Options by group that it was made with; none of models of earlier versions."""
    keys: tuple[str, ...]
    """Keys at the top of `config`, and groups of `choices`, that tell what it is."""


@dataclass(frozen=True)
class Context:
    """Everything a runner may know about the job; all paths are absolute."""

    config: dict[str, Any]
    """The whole resolved configuration as plain Python values."""
    choices: dict[str, str]
    """Option chosen in each group: {"model": "nalsm", "data": "mnist", ...}."""
    overrides: tuple[str, ...]
    """What was typed: ("data=mnist", "seed=1")."""
    model: Any
    data: Any
    readout: Any
    training: Any
    system: Any
    md: Any
    labels: Any
    properties: Any
    seed: int
    threads: int
    data_root: Path
    home: Path
    output_dir: Path
    """The job's own folder: log and scratch files."""
    resume: bool
    checkpoint: str | None
    """The first of `checkpoints`."""
    checkpoints: tuple[str, ...]
    """All that `checkpoint=` names; more than one only for runners that take a committee."""
    debug: bool
    job: str
    """Name of the job: equal for equal work, whatever the paths, the threads or the tracking."""
    tracker: Tracker
    progress: Progress
    prepared: Any = None
    """What the runner's `prepare` returned."""

    @contextlib.contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """A progress bar and the wall time `time/<name>_s` around one phase; yields the bar's `advance(done)`."""
        with self.tracker.phase(name), self.progress.phase(name, total=total, unit=unit) as advance:
            yield advance


NOT_PART_OF_THE_JOB = ("tracking", "paths", "debug", "resume", "threads")


def job_hash(config: dict[str, Any]) -> str:
    """16 hex digits that name the work a resolved configuration asks for: keys that change no result are left out."""
    work = {key: value for key, value in config.items() if key not in NOT_PART_OF_THE_JOB}
    return hashlib.sha256(json.dumps(work, sort_keys=True, default=str).encode()).hexdigest()[:16]
