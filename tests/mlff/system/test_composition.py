"""Fractions and concentrations to counts: each unit by the definition of the unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlff.system.composition import Recipe, amounts, reached, whole_numbers
from mlff.system.liquid import System, measured_at

MASS = {"EC": 88.062, "DMC": 90.078, "LiPF6": 151.905}


def _ratio(unit: str, value: float, density: float = 1.2) -> tuple[float, dict[str, float]]:
    found = amounts(Recipe({"EC": 1.0, "DMC": 1.0}, "mass", {"LiPF6": value}, unit), MASS, density)
    return sum(found[k] * MASS[k] for k in found), found


def test_solvents_by_mass_and_by_number() -> None:
    by_mass = amounts(Recipe({"EC": 3.0, "DMC": 7.0}, "mass", {}, "molality"), MASS, 1.0)
    assert by_mass["EC"] * MASS["EC"] / (by_mass["DMC"] * MASS["DMC"]) == pytest.approx(3 / 7)
    assert amounts(Recipe({"EC": 3.0, "DMC": 7.0}, "mole", {}, "molality"), MASS, 1.0) == {"EC": 3.0, "DMC": 7.0}


def test_salts_in_each_unit() -> None:
    mass, found = _ratio("molality", 1.1)
    solvent = mass - found["LiPF6"] * MASS["LiPF6"]
    assert found["LiPF6"] / (solvent / 1000) == pytest.approx(1.1)
    mass, found = _ratio("molarity", 1.0)
    assert found["LiPF6"] / (mass / 1.2 / 1000) == pytest.approx(1.0)
    mass, found = _ratio("mole_fraction", 0.1)
    assert found["LiPF6"] / sum(found.values()) == pytest.approx(0.1)
    mass, found = _ratio("mass_fraction", 0.12)
    assert found["LiPF6"] * MASS["LiPF6"] / mass == pytest.approx(0.12)
    counts = amounts(Recipe({"EC": 10.0}, "count", {"LiPF6": 2.0}, "count"), MASS, 1.0)
    assert counts == {"EC": 10.0, "LiPF6": 2.0}


@pytest.mark.parametrize(
    ("salt_unit", "value", "said"),
    [
        ("molarity", 9.0, "leave no room for the solvent"),
        ("mole_fraction", 1.0, "leave no room for the solvent"),
        ("count", 3.0, "counts of salts go with counts of solvents"),
    ],
)
def test_compositions_that_do_not_exist(salt_unit: str, value: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _ratio(salt_unit, value)


def test_a_salt_in_molality_needs_a_solvent() -> None:
    with pytest.raises(ValueError, match="salts in molality need a solvent"):
        amounts(Recipe({}, "mass", {"LiPF6": 1.0}, "molality"), MASS, 1.0)


def test_counts_are_near_the_size_and_keep_the_composition() -> None:
    counts = whole_numbers({"EC": 0.49 / 88.062, "DMC": 0.51 / 90.078}, {"EC": 10, "DMC": 12}, 1000)
    atoms = 10 * counts["EC"] + 12 * counts["DMC"]
    assert abs(atoms - 1000) < 60
    share = counts["EC"] * 88.062 / (counts["EC"] * 88.062 + counts["DMC"] * 90.078)
    assert share == pytest.approx(0.49, abs=0.006)
    assert whole_numbers({"A": 1.0, "B": 0.0}, {"A": 10, "B": 1}, 100) == {"A": 10}
    with pytest.raises(ValueError, match="100 atoms are too few for a single LiPF6"):
        whole_numbers({"EC": 100.0, "LiPF6": 1.0}, {"EC": 10, "LiPF6": 8}, 100)


def test_the_published_box_has_the_published_composition() -> None:
    system = System(
        name="box",
        solvents=["DMC", "EC"],
        solvent_amounts=[51.0, 49.0],
        salts=["LiPF6"],
        salt_amounts=[0.43],
        n_atoms=4116,
    )
    counts = system.counts()
    published = {"DMC": 182, "EC": 182, "Li": 14, "PF6": 14}
    assert counts.keys() == published.keys()
    assert all(abs(counts[k] / published[k] - 1) < 0.05 for k in counts)
    assert counts["Li"] == counts["PF6"]


@pytest.mark.parametrize(
    ("n_atoms", "counts", "found", "enough"),
    [(100, {"DMC": 8, "Li": 1, "PF6": 1}, 1.388, 130), (200, {"DMC": 15, "Li": 1, "PF6": 1}, 0.740, 260)],
)
def test_what_whole_molecules_make_of_an_amount_is_known_and_the_size_that_meets_it(
    n_atoms: int, counts: dict[str, int], found: float, enough: int
) -> None:
    system = System(name="x", solvents=["DMC"], solvent_amounts=[1.0], salts=["LiPF6"], salt_amounts=[1.0])
    small = replace(system, n_atoms=n_atoms)
    assert small.counts() == counts
    (salt,) = small.reached()
    assert salt == ("LiPF6", 1.0, pytest.approx(found, abs=5e-4), "mol/kg") and salt.missed > 0.05
    assert small.enough_atoms() == enough and replace(system, n_atoms=enough).reached()[0].missed <= 0.05


@pytest.mark.parametrize("salt_unit", ["molality", "molarity", "mole_fraction", "mass_fraction"])
@pytest.mark.parametrize("solvent_unit", ["mass", "mole"])
def test_amounts_that_are_reached_are_in_the_units_that_were_asked_in(solvent_unit: str, salt_unit: str) -> None:
    asked = Recipe({"EC": 3.0, "DMC": 7.0}, solvent_unit, {"LiPF6": 0.2}, salt_unit)
    found = reached(amounts(asked, MASS, 1.2), asked, MASS, 1.2)
    assert found == pytest.approx({"EC": 3.0, "DMC": 7.0, "LiPF6": 0.2})


def test_measured_values_are_found_by_temperature() -> None:
    from mlff.system.liquid import Values

    rows = [
        Values(source="a", temperature_K=298.0, density_g_cm3=1.1),
        Values(source="a", temperature_K=308.0, density_g_cm3=1.0),
        Values(source="b", viscosity_mPa_s=2.0),
    ]
    assert measured_at(rows, "density_g_cm3", 303.0) == (pytest.approx(1.05), 303.0, "a")
    assert measured_at(rows, "density_g_cm3", 310.0) == (1.0, 308.0, "a")
    assert measured_at(rows, "density_g_cm3", 330.0) is None
    assert measured_at(rows, "viscosity_mPa_s", 300.0) == (2.0, None, "b")
