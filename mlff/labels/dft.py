"""Labels from density functional theory by PySCF: restricted Kohn-Sham with density fitting, CHELPG charges."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlff.labels.methods import Computed, NotLabelled, check_electrons, gap_eV
from mlff.labels.potential_charges import fit_charges, grid_points
from mlff.units import BOHR_A, HARTREE_KCAL

_BLOCK_BYTES = 2**28


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Pyscf:
    """The level of theory of BAMBOO's labels is B3LYP/def2-SVPD with charges fitted to the potential and no dispersion.

    `correction` adds a Grimme term (`d3bj`, `d4`), which the labels then contain. Raises pydantic's `ValidationError`.
    """

    functional: str = "b3lyp"
    basis: str = "def2-svpd"
    correction: Annotated[Literal["none", "d3bj", "d4"], Field(description="dispersion added to the functional")] = (
        "none"
    )
    convergence_Eh: Annotated[float, Field(gt=0)] = 1e-10
    most_cycles: Annotated[int, Field(ge=1)] = 100
    grid_level: Annotated[int, Field(ge=0, le=9, description="of the integration grid")] = 3
    potential_spacing_A: Annotated[float, Field(gt=0, le=1, description="grid that charges are fitted on")] = 0.3

    @property
    def title(self) -> str:
        """`B3LYP/def2-svpd`, with the correction where there is one."""
        name = f"{self.functional.upper()}/{self.basis}"
        return name if self.correction == "none" else f"{name}-{self.correction}"

    @property
    def dispersion(self) -> Literal["included", "none"]:
        """None but by a correction: plain functionals such as B3LYP have no London dispersion."""
        return "none" if self.correction == "none" else "included"

    def compute(self, numbers: NDArray[np.int64], positions: NDArray[np.float64], charge: int) -> Computed:
        """Labels of an open cluster; raises `NotLabelled` where the orbitals do not become self-consistent."""
        from pyscf import gto

        check_electrons(numbers, charge)
        atoms = [(int(z), tuple(r)) for z, r in zip(numbers, positions, strict=True)]
        molecule = gto.M(atom=atoms, basis=self.basis, unit="Angstrom", charge=charge, verbose=0)
        field = self._solved(molecule)
        gradient = field.nuc_grad_method().kernel()
        points = grid_points(numbers, positions, self.potential_spacing_A)
        density = field.make_rdm1()
        charges = fit_charges(positions, points, potential(molecule, density, points / BOHR_A), charge)
        return Computed(
            energy=float(field.e_tot) * HARTREE_KCAL,
            forces=-np.asarray(gradient, np.float64) * (HARTREE_KCAL / BOHR_A),
            charges=charges,
            dipole=np.array(field.dip_moment(unit="Debye", verbose=0), np.float64),
            gap_eV=gap_eV(field.mo_energy, molecule.nelectron // 2),
        )

    def _solved(self, molecule: Any) -> Any:
        from pyscf import dft

        field = dft.RKS(molecule).density_fit()
        field.xc, field.conv_tol, field.max_cycle = self.functional, self.convergence_Eh, self.most_cycles
        field.grids.level = self.grid_level
        if self.correction != "none":
            field.disp = self.correction
        field.kernel()
        if not field.converged:
            field = field.newton()  # the second-order solver takes what the plain one cannot
            field.kernel()
        if not field.converged:
            raise NotLabelled(f"{self.title}: not self-consistent in {self.most_cycles} cycles")
        return field


def potential(molecule: Any, density: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Electrostatic potential `(n_points,)` in Hartree/e of nuclei and electrons at `points` `(n_points, 3)` in Bohr."""
    distance = np.linalg.norm(points[:, None] - molecule.atom_coords(), axis=2)
    nuclear = (molecule.atom_charges() / distance).sum(axis=1)
    block = max(1, _BLOCK_BYTES // (8 * molecule.nao**2))
    parts = [
        np.einsum("pij,ij->p", molecule.intor("int1e_grids", grids=points[k : k + block]), density)
        for k in range(0, len(points), block)
    ]
    return nuclear - np.concatenate(parts)
