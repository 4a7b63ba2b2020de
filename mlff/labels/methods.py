"""Labels from quantum chemistry: a method takes atoms and a charge, and gives energy, forces, charges and dipole.

`Tblite` is semi-empirical tight binding, hundredths of a second for a cluster; `mlff/dft.py` has density functionals.
Nothing here needs torch, so that the processes that label start at once.
"""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.units import BOHR_A, DEBYE_EA, HARTREE_KCAL, KCAL_PER_EV

HARTREE_EV = HARTREE_KCAL / KCAL_PER_EV
KELVIN_HARTREE = 3.166811563e-6
"""Boltzmann's constant in Hartree/K (CODATA 2018)."""


@plain_dataclass(frozen=True, eq=False)
class Computed:
    """What a method says of one arrangement.

    `energy` kcal/mol; `forces` `(n_atoms, 3)` kcal/mol/Å; `charges` `(n_atoms,)` e; `dipole` `(3,)` Debye, about the
    origin of the positions; `gap_eV` from the highest occupied to the lowest empty orbital.
    """

    energy: float
    forces: NDArray[np.float64]
    charges: NDArray[np.float64]
    dipole: NDArray[np.float64]
    gap_eV: float


class NotLabelled(RuntimeError):
    """A method gave no result for an arrangement; the message says why."""


class Method(Protocol):
    """What `mlff/labels/labelling.py` asks of a level of theory; it must survive a trip to another process."""

    @property
    def title(self) -> str:
        """What the labels are called in files."""

    @property
    def dispersion(self) -> Literal["included", "none"]:
        """Whether the energies contain London dispersion."""

    def compute(self, numbers: NDArray[np.int64], positions: NDArray[np.float64], charge: int) -> Computed:
        """Labels of an open, closed-shell cluster; `positions` Å, `charge` e. Raises `NotLabelled`."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Tblite:
    """GFN2-xTB (Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 15, 1652, 2019) or GFN1-xTB by tblite.

    Charges are Mulliken's. Without `include_dispersion` the D4 (GFN1: D3) term is taken out of the parameters; nothing
    is fitted again. Raises pydantic's `ValidationError` on a bad value.
    """

    method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB"
    include_dispersion: Annotated[bool, Field(description="false: it is to be added in the simulation")] = True
    accuracy: Annotated[float, Field(gt=0, le=10, description="of the self-consistency; 1 is tblite's own")] = 0.1
    most_cycles: Annotated[int, Field(ge=1)] = 250
    electrons_K: Annotated[float, Field(gt=0, description="temperature of the electrons")] = 300.0

    @property
    def title(self) -> str:
        """`GFN2-xTB`, or `GFN2-xTB without dispersion`."""
        return self.method if self.include_dispersion else f"{self.method} without dispersion"

    @property
    def dispersion(self) -> Literal["included", "none"]:
        """As the parameters are."""
        return "included" if self.include_dispersion else "none"

    def compute(self, numbers: NDArray[np.int64], positions: NDArray[np.float64], charge: int) -> Computed:
        """Labels of an open cluster; raises `NotLabelled` where the charges do not become self-consistent."""
        check_electrons(numbers, charge)
        found = self._solved(numbers, positions, charge)
        occupied = round(float(found["orbital-occupations"].sum()) / 2)
        return Computed(
            energy=float(found["energy"]) * HARTREE_KCAL,
            forces=-np.asarray(found["gradient"], np.float64) * (HARTREE_KCAL / BOHR_A),
            charges=np.array(found["charges"], np.float64),
            dipole=np.asarray(found["dipole"], np.float64) * (BOHR_A / DEBYE_EA),
            gap_eV=gap_eV(found["orbital-energies"], occupied),
        )

    def atom_energy(self, number: int) -> float:
        """Energy in kcal/mol of a neutral atom with as few unpaired electrons as it can have.

        The parameters know no spin polarisation, so that its spin hardly matters. Raises `NotLabelled`.
        """
        return float(self._solved(np.array([number]), np.zeros((1, 3)), 0)["energy"]) * HARTREE_KCAL

    def _solved(self, numbers: NDArray[np.int64], positions: NDArray[np.float64], charge: int) -> Any:
        from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
        from tblite.interface import Calculator

        method: Any = self.method if self.include_dispersion else _without_dispersion(self.method)
        try:
            calculator = Calculator(method, numbers, positions / BOHR_A, charge=float(charge), color=False)
            for name, value in (("verbosity", 0), ("accuracy", self.accuracy), ("max-iter", self.most_cycles)):
                calculator.set(name, value)
            calculator.set("temperature", self.electrons_K * KELVIN_HARTREE)
            return calculator.singlepoint()
        except (TBLiteRuntimeError, TBLiteValueError) as error:
            raise NotLabelled(f"{self.method}: {' '.join(str(error).split()) or 'no result'}") from error


def gap_eV(orbital_energies: NDArray[np.float64], occupied: int) -> float:
    """Energy from the highest of `occupied` orbitals to the next; infinite where the basis has no other. In: Hartree."""
    if not 0 < occupied < len(orbital_energies):
        return float("inf")
    ordered = np.sort(orbital_energies)
    return float(ordered[occupied] - ordered[occupied - 1]) * HARTREE_EV


def check_electrons(numbers: NDArray[np.int64], charge: int) -> None:
    """Raise `NotLabelled` unless the electrons can pair up."""
    electrons = int(np.sum(numbers)) - charge
    if electrons < 0 or electrons % 2:
        raise NotLabelled(f"{electrons} electrons (charge {charge:+d}) are no closed shell")


@cache
def _without_dispersion(method: str) -> dict[str, Any]:
    """The method's own parameters, less those of its dispersion term."""
    from tblite import library

    parameters, table = library.new_param(), library.new_table()
    export = library.export_gfn2_param if method == "GFN2-xTB" else library.export_gfn1_param
    export(parameters)
    library.dump_param(parameters, table)
    content: dict[str, Any] = library.table_to_dict(table)
    return {name: value for name, value in content.items() if name != "dispersion"}
