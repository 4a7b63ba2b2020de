"""One job, checked in full before any of it starts."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runners.check import Options, UserError, build, check_kinds, read_options
from runners.compose import resolve
from runners.context import NEEDS, NOT_PART_OF_THE_JOB, SECTIONS, Subject
from runners.explain import show
from runners.options import CONF
from runners.paths import check_folder, home_folder
from runners.run_names import flatten


@dataclass(frozen=True)
class Plan:
    """A configuration and the objects that it describes."""

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    options: Options
    runner: Any
    parts: dict[str, Any]
    """Objects by section; only those that the runner needs."""

    @property
    def is_tracked(self) -> bool:
        """Whether the runner wants an MLflow run."""
        return bool(getattr(self.runner, "tracked", True))

    @property
    def experiment(self) -> str:
        """`classify/mnist`: what runs of the same task on the same data, or the same liquid, share."""
        subject = "system" if "system" in self.parts else "data"
        names = [self.chosen[group] for group in ("runner", subject) if group in self.chosen]
        return self.options.tracking.experiment or "/".join(names)

    @property
    def chosen(self) -> dict[str, str]:
        """The choices of our own groups that the run depends on, as they are typed: model=nalsm, data=mnist."""
        idle = self._idle
        return {g: option for g, option in self.choices.items() if not g.startswith("hydra/") and g not in idle}

    @property
    def params(self) -> dict[str, Any]:
        """What the run is, as flat keys; how it is made (paths, threads) is left to the artifact `config.yaml`."""
        idle = self._idle
        own = {k: v for k, v in self.config.items() if k not in NOT_PART_OF_THE_JOB and k not in idle}
        for name in own:
            if borrowed := _borrowed(self.config, name):  # told once, as the section of its own
                own[name] = {key: value for key, value in own[name].items() if key not in borrowed}
        flat = flatten(own)
        return {key: value for key, value in flat.items() if not key.endswith("_target_")} | self.chosen

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run: what was chosen, and the user's own."""
        own = {key: str(value) for key, value in self.options.tracking.tags.items()}
        return {f"lsmrun.{group}": option for group, option in self.chosen.items()} | own

    def tags_of_all(self, varied: Collection[str]) -> dict[str, str]:
        """Those of the tags that hold for every job of a sweep over `varied`, of which this is the first.

        Where choices or saved models vary, what was not typed may vary with them.
        """
        unsure = set(varied)
        if unsure & {*self.choices, "checkpoint"} or self.options.checkpoints:
            unsure |= set(self.chosen) - {o.lstrip("+").partition("=")[0] for o in self.overrides}
        return {name: value for name, value in self.tags.items() if name.removeprefix("lsmrun.") not in unsure}

    @property
    def _idle(self) -> set[str]:
        """Sections that nothing here needs: what stands in them are defaults, which say nothing of the run."""
        unused = set(SECTIONS) - set(self.parts)
        used = {name for part in (*self.parts, "runner") for name in _borrowed(self.config, part)}
        return (unused | {name for part in unused for name in _borrowed(self.config, part)}) - used

    def about(self, subject: Subject) -> Plan:
        """The plan as its run tells it: with the model that is its subject in the place of the one that was chosen."""
        told = {*subject.keys, *(name for key in subject.keys for name in _borrowed(subject.config, key))}
        config = self.config | {key: subject.config[key] for key in told if key in subject.config}
        choices = {group: option for group, option in self.choices.items() if group not in told}
        choices |= {group: option for group, option in subject.choices.items() if group in told}
        sections = {key: None for key in subject.keys if key in SECTIONS and key in subject.config}
        return replace(self, config=config, choices=choices, parts=self.parts | sections)


def make_plan(cfg: DictConfig, hydra: DictConfig) -> Plan:
    """Build and check everything that a job needs; `cfg` is the job's part, `hydra` Hydra's. Raises `UserError`."""
    folders = [Path(s.path) for s in hydra.runtime.config_sources if s.schema == "file"]
    for folder in map(str, (Path.cwd(), *folders)):  # where a user's own classes are found
        if folder not in sys.path:
            sys.path.append(folder)
    choices = {str(group): str(option) for group, option in hydra.runtime.choices.items() if option is not None}
    config = resolve(cfg)
    options = read_options(config, sections=(*choices, *NEEDS, "runner"))
    for name in ("hydra", "artifacts"):
        check_folder(home_folder(options.paths.home) / name, "of what runs write (LSMRUN_HOME, else paths.home)")
    runner = build(_section(config, "runner"), "runner")
    if not callable(getattr(runner, "run", None)):
        raise UserError(f"runner={choices.get('runner')}: {type(runner).__name__} has no run(context)")
    if options.checkpoints and not getattr(runner, "reads_checkpoint", True):
        raise UserError(
            f"checkpoint={show(options.checkpoint)}: runner={choices.get('runner')} reads no saved model; "
            "runner=evaluate scores one, runner=predict labels files with it"
        )
    if len(options.checkpoints) > 1 and not getattr(runner, "committee", False):
        raise UserError(f"checkpoint={show(options.checkpoint)}: runner={choices.get('runner')} takes one model")
    needs = getattr(runner, "needs", NEEDS)
    for part in (part for name in needs for part in _borrowed(config, name)):
        build(config[part], part)  # so that its errors are told under the name that the user typed
    parts = {name: build(_section(config, name), name) for name in needs}
    check_kinds(parts.get("model"), parts.get("data"), choices, lambda: _data_targets([CONF, *folders]))
    overrides = tuple(hydra.overrides.task)
    typed = sorted(o.lstrip("+") for o in overrides if o.lstrip("+").startswith("model."))
    if typed and "model" not in needs:  # they change a saved model, whatever the section says of them: another job
        config["typed"] = typed
    return Plan(config, choices, overrides, options, runner, parts)


def _borrowed(config: Mapping[str, Any], name: str) -> list[str]:
    """Sections that the section `name` refers to as a whole, as in `model.device: ${device}`."""
    section = config.get(name)
    if not isinstance(section, Mapping):
        return []
    return [k for k, v in section.items() if isinstance(v, Mapping) and "_target_" in v and v == config.get(k)]


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    if not isinstance(section, Mapping) or "_target_" not in section:
        raise UserError(f"{name}: nothing is chosen; give {name}=<option> (lsmrun --help lists them)")
    return section


def _data_targets(folders: Sequence[Path]) -> dict[str, str]:
    """The class that each option of `data` names."""
    targets = {}
    for path in (path for folder in folders for path in sorted((folder / "data").glob("*.yaml"))):
        loaded = OmegaConf.load(path)
        if isinstance(loaded, DictConfig) and "_target_" in loaded:
            targets[path.stem] = str(loaded["_target_"])
    return targets
