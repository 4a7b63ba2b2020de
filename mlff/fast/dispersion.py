"""D3-CSO dispersion of the element form, over the far neighbours of each atom; equations in `mlff/dispersion.py`."""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from mlff.dispersion import ELEMENT_FORM, SWITCH_A, ElementDispersion
from mlff.fast.skin import SkinList
from mlff.fast.team import Each, Team

_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


class Dispersion:
    """Constants of all elements, ready for `sum_pairs`; the form's cutoff is at most 11 Å (the exponential's range)."""

    def __init__(self, form: ElementDispersion, team: Team) -> None:
        a6, flat, bump, stretch = ELEMENT_FORM
        lift, width = (0.0, SWITCH_A) if form.smooth else (form.cutoff**-6, 0.0)
        self.constants = np.array([form.cutoff, a6, flat, bump, lift, width], np.float32)
        self.root = form.c6.sqrt().numpy().astype(np.float32)
        self.decay = torch.exp(-0.5 * stretch * form.r0).numpy().astype(np.float32)
        self.team = team

    def prepare(self, lists: SkinList, numbers: NDArray[np.int64]) -> None:
        """Constants of the extended atoms, for new lists."""
        z = numbers[lists.owner]
        self.of_atoms = (self.root[z], self.decay[z])

    def add(self, lists: SkinList, energy: NDArray[np.float64], force: Each, half_virial: Each) -> None:
        """Energies of atoms (written), forces and the upper triangle of the virial (added)."""
        arrays = (lists.far, lists.n_far, lists.itself, lists.single, *self.of_atoms, self.constants)
        self.team.over(len(lists.order), sum_pairs, *arrays, energy, force, half_virial)


@njit(**_FAST)
def sum_pairs(lo, hi, far, n_far, itself, xyz, root, decay, constants, energy, force, virial):
    """D3-CSO of the element form: every atom sums over all its neighbours, so nothing is written to others.

    exp(r - 2.5 R_ij) = exp(r) decay_i decay_j and C6_ij = root_i root_j: a pair is arithmetic on gathered numbers.
    `xyz` `(3, n_extended)` float32; `constants`: r_c, a^6, 0.85, 0.82, shift 1/r_c^6 or 0, width of the switch or 0.
    """
    cutoff, a6, flat, bump, lift, width = constants
    limit, start = cutoff * cutoff, cutoff - width
    per_width = _ONE / width if width > _ZERO else _ZERO
    x, y, z = xyz[0], xyz[1], xyz[2]
    for i in range(lo, hi):
        me = itself[i]
        xi, yi, zi, wi = x[me], y[me], z[me], decay[me]
        e, fx, fy, fz = _ZERO, _ZERO, _ZERO, _ZERO
        xx, xy, xz, yy, yz, zz = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for k in range(n_far[i]):
            j = far[i, k]
            dx, dy, dz = xi - x[j], yi - y[j], zi - z[j]
            r2 = dx * dx + dy * dy + dz * dz
            inside = _ONE if r2 < limit else _ZERO
            r = np.sqrt(r2)
            # exp(r) = exp(r / 16)^16, expanded about the middle of r = 0..10
            s = r * np.float32(1 / 16) - np.float32(0.3125)
            p = _ONE + s * np.float32(1 / 6)
            p = _ONE + s * np.float32(1 / 5) * p
            p = _ONE + s * np.float32(1 / 4) * p
            p = _ONE + s * np.float32(1 / 3) * p
            p = _ONE + s * np.float32(1 / 2) * p
            p = np.float32(1.3668379411737963) * (_ONE + s * p)
            p = p * p
            p = p * p
            p = p * p
            p = p * p
            fermi = _ONE / (_ONE + p * wi * decay[j])
            r6 = r2 * r2 * r2
            inverse = _ONE / (r6 + a6)
            bracket = flat + bump * fermi
            c6 = inside * root[j]
            u = -c6 * inverse * bracket
            # dU/dr
            du = c6 * inverse * (bump * fermi * (_ONE - fermi) + np.float32(6.0) * r2 * r2 * r * inverse * bracket)
            t = min(max((r - start) * per_width, _ZERO), _ONE)
            down = _ONE - t * t * t * (np.float32(10.0) - t * (np.float32(15.0) - np.float32(6.0) * t))
            du = du * down - u * np.float32(30.0) * per_width * t * t * (_ONE - t) * (_ONE - t)
            e += u * down + c6 * lift
            pull = du / r
            fx += pull * dx
            fy += pull * dy
            fz += pull * dz
            xx += pull * dx * dx
            xy += pull * dx * dy
            xz += pull * dx * dz
            yy += pull * dy * dy
            yz += pull * dy * dz
            zz += pull * dz * dz
        c = np.float64(root[me])
        energy[i] = 0.5 * c * e
        force[i, 0] -= c * fx
        force[i, 1] -= c * fy
        force[i, 2] -= c * fz
        virial[0] -= 0.5 * c * xx
        virial[1] -= 0.5 * c * xy
        virial[2] -= 0.5 * c * xz
        virial[4] -= 0.5 * c * yy
        virial[5] -= 0.5 * c * yz
        virial[8] -= 0.5 * c * zz
