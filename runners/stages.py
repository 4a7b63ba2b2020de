"""Jobs inside a job: each is a command of its own with a folder and an MLflow run below that of the whole.

A stage that has ended leaves `done.json` beside its files, with the hash of its job; one that was killed goes on by the
means of its own runner. The command that is told does the same by hand.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from runners.compose import Source, flat_keys, resolve
from runners.explain import show
from runners.plan import make_plan

if TYPE_CHECKING:
    from runners.context import Context

DONE = "done.json"


@dataclass(frozen=True)
class Stage:
    """Name of a folder, and what would be typed."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """Folder, key results and wall time of a stage that has ended."""

    folder: Path
    results: Mapping[str, float]
    seconds: float


class Stages:
    """Runs stages below `folder`, those that are done already only by reading what they left."""

    def __init__(self, context: Context, folder: Path) -> None:
        self.context, self.folder = context, folder
        self.seconds: dict[str, float] = {}

    def run(self, stage: Stage, name: str = "") -> Ended:
        """Run one stage to its end; its errors are raised here. `name` begins every line of one among others."""
        from runners.context import job_hash
        from runners.job import log_to, run_job

        folder = self.folder / stage.name
        cfg = compose([*stage.overrides, *self._common(stage)])
        job = job_hash(make_plan(cfg, cfg.hydra).config)
        ended = self._known(folder, job) if self.context.resume else None
        command = shlex.join(["lsmrun", *stage.overrides])
        say = self.context.progress.say
        if ended is not None:
            say(f"== {stage.name}: done before, in {ended.seconds:.0f} s")
        else:
            say(f"== {stage.name}: {command}")
            folder.mkdir(parents=True, exist_ok=True)
            with read_write(cfg.hydra), open_dict(cfg.hydra):
                cfg.hydra.runtime.output_dir = str(folder)
            spent = self._spent(folder)
            started = time.monotonic()
            try:
                results = run_job(cfg, cfg.hydra, name=name) or {}
            finally:
                seconds = spent + time.monotonic() - started
                (folder / "seconds.txt").write_text(f"{seconds:.1f}\n", encoding="utf-8")
                log_to(self.context.output_dir / "lsmrun.log")
            content = {"job": job, "command": command, "results": results, "seconds": seconds}
            unfinished = folder / f"{DONE}.part"
            unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
            unfinished.replace(folder / DONE)
            ended = Ended(folder, results, seconds)
        self.seconds[stage.name] = ended.seconds
        return ended

    def _common(self, stage: Stage) -> list[str]:
        c = self.context
        seed = [] if any(o.startswith("seed=") for o in stage.overrides) else [f"seed={c.seed}"]
        told = [f"tracking.parent={c.tracker.run_id}"] if c.tracker.run_id else []
        paths = [f"paths.home={quoted(str(c.home))}", f"paths.data={quoted(str(c.data_root))}"]
        return [*seed, *told, *paths, f"tracking.name={stage.name}", f"threads={c.threads}", f"resume={show(c.resume)}"]

    @staticmethod
    def _known(folder: Path, job: str) -> Ended | None:
        path = folder / DONE
        if not path.exists():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["job"] != job:
            return None
        return Ended(folder, content["results"], content["seconds"])

    @staticmethod
    def _spent(folder: Path) -> float:
        """Seconds that earlier starts of an unfinished stage took."""
        path = folder / "seconds.txt"
        return float(path.read_text(encoding="utf-8")) if path.exists() and not (folder / DONE).exists() else 0.0


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a job, from inside another one: Hydra's own state is put aside and back."""
    whole = GlobalHydra.instance()
    before, whole.hydra = whole.hydra, None
    try:
        return Source().compose(list(overrides))
    finally:
        whole.hydra = before


@cache
def _plain(choices: tuple[str, ...]) -> DictConfig:
    return OmegaConf.create(resolve(compose(choices)))


def quoted(text: str) -> str:
    """A string that Hydra's grammar takes as it is; in quotes where it needs them."""
    if re.fullmatch(r"[A-Za-z_/][\w./-]*", text) and text.lower() not in ("null", "true", "false", "nan", "inf"):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def as_value(value: Any) -> str:
    """A plain value in Hydra's grammar."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_value, value))}]"
    return show(value)


def differing(section: str, choices: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Overrides that make `section` of the command `choices` what it is in `config`, those that are needed alone."""
    plain = _plain(tuple(choices))
    wanted = OmegaConf.create({section: config[section]})
    overrides = []
    for key in flat_keys({section: config[section]}):
        value = OmegaConf.select(wanted, key)
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        there = OmegaConf.select(plain, key, default=KeyError)
        there = OmegaConf.to_container(there) if OmegaConf.is_config(there) else there
        if there != value:
            overrides.append(f"{key}={as_value(value)}")
    return overrides
