"""From fractions and concentrations to whole numbers of molecules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

SolventUnit = Literal["mass", "mole", "count"]
SaltUnit = Literal["molality", "molarity", "mole_fraction", "mass_fraction", "count"]

SPREAD = 0.05
"""Totals this far from the wish, as a share of it, are searched for the least rounding error."""


class Recipe(NamedTuple):
    """Stated amounts of solvents and salts by name, and what they are amounts of."""

    solvents: Mapping[str, float]
    solvent_unit: SolventUnit
    salts: Mapping[str, float]
    salt_unit: SaltUnit


def amounts(recipe: Recipe, mass_u: Mapping[str, float], density_g_cm3: float) -> dict[str, float]:
    """Relative numbers of molecules and formula units; `mass_u` in g/mol of each.

    Solvents in parts by mass, by number, or as counts. Salts in mol per kg of all solvents (`molality`), mol per litre
    of solution of this density (`molarity`), as a share of all molecules and formula units (`mole_fraction`) or of all
    mass (`mass_fraction`), or as counts. Raises `ValueError` on a composition that does not exist.
    """
    solvents, solvent_unit, salts, salt_unit = recipe
    if salts and (salt_unit == "count") != (solvent_unit == "count"):
        raise ValueError("counts of salts go with counts of solvents: give both in molecules, or neither")
    moles = {k: a / mass_u[k] if solvent_unit == "mass" else float(a) for k, a in solvents.items()}
    mass_g = sum(n * mass_u[k] for k, n in moles.items())
    if salts and not mass_g > 0 and salt_unit != "count":
        raise ValueError(f"salts in {salt_unit} need a solvent")
    if salt_unit in ("molality", "count"):
        scale = mass_g / 1000 if salt_unit == "molality" else 1.0
        return moles | {k: a * scale for k, a in salts.items()}
    if salt_unit == "molarity":
        # c = n / V with V = (mass_g + sum n M) / (1000 rho): linear in the moles n
        share = sum(a * mass_u[k] for k, a in salts.items()) / (1000 * density_g_cm3)
        scale = mass_g / (1000 * density_g_cm3 * (1 - share)) if share < 1 else -1.0
    else:
        share = sum(salts.values())
        whole = sum(moles.values()) if salt_unit == "mole_fraction" else mass_g
        scale = whole / (1 - share) if share < 1 else -1.0
    if scale < 0:
        raise ValueError(f"salts of {share:.3g} of the whole leave no room for the solvent")
    unit = mass_u if salt_unit == "mass_fraction" else dict.fromkeys(salts, 1.0)
    return moles | {k: a * scale / unit[k] for k, a in salts.items()}


def reached(
    numbers: Mapping[str, float], recipe: Recipe, mass_u: Mapping[str, float], density_g_cm3: float
) -> dict[str, float]:
    """What these `numbers` of molecules and formula units are in the units of the `recipe`.

    Parts of solvents add up to those that the recipe asks for.
    """
    solvents, solvent_unit, salts, salt_unit = recipe
    mass_g = {name: n * mass_u[name] for name, n in numbers.items()}
    parts = {name: (mass_g if solvent_unit == "mass" else numbers)[name] for name in solvents}
    scale = sum(solvents.values()) / (sum(parts.values()) or 1.0)
    whole: dict[SaltUnit, float] = {
        "molality": sum(mass_g[name] for name in solvents) / 1000,
        "molarity": sum(mass_g.values()) / (1000 * density_g_cm3),
        "mole_fraction": sum(numbers.values()),
        "mass_fraction": sum(mass_g.values()),
        "count": 1.0,
    }
    each = mass_g if salt_unit == "mass_fraction" else numbers
    return {n: part * scale for n, part in parts.items()} | {n: each[n] / whole[salt_unit] for n in salts}


def whole_numbers(wanted: Mapping[str, float], atoms: Mapping[str, int], n_atoms: int) -> dict[str, int]:
    """Counts of about `n_atoms` atoms in all, of the size near it that keeps the composition best.

    `atoms` gives the size of each unit. Every unit occurs at least once; raises `ValueError` if there is no room.
    """
    names = [name for name, amount in wanted.items() if amount > 0]
    share = np.array([wanted[name] for name in names]) / sum(wanted[name] for name in names)
    size = np.array([atoms[name] for name in names])
    middle = n_atoms / float(share @ size)
    totals = np.arange(max(1, int(middle * (1 - SPREAD))), int(np.ceil(middle * (1 + SPREAD))) + 1)
    counts = np.maximum(np.rint(totals[:, None] * share), 1)
    error = np.abs(counts / counts.sum(axis=1, keepdims=True) / share - 1).max(axis=1)
    # of compositions as good as each other the one nearest to the wish
    best = np.lexsort((np.abs(counts @ size - n_atoms), np.round(error, 3)))[0]
    if error[best] > 0.5:
        worst = names[int(np.argmax(np.abs(counts[best] / counts[best].sum() / share - 1)))]
        raise ValueError(f"{n_atoms} atoms are too few for a single {worst} in this composition; raise n_atoms")
    return {name: int(n) for name, n in zip(names, counts[best], strict=True)}
