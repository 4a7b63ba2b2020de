"""Liquids for runners: by the names of `conf/system/` where several are taken at once, and what their boxes consist of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from runners.check import UserError, build
from runners.options import CONF, suggest

if TYPE_CHECKING:
    from mlff.system.liquid import System
    from runners.context import Context


@dataclass(frozen=True)
class Target:
    """A liquid with its measured density, the temperature it was measured at, and the source."""

    system: System
    density_g_cm3: float
    temperature_K: float
    source: str

    @property
    def name(self) -> str:
        """Name of the liquid."""
        return self.system.name


def load_system(name: str, key: str, n_atoms: int | None = None) -> System:
    """The liquid of `conf/system/<name>.yaml`, or of a YAML file of the user's own; `key` is for messages.

    `n_atoms` overrides the size of its box. Raises `UserError`.
    """
    folder = CONF / "system"
    path = Path(name).expanduser() if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"{key}: {name}: no such system{suggest(name, [p.stem for p in folder.glob('*.yaml')])}")
    section: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    system: System = build(section.get("system", section), f"{key}: {name}")
    return system if n_atoms is None else replace(system, n_atoms=n_atoms)


def size_of(name: str, sizes: Sequence[str], key: str, otherwise: int | None) -> int | None:
    """Atoms of a liquid's box, from entries `NAME=ATOMS`; raises `UserError` for an entry that is none."""
    for entry in sizes:
        of, equals, atoms = entry.partition("=")
        if not equals or not atoms.isdigit() or int(atoms) < 1:
            raise UserError(f"{key}: {entry}: must be NAME=ATOMS, such as dmc=300")
        if of == name:
            return int(atoms)
    return otherwise


def target_of(system: System, key: str) -> Target:
    """Its measured density nearest to its own temperature; raises `UserError` where none is given with a temperature."""
    found = [v for v in system.measured if v.density_g_cm3 is not None and v.temperature_K is not None]
    if not found:
        raise UserError(f"{key}: {system.name}: no measured density with a temperature in its YAML")
    best = min(found, key=lambda v: abs((v.temperature_K or 0.0) - system.temperature_K))
    assert best.density_g_cm3 is not None and best.temperature_K is not None
    return Target(system, best.density_g_cm3, best.temperature_K, best.source)


def tell_composition(context: Context, system: System, size: str = "system.n_atoms={}", of: str = "") -> None:
    """Say and record what whole molecules in a packed box make of the stated amounts; warn where one is missed.

    `size` is how a user types the number of atoms, `of` a part of the metrics' names, such as that of one liquid of several.
    """
    from mlff.system.liquid import WELL_MET

    found = system.reached()
    if not found:
        return
    told = ", ".join(f"{r.name} {r.reached:.3g} {r.unit} (asked for {r.asked:.4g})" for r in found)
    context.progress.say(f"{system.name}: {told}")
    names = {f"composition/{of}{re.sub(r'[^A-Za-z0-9_.-]', '_', r.name)}": r.reached for r in found}
    context.tracker.metrics(names)
    worst = max(found, key=lambda r: r.missed)
    if worst.missed > WELL_MET:
        enough = system.enough_atoms()
        way = f"; {size.format(enough)} would meet it to {100 * WELL_MET:.0f} %" if enough else ""
        context.progress.warn(
            f"{system.name}: whole molecules in about {system.n_atoms} atoms give {worst.reached:.3g} {worst.unit} of "
            f"{worst.name}, {100 * (worst.reached / worst.asked - 1):+.0f} % from the {worst.asked:.4g} asked for{way}"
        )
