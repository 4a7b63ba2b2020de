"""From what was typed to one resolved configuration, with Hydra's errors told in the user's words."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runners.check import UserError, find_target, one_line
from runners.explain import pydantic_fields, show, unknown_key
from runners.options import Groups, find_groups, nearest, suggest
from runners.paths import home_folder

OmegaConf.register_new_resolver("lsmrun_home", lambda configured: str(home_folder(configured)), replace=True)


OPEN_MAPPINGS = ("tracking.tags",)
"""Keys that take any names below them."""

EXTRAS = {
    "hydra/launcher=joblib": "hydra_plugins.hydra_joblib_launcher",
    "hydra/launcher=submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "hydra/launcher=submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
    "hydra/sweeper=optuna": "optuna",
}
"""Choices that need the extra `sweeps`, with the module that tells whether it is installed."""
HYDRA_GROUPS: Groups = {
    group: {"basic": "", **{choice.partition("=")[2]: "" for choice in EXTRAS if choice.startswith(f"{group}=")}}
    for group in ("hydra/launcher", "hydra/sweeper")
}

IMPLIED: dict[tuple[str, ...], str] = {
    **{
        (f"runner={name}",): "model=mlff"
        for name in ("train", "label", "distill", "align", "loop", "md", "properties", "export")
    },
    **{("model=rram_lsm", f"data={data}"): "readout=linear_probe_ntidigits" for data in ("ntidigits", "fsdd")},
}
"""Choices that together say what another one is, where neither it nor an experiment is typed."""
FAULTS = (HydraException, OmegaConfBaseException, TypeError, ValueError)
"""What Hydra raises where something that was typed is wrong."""
OF_FRAMES = ("train", "valid", "test", "isolated", "keys", "units", "dispersion")
"""Keys of `data` that only frames have: where a saved model is evaluated they say that it is a force field."""


@dataclass(frozen=True)
class Source:
    """Where configurations are found: the built-in ones and a user's own folder."""

    config_dir: str | None = None
    config_name: str = "config"

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one job, Hydra's own part included; raises `UserError`."""
        try:
            return self._composed(overrides)
        except FAULTS as error:
            complete = self.add_left_out(overrides)
            if complete == list(overrides):
                raise self._explain(overrides, error) from error
        try:
            return self._composed(complete)
        except FAULTS as error:
            raise self._explain(overrides, error) from error

    def add_left_out(self, overrides: Sequence[str]) -> list[str]:
        """`overrides` with a `+` before keys that the class of a section takes and its YAML leaves out.

        Hydra changes only what a YAML shows, and neither a user's own nor those of the package show all.
        """
        groups = find_groups(self.config_dir)
        keys = {o: o.partition("=")[0] for o in overrides}
        typed = [o for o, key in keys.items() if "." in key and key[0] not in "+~" and not key.startswith("hydra.")]
        if not typed:
            return list(overrides)
        try:
            known = self._composed(
                [_first(o, groups) for o, key in keys.items() if key in groups or "hydra.searchpath" in key]
            )
        except (*FAULTS, UserError):
            return list(overrides)  # told by whoever composes all of it
        return [f"+{o}" if o in typed and _is_left_out(known, keys[o]) else o for o in overrides]

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        added = [*self._searched(overrides), *implied(overrides)]
        with initialize_config_module("conf", version_base="1.3", job_name="lsmrun"):
            return compose(self.config_name, overrides=[*overrides, *added], return_hydra_config=True)

    @contextlib.contextmanager
    def multirun(self, overrides: Sequence[str]) -> Iterator[tuple[HydraContext, DictConfig]]:
        """Hydra's context and the configuration that a sweep's launcher is made from; both hold inside the block."""
        told = [*overrides, *self._searched(overrides), *implied(overrides), "hydra.mode=MULTIRUN"]
        with initialize_config_module("conf", version_base="1.3", job_name="lsmrun"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            config = hydra.compose_config(self.config_name, told, run_mode=RunMode.MULTIRUN)
            yield HydraContext(hydra.config_loader, Callbacks(config)), config

    def _searched(self, overrides: Sequence[str]) -> list[str]:
        """The override that adds the user's own folder; raises `UserError` if there is no such folder."""
        if self.config_dir is None or any(o.lstrip("+").startswith("hydra.searchpath") for o in overrides):
            return []
        if not Path(self.config_dir).is_dir():
            raise UserError(f"--config-dir {self.config_dir}: no such folder")
        return [f"hydra.searchpath=['file://{Path(self.config_dir).absolute()}']"]

    def _explain(self, overrides: Sequence[str], error: Exception) -> UserError:
        """Find the override that is wrong and say what is allowed instead."""
        groups = find_groups(self.config_dir)
        try:
            parsed = [parse(text, groups) for text in overrides]
            for override in parsed:
                check_is_installed(f"{override.key_or_group}={override.value()}")
                _check_choice(override, groups)
            _check_is_used(parsed, groups, error)
            choices = [o for o in parsed if o.key_or_group in groups or o.key_or_group.startswith("hydra/")]
            if len(choices) < len(parsed):
                known = self.compose([str(o.input_line) for o in choices])
                for override in parsed:
                    _check_key(override, known, groups)
        except UserError as found:
            return found
        return UserError(one_line(error))


def implied(overrides: Sequence[str]) -> list[str]:
    """What follows from the choices that are typed (`IMPLIED`)."""
    found = {other for choices, other in IMPLIED.items() if set(choices) <= set(overrides)}
    typed = {o.partition("=")[0] for o in overrides}
    of_frames = any(t.startswith("data.") and t.split(".")[1] in OF_FRAMES for t in typed)
    if "runner=evaluate" in overrides and of_frames and "model" not in typed:
        found.add("data=frames")
    return sorted(o for o in found if o.partition("=")[0] not in typed and "experiment" not in typed)


def let_open(override: str) -> str:
    """The override as Hydra wants it where new names are welcome: `tracking.tags.team=red` with a `++` before it."""
    key = override.partition("=")[0]
    return f"++{override}" if any(key == open_ or key.startswith(f"{open_}.") for open_ in OPEN_MAPPINGS) else override


def quoted(override: str) -> str:
    """The override with quotes around what holds an equals sign in a plain list, as Hydra wants it: `[F6P=-1]`."""
    key, equals, value = override.partition("=")
    if not re.fullmatch(r"\[[^][{}()'\"\\\\$]*=[^][{}()'\"\\\\$]*\]", value):
        return override
    entries = [f'"{e.strip()}"' if "=" in e else e for e in value[1:-1].split(",")]
    return f"{key}{equals}[{','.join(entries)}]"


def parse(text: str, groups: Groups) -> Override:
    """One typed override; raises `UserError` if it is none."""
    if "=" in text and not text.partition("=")[0].strip("+~ "):
        raise UserError(f"{text}: expected KEY=VALUE")  # Hydra finds no fault with it
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        if "=" not in text:
            options = [f"{group}={option}" for group, names in groups.items() for option in names]
            best = next((o for o in options if o.partition("=")[2] == text), None) or nearest(text, options)
            hint = f"; did you mean {best}?" if best else ""
            raise UserError(f"{text}: expected KEY=VALUE{hint}") from error
        key, _, value = text.partition("=")
        raise UserError(f"{text}: {value or 'nothing'} cannot be read as the value of {key}; quote it") from error


def check_is_installed(choice: str) -> None:
    """Raise `UserError` if this choice of launcher or sweeper needs packages that are not there."""
    module = EXTRAS.get(choice)
    if module is None:
        return
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package above it is not there either
        found = False
    if not found:
        raise UserError(f"{choice}: not installed; pip install 'lsmrun[sweeps]'")


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Plain values without Hydra's part; raises `UserError` for a reference that leads nowhere."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        config = OmegaConf.to_container(own, resolve=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}


def _check_choice(override: Override, groups: Groups) -> None:
    group = override.key_or_group
    value = override.value()
    groups = {**groups, **HYDRA_GROUPS}
    if group not in groups or override.is_delete() or value is None:
        return
    if str(value) not in groups[group]:  # a mapping cannot be looked up
        raise UserError(f"{group}={show(value)}: no such option{suggest(str(value), list(groups[group]))}")


def _check_is_used(parsed: Sequence[Override], groups: Groups, error: Exception) -> None:
    """Raise `UserError` if Hydra found a good choice in a group that nothing else chosen has a place for."""
    for override in parsed:
        group = override.key_or_group
        if group in groups and f"Could not override '{group}'" in str(error):
            chosen = [
                f"{o.key_or_group}={show(o.value())}" for o in parsed if o.key_or_group in ("model", "experiment")
            ]
            raise UserError(
                f"{group}={show(override.value())}: {' '.join(chosen) or 'the default model'} has no {group}"
            )


def _first(text: str, groups: Groups) -> str:
    """The first of the choices that a sweep is over; what is no sweep stays as it is."""
    override = parse(text, groups)
    return (
        f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        if override.is_sweep_override()
        else text
    )


def _is_left_out(known: DictConfig, key: str) -> bool:
    """Whether the class of a section takes this key, and the section does not show it."""
    section, _, name = key.rpartition(".")
    node = OmegaConf.select(known, section, default=None)
    return isinstance(node, DictConfig) and name not in node and name in _taken(node, section)


def _taken(node: DictConfig, section: str) -> list[str]:
    """Keys that the class of a section takes, as far as it says so."""
    try:
        return list(pydantic_fields(find_target(node["_target_"], section)) or {}) if "_target_" in node else []
    except UserError:
        return []


def _check_key(override: Override, known: DictConfig, groups: Groups) -> None:
    key = override.key_or_group
    if key in groups or override.is_add() or key.startswith("hydra/"):
        return
    section, _, name = key.rpartition(".")
    holder, _, last = section.rpartition(".")
    node = OmegaConf.select(known, holder) if holder else known
    if isinstance(node, DictConfig) and last in node and OmegaConf.is_interpolation(node, last):
        raise UserError(f"{key}={show(override.value())}: {section} is the section {last}; give {last}.{name}=...")
    parent = OmegaConf.select(known, section) if section else known
    value = OmegaConf.select(known, key, default=KeyError)
    if value is not KeyError or (isinstance(parent, DictConfig) and name in parent):  # ??? is a key without a value
        return
    if _is_left_out(known, key):
        return
    if isinstance(parent, DictConfig) and section:
        allowed = dict.fromkeys([*(str(k) for k in parent if k != "_target_"), *_taken(parent, section)])
        raise UserError(unknown_key(section, name, override.value(), list(allowed)))
    config = resolve(known)
    top = sorted({*config, *groups})
    hint = suggest(key, top, shown=20, also=flat_keys(config))
    raise UserError(f"{key}={show(override.value())}: unknown key{hint}")


def flat_keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    """All dotted keys of a configuration, `_target_` aside."""
    keys: list[str] = []
    for key, value in config.items():
        if key == "_target_":
            continue
        keys += flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return keys
