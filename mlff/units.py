"""Units and constants of the force field: Å, kcal/mol, kcal/mol/Å, elementary charge e; LAMMPS calls this set `real`.

ASE counts in eV; every conversion is done with the constants below, at the border (`calculator.py`, label files).
"""

from __future__ import annotations

COULOMB = 332.06349451357806
"""k_e = e^2 / (4 pi eps0), kcal Å/mol/e^2, with the value that the published weights were trained with."""

KCAL_PER_EV = 23.060547830619026
"""kcal/mol in one eV (CODATA 2018)."""

MEV_PER_KCAL = 1000.0 / KCAL_PER_EV
"""meV in one kcal/mol: what errors are reported in."""

DEBYE_EA = 0.20819427381112157
"""One Debye in e Å."""

ATM_PER_KCAL_A3 = 68568.46780162843
"""Pressure of 1 kcal/mol/Å^3 in atm (LAMMPS `nktv2p`)."""

BOHR_A = 0.529177210903
"""One Bohr in Å (CODATA 2018)."""

HARTREE_KCAL = 627.5094740631
"""One Hartree in kcal/mol (CODATA 2018)."""
