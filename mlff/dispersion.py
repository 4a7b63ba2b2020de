"""London dispersion after D3 with the CSO damping, in two forms: C6 by element, or by coordination number.

element (Gong et al., 2025), r in Å, kcal/mol:
    U(r) = -C6_ij / (r^6 + 4.5^6) [0.85 + 0.82 / (1 + exp(r - 2.5 R_ij))]
    C6_ij = sqrt(C6_i C6_j), R_ij = (r0_i + r0_j)/2

coordination (Schroeder, Creon and Schwabe, 2015, with a4 of the 2025 release), Bohr and Hartree:
    U(r) = -C6_ij(CN) [1 + 0.86 / (1 + exp(r - 2.5 R0_ij))] / (r^6 + 7.75^6)

The published model adds C6_ij / r_c^6 to every pair of the element form and leaves a step at r_c = 10 Å in energy
and force; the smooth form multiplies U by a switch that goes from 1 to 0 over the last `SWITCH_A` with two continuous
derivatives.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from mlff.get import N_ROWS
from mlff.units import BOHR_A, HARTREE_KCAL

Form = Literal["element", "coordination"]

SWITCH_A = 2.0
"""Width of the smooth end of the dispersion (chosen by us)."""

C6_UNIT = 13.77916326454656
"""kcal/mol Å^6 for one atomic unit of C6, as in the published table (CODATA gives 13.77930)."""

BOHR_OF_TABLE = 0.52917721
ELEMENT_FORM = (4.5**6, 0.85, 0.82, 2.5)
"""a^6 in Å^6, and the bracket's constants of the element form."""

_D3CSO = (1.0, 0.86, 2.5)
_D3CSO_A6 = 7.75**6
_CN_STEEPNESS, _CN_WEIGHT = 16.0, 4.0


@lru_cache(maxsize=1)
def element_tables() -> tuple[Tensor, Tensor]:
    """C6 in kcal/mol Å^6 and r0 in Å, `(87,)` float64 each, index = atomic number, row 0 = 1; made from D3's data.

    C6 is the mean over all pairs of reference systems of the homonuclear C6 (Grimme et al., 2010), r0 the diagonal of
    D3's table of pair radii.
    """
    from tad_dftd3.reference import Reference
    from tad_mctc.data.radii import VDW_PAIRWISE

    cpu = torch.device("cpu")
    reference = Reference(dtype=torch.float64, device=cpu)
    homonuclear = torch.diagonal(reference.c6[:N_ROWS, :N_ROWS], dim1=0, dim2=1).permute(2, 0, 1)
    valid = reference.cn[:N_ROWS] >= 0
    both = valid[:, :, None] & valid[:, None, :]
    c6 = C6_UNIT * (homonuclear * both).sum((1, 2)) / both.sum((1, 2)).clamp(min=1)
    radii = torch.diagonal(VDW_PAIRWISE(dtype=torch.float64, device=cpu))[:N_ROWS]
    r0 = torch.round(radii * BOHR_OF_TABLE, decimals=4)
    c6[0] = r0[0] = 1.0
    return c6, r0


def switch(r: Tensor, cutoff: float) -> Tensor:
    """1 up to `cutoff - SWITCH_A`, 0 from the cutoff on, 1 - 10 t^3 + 15 t^4 - 6 t^5 between."""
    t = ((r - (cutoff - SWITCH_A)) / SWITCH_A).clamp(0.0, 1.0)
    return 1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t))


class ElementDispersion(nn.Module):
    """C6 and radius are constants of an element."""

    c6: Tensor
    r0: Tensor

    def __init__(self, cutoff_A: float, smooth: bool) -> None:
        super().__init__()
        self.cutoff, self.smooth = cutoff_A, smooth
        c6, r0 = element_tables()
        self.register_buffer("c6", c6.clone())
        self.register_buffer("r0", r0.clone())

    def forward(self, numbers: Tensor, i: Tensor, j: Tensor, r: Tensor) -> Tensor:
        """Energy of each pair `(n_pairs,)` in kcal/mol from distances `(n_pairs,)` in Å."""
        a6, s, a, b = ELEMENT_FORM
        root, half = self.c6.sqrt()[numbers], 0.5 * self.r0[numbers]
        c6, radius = root[i] * root[j], half[i] + half[j]
        u = -c6 / (r**6 + a6) * (s + a * torch.sigmoid(b * radius - r))
        return u * switch(r, self.cutoff) if self.smooth else u + c6 / self.cutoff**6


class CoordinationDispersion(nn.Module):
    """C6 follows each atom's coordination number, by D3's Gaussian weights over its reference systems."""

    reference_c6: Tensor
    reference_cn: Tensor
    radius: Tensor
    covalent: Tensor

    def __init__(self, cutoff_A: float, smooth: bool) -> None:
        from tad_dftd3.data import R4R2
        from tad_dftd3.reference import Reference
        from tad_mctc.data import COV_D3

        super().__init__()
        self.cutoff, self.smooth = cutoff_A, smooth
        cpu = torch.device("cpu")
        reference = Reference(dtype=torch.float64, device=cpu)
        self.register_buffer("reference_c6", reference.c6[:N_ROWS, :N_ROWS].contiguous(), persistent=False)
        self.register_buffer("reference_cn", reference.cn[:N_ROWS].clone(), persistent=False)
        self.register_buffer("radius", R4R2(dtype=torch.float64, device=cpu)[:N_ROWS], persistent=False)
        self.register_buffer("covalent", COV_D3(dtype=torch.float64, device=cpu)[:N_ROWS], persistent=False)

    def coordination(self, numbers: Tensor, i: Tensor, j: Tensor, r: Tensor) -> Tensor:
        """CN_i = sum_j 1 / (1 + exp(-16 (R_ij / r - 1))), `(n_atoms,)`, over pairs listed once; distances in Bohr."""
        bond = self.covalent[numbers][i] + self.covalent[numbers][j]
        count = torch.sigmoid(_CN_STEEPNESS * (bond / r - 1.0))
        if self.smooth:
            count = count * switch(r * BOHR_A, self.cutoff)
        return r.new_zeros(numbers.shape[0]).index_add(0, i, count).index_add(0, j, count)

    def weights(self, numbers: Tensor, cn: Tensor) -> Tensor:
        """Share of each reference system, `(n_atoms, n_references)`; a shift of the exponent keeps far CN finite."""
        reference = self.reference_cn[numbers]
        exponent = -_CN_WEIGHT * (cn[:, None] - reference) ** 2
        return torch.softmax(exponent.masked_fill(reference < 0, -torch.inf), dim=1)

    def forward(self, numbers: Tensor, i: Tensor, j: Tensor, r: Tensor) -> Tensor:
        """Energy of each pair `(n_pairs,)` in kcal/mol from distances `(n_pairs,)` in Å."""
        r_bohr = r / BOHR_A
        w = self.weights(numbers, self.coordination(numbers, i, j, r_bohr))
        # first leg of C6_ij = w_i C w_j for every partner element that occurs, then one product for each pair
        present, kind = torch.unique(numbers, return_inverse=True)
        half = torch.einsum("na,nkab->nkb", w, self.reference_c6[numbers][:, present])
        c6 = (half[i, kind[j]] * w[j]).sum(dim=1)
        s, a, b = _D3CSO
        radius = (3.0 * self.radius[numbers][i] * self.radius[numbers][j]).sqrt()
        u = -c6 * (s + a * torch.sigmoid(b * radius - r_bohr)) / (r_bohr**6 + _D3CSO_A6) * HARTREE_KCAL
        return u * switch(r, self.cutoff) if self.smooth else u
