"""A liquid by composition, or a user's own box: what `conf/system/*.yaml` describe."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from mlff.system.box import Box
from mlff.system.composition import Recipe, SaltUnit, SolventUnit, amounts, reached, whole_numbers
from mlff.system.molecules import Molecule, find_molecule, split_salt

Positive = Annotated[float, Field(gt=0)]
Amounts = list[Annotated[float, Field(gt=0)]]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Values:
    """Properties of a liquid from one source, measured or predicted by somebody else; null = not given there."""

    source: str
    temperature_K: Positive | None = None
    density_g_cm3: Positive | None = None
    viscosity_mPa_s: Positive | None = None
    conductivity_mS_cm: Positive | None = None
    nernst_einstein_mS_cm: Annotated[
        float | None, Field(gt=0, description="conductivity without correlations of ions")
    ] = None


WELL_MET = 0.05
"""A stated amount that a box misses by more than this share is told with the size that would meet it."""
UNITS = {
    "molality": "mol/kg",
    "molarity": "mol/L",
    "mole_fraction": "mole fraction",
    "mass_fraction": "mass fraction",
    "mass": "parts by mass",
    "mole": "parts by number",
}


class Reached(NamedTuple):
    """A stated amount of a solvent or salt, what whole molecules make of it, and its unit in words."""

    name: str
    asked: float
    reached: float
    unit: str

    @property
    def missed(self) -> float:
        """Relative deviation from what was asked for."""
        return abs(self.reached / self.asked - 1)


class Measured(NamedTuple):
    """A value, the temperature it belongs to (None = not stated), and where it is from."""

    value: float
    temperature_K: float | None
    source: str


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class System:
    """Composition, size and start of a box; raises pydantic's `ValidationError`, or `ValueError` at `counts`."""

    name: str
    solvents: Annotated[list[str], Field(description="names, SMILES or files of molecules")] = Field(
        default_factory=list
    )
    solvent_amounts: Annotated[Amounts, Field(description="one for each solvent")] = Field(default_factory=list)
    solvent_unit: Annotated[SolventUnit, Field(description="parts by mass or number, or counts")] = "mass"
    salts: Annotated[list[str], Field(description="LiPF6, or ions joined by a dot")] = Field(default_factory=list)
    salt_amounts: Annotated[Amounts, Field(description="one for each salt")] = Field(default_factory=list)
    salt_unit: Annotated[SaltUnit, Field(description="mol/kg of solvent, mol/L of solution, fractions or counts")] = (
        "molality"
    )
    n_atoms: Annotated[int, Field(ge=1, le=1_000_000, description="about so many atoms; not with counts")] = 500
    density_g_cm3: Annotated[float, Field(gt=0.01, le=30, description="density at which the box is packed")] = 1.0
    temperature_K: Annotated[float, Field(gt=0, le=2000, description="temperature unless md.temperature_K is set")] = (
        300.0
    )
    file: Annotated[str | None, Field(description="own box: PDB, extxyz, GROMACS .gro or LAMMPS data")] = None
    file_species: Annotated[
        list[str], Field(description="species of the file whose charge is not known: NAME=CHARGE by formula or residue")
    ] = Field(default_factory=list)
    measured: list[Values] = Field(default_factory=list)
    published: Annotated[list[Values], Field(description="predictions of others")] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> System:
        for kind in ("solvent", "salt"):
            names, values = getattr(self, f"{kind}s"), getattr(self, f"{kind}_amounts")
            if len(names) != len(values):
                raise ValueError(f"{len(names)} {kind}s and {len(values)} {kind}_amounts: give one for each")
            if doubled := {n for n in names if names.count(n) > 1}:
                raise ValueError(f"{kind}s name {min(doubled)} twice")
        if self.file is None and not (self.solvents or self.salts):
            raise ValueError("nothing to simulate: give solvents and solvent_amounts, or file")
        for kind, unit in (("solvent", self.solvent_unit), ("salt", self.salt_unit)):
            if unit == "count" and any(v != int(v) for v in getattr(self, f"{kind}_amounts")):
                raise ValueError(f"{kind}_amounts are counts and must be whole numbers")
        return self

    def molecules(self) -> dict[str, Molecule]:
        """Species of the box by name; raises `ValueError` that gives the nearest names, or two that are called alike."""
        names = [*self.solvents, *(ion for salt in self.salts for ion in split_salt(salt))]
        found = {name: find_molecule(name) for name in dict.fromkeys(names)}
        first: dict[str, str] = {}
        for name, molecule in found.items():
            other = first.setdefault(molecule.name, name)
            if not molecule.same_as(found[other]):
                raise ValueError(
                    f"{other} and {name} are different molecules, both called {molecule.name}: rename one of the files"
                )
        return found

    def counts(self) -> dict[str, int]:
        """Number of molecules and ions of each species; raises `ValueError` on a composition that cannot be made."""
        units, numbers, _ = self._numbers()
        counts: dict[str, int] = dict.fromkeys(self.molecules(), 0)
        for unit, n in numbers.items():
            for species, per_unit in units[unit].items():
                counts[species] += n * per_unit
        return counts

    def reached(self) -> list[Reached]:
        """Stated amounts beside those of the box's whole molecules; empty for counts and for a box from a file."""
        if self.file is not None or self._counted:
            return []
        _, numbers, mass_u = self._numbers()
        found = reached(numbers, self._recipe, mass_u, self.density_g_cm3)
        solvents, solvent_unit, salts, salt_unit = self._recipe
        told = {} if len(solvents) == 1 else dict.fromkeys(solvents, UNITS[solvent_unit])
        told |= dict.fromkeys(salts, UNITS[salt_unit])
        return [Reached(name, {**solvents, **salts}[name], found[name], unit) for name, unit in told.items()]

    def enough_atoms(self, share: float = WELL_MET) -> int | None:
        """The least `n_atoms` from the system's own on whose box misses no amount by more than `share`; None if none."""
        n, largest = self.n_atoms, min(1000 * self.n_atoms, 1_000_000)
        while n <= largest:
            if all(r.missed <= share for r in replace(self, n_atoms=n).reached()):
                return n
            n = 10 * (max(int(1.05 * n), n + 10) // 10)
        return None

    @property
    def _counted(self) -> bool:
        return self.solvent_unit == "count" or (self.salt_unit == "count" and not self.solvents)

    @property
    def _recipe(self) -> Recipe:
        solvents = dict(zip(self.solvents, self.solvent_amounts, strict=True))
        return Recipe(
            solvents, self.solvent_unit, dict(zip(self.salts, self.salt_amounts, strict=True)), self.salt_unit
        )

    def _numbers(self) -> tuple[dict[str, dict[str, int]], dict[str, int], dict[str, float]]:
        """Species of each solvent and formula unit, how many of these there are, and the mass of one in u."""
        molecules = self.molecules()
        units = {name: {name: 1} for name in self.solvents} | {salt: split_salt(salt) for salt in self.salts}
        mass = {u: sum(n * molecules[s].mass_u for s, n in parts.items()) for u, parts in units.items()}
        wanted = amounts(self._recipe, mass, self.density_g_cm3)
        if self._counted:
            return units, {name: int(n) for name, n in wanted.items()}, mass
        size = {u: sum(n * len(molecules[s].numbers) for s, n in parts.items()) for u, parts in units.items()}
        return units, whole_numbers(wanted, size, self.n_atoms), mass


def measured_at(values: Sequence[Values], name: str, temperature_K: float, within_K: float = 3.0) -> Measured | None:
    """The measured `name`, such as `density_g_cm3`, at a temperature; None if nothing is known near it.

    Between two temperatures of one source it is interpolated, else the nearest within `within_K` counts; values whose
    source states no temperature come last.
    """
    known = [v for v in values if getattr(v, name) is not None]
    dated = sorted((v for v in known if v.temperature_K is not None), key=lambda v: v.temperature_K or 0.0)
    for low, high in itertools.pairwise(dated):
        a, b = low.temperature_K or 0.0, high.temperature_K or 0.0
        if low.source == high.source and a < temperature_K < b and b - a <= 12:
            share = (temperature_K - a) / (b - a)
            value = (1 - share) * getattr(low, name) + share * getattr(high, name)
            return Measured(value, temperature_K, low.source)
    near = min(dated, key=lambda v: abs((v.temperature_K or 0.0) - temperature_K), default=None)
    if near is not None and abs((near.temperature_K or 0.0) - temperature_K) <= within_K:
        return Measured(getattr(near, name), near.temperature_K, near.source)
    rest = next((v for v in known if v.temperature_K is None), None)
    return None if rest is None else Measured(getattr(rest, name), None, rest.source)


def pack(system: System, seed: int) -> Box:
    """The start box of a system, the same for the same seed: from its file, or packed at its start density.

    Raises `ValueError` on unknown molecules, a charged or too small box, or one that cannot be packed; and on a file that
    holds another liquid than the composition, whose name and measured values it would get.
    """
    if system.file is not None:
        box = box_from_file(system.file, system.file_species)
        if system.solvents or system.salts:
            _check_composition(system, box)
        return box
    from mlff.system.packing import packed

    return packed(system.molecules(), system.counts(), system.density_g_cm3, seed)


def _check_composition(system: System, box: Box) -> None:
    """By formula, each count to within one molecule of its share, since a box of another size is rounded otherwise."""
    wanted = Counter[str]()
    molecules = system.molecules()
    for name, n in system.counts().items():
        wanted[_formula(molecules[name].numbers)] += n
    ends = np.cumsum(np.bincount(box.atoms.arrays["fragments"]))[:-1]
    found = Counter(_formula(numbers) for numbers in np.split(box.atoms.numbers, ends))
    scale = found.total() / wanted.total()
    if any(not found[f] or abs(found[f] - scale * n) > 1.0 for f, n in wanted.items()) or found.keys() - wanted.keys():
        raise ValueError(
            f"{system.file}: holds {box.composition}, which is not the composition of {system.name}; a box of your own "
            "is system=box system.file=..."
        )


def _formula(numbers: NDArray[np.int64]) -> str:
    return str(Atoms(numbers).get_chemical_formula("hill"))


def box_from_file(path: str, species: list[str] | None = None) -> Box:
    """A user's own box; see `mlff.system.box_files.read_box`."""
    from mlff.system.box_files import read_box

    return read_box(path, species or [])
