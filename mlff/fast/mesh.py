"""The reciprocal sum of point charges by smooth particle-mesh Ewald, on the threads of an engine.

phi(r) = sum_{k != 0} G(k) S(k) exp(i k.r),  G = 4 pi k_e / V exp(-k^2 / 4 g^2) / k^2,  S(k) = sum_j q_j exp(-i k.r_j)

is what `coulomb.mesh_energies` computes: charges spread by B-splines of order 8, two Fourier transforms, and the field
gathered by the same splines; E_i = q_i phi_i / 2, dE/dq_i = phi_i, forces are the exact derivative of the energy. The
mesh is float32, which costs 1e-6 of the field; weights, forces and the sums over atoms are float64.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlff import coulomb
from mlff.coulomb import MESH_ORDER as ORDER
from mlff.fast.lanes import fill8, load8, store, total
from mlff.fast.team import Each, Team
from mlff.units import COULOMB

_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}

WEIGHTS = 6 * ORDER
"""Numbers kept for an atom: splines along x, y, z, then their slopes."""


class Field(NamedTuple):
    """Potential `(n,)` in kcal/mol/e, forces `(n, 3)` in kcal/mol/Å, virial `(3, 3)` in kcal/mol; float64."""

    potential: NDArray[np.float64]
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]


class ParticleMesh:
    """Meshes for one splitting g, kept from call to call; points at most `mesh_A` apart."""

    def __init__(self, splitting_per_A: float, mesh_A: float, team: Team) -> None:
        self.g, self.mesh_A, self.team = splitting_per_A, mesh_A, team
        self.size = (0, 0, 0)
        self.cell = np.zeros((3, 3))

    def field(self, positions: NDArray[np.float64], q: NDArray[np.float64], cell: NDArray[np.float64]) -> Field:
        """Potential, forces and virial of charges in a cell that repeats along all axes."""
        from scipy import fft

        self._prepare(cell)
        team, (kx, ky, kz), n = self.team, self.size, len(q)
        weights, start = np.empty((n, WEIGHTS), np.float32), np.empty((n, 3), np.int64)
        to_mesh = np.linalg.inv(cell) * self.size
        self.charge[:] = 0.0
        team.over(n, spread, positions, to_mesh, q, np.array(self.size), weights, start, Each(self.charge))

        def to_waves(thread: int, lo: int, hi: int) -> None:
            whole = self.charge[:, lo * self.plane : hi * self.plane].sum(axis=0).reshape(hi - lo, ky, kz + ORDER)
            whole[:, :, :ORDER] += whole[:, :, kz:]
            self.waves[lo:hi] = fft.rfftn(whole[:, :, :kz], axes=(1, 2))

        virials = np.zeros((team.threads, 3, 3))

        def convolve(thread: int, lo: int, hi: int) -> None:
            part = fft.fft(self.waves[:, lo:hi], axis=0)
            _convolve(part, lo, self.shape_of_cell, self.factor, self.stress_factor, kz, virials[thread])
            self.waves[:, lo:hi] = fft.ifft(part, axis=0, norm="forward", overwrite_x=True)

        def to_space(thread: int, lo: int, hi: int) -> None:
            potential = self.potential.reshape(kx, ky, kz + ORDER)[lo:hi]
            potential[:, :, :kz] = fft.irfftn(self.waves[lo:hi], s=(ky, kz), axes=(1, 2), norm="forward")
            potential[:, :, kz:] = potential[:, :, :ORDER]

        team.run(to_waves, kx)
        team.run(convolve, ky)
        team.run(to_space, kx)
        potential, forces = np.empty(n), np.empty((n, 3))
        team.over(n, gather, self.potential, np.array(self.size), weights, start, q, to_mesh, potential, forces)
        return Field(potential, forces, virials.sum(axis=0))

    def _prepare(self, cell: NDArray[np.float64]) -> None:
        """Meshes of the right size, and the factors of this cell."""
        size = coulomb.mesh_size(cell, self.mesh_A)
        if size != self.size:
            self.size = kx, ky, kz = size
            self.plane = ky * (kz + ORDER)
            self.charge = np.zeros((self.team.threads, kx * self.plane), np.float32)
            self.potential = np.zeros(kx * self.plane, np.float32)
            half = (kx, ky, kz // 2 + 1)
            self.waves = np.zeros(half, np.complex64)
            self.factor, self.stress_factor = np.zeros(half, np.float32), np.zeros(half, np.float32)
            self.frequencies = [m.numpy() for m in coulomb.mesh_frequencies(size)]
            self.splines = [
                coulomb.spline_factors(m, n, ORDER).numpy()
                for m, n in zip(coulomb.mesh_frequencies(size), size, strict=True)
            ]
        elif np.array_equal(cell, self.cell):
            return
        self.cell = cell.copy()
        self.shape_of_cell = 2.0 * math.pi * np.linalg.inv(cell)
        scale = 4.0 * math.pi * COULOMB / abs(np.linalg.det(cell))
        constants = (self.shape_of_cell, scale, self.g, *self.frequencies, *self.splines)
        self.team.over(self.size[0], influence, *constants, self.factor, self.stress_factor)


@njit(nogil=True, cache=True)
def _spline(f, weight, slope):
    """Splines M(f + j) and M'(f + j) at j = ORDER-1..0, so that they lie along ascending mesh points."""
    weight[0], weight[1] = f, 1.0 - f
    for n in range(3, ORDER + 1):
        if n == ORDER:
            slope[0] = weight[0]
            for k in range(1, n - 1):
                slope[k] = weight[k] - weight[k - 1]
            slope[n - 1] = -weight[n - 2]
        weight[n - 1] = (1.0 - f) * weight[n - 2] / (n - 1)
        for k in range(n - 2, 0, -1):
            weight[k] = ((f + k) * weight[k] + (n - k - f) * weight[k - 1]) / (n - 1)
        weight[0] = f * weight[0] / (n - 1)


@njit(**_FAST)
def spread(lo, hi, position, to_mesh, q, size, weights, start, mesh):
    """Add charges to a mesh whose last axis has ORDER points more than the box; keep splines and first points."""
    weight, slope = np.empty(ORDER), np.empty(ORDER)
    flat = weights.reshape(-1)
    ky, row = size[1], size[2] + ORDER
    for i in range(lo, hi):
        at = i * WEIGHTS
        for d in range(3):
            u = position[i, 0] * to_mesh[0, d] + position[i, 1] * to_mesh[1, d] + position[i, 2] * to_mesh[2, d]
            base = np.floor(u)
            _spline(u - base, weight, slope)
            for j in range(ORDER):
                flat[at + d * ORDER + j] = weight[ORDER - 1 - j]
                flat[at + (3 + d) * ORDER + j] = slope[ORDER - 1 - j]
            start[i, d] = (int(base) - (ORDER - 1)) % size[d]
        z = load8(flat, at + 2 * ORDER)
        for a in range(ORDER):
            x = start[i, 0] + a
            x -= size[0] if x >= size[0] else 0
            by_x = q[i] * flat[at + a]
            for b in range(ORDER):
                y = start[i, 1] + b
                y -= ky if y >= ky else 0
                to = (x * ky + y) * row + start[i, 2]
                moved = load8(mesh, to) + z * fill8(np.float32(by_x * flat[at + ORDER + b]))
                store(mesh, to, moved)  # type: ignore[call-arg]


@njit(**_FAST)
def influence(lo, hi, shape, scale, g, mx, my, mz, bx, by, bz, factor, stress_factor):
    """G(k) with the splines' factors, and G (1/k^2 + 1/4g^2), on planes `lo..hi`; 0 at k = 0."""
    smear = 1.0 / (4.0 * g * g)
    for a in range(lo, hi):
        for b in range(len(my)):
            for c in range(len(mz)):
                factor[a, b, c] = stress_factor[a, b, c] = 0.0
                kx = mx[a] * shape[0, 0] + my[b] * shape[0, 1] + mz[c] * shape[0, 2]
                ky = mx[a] * shape[1, 0] + my[b] * shape[1, 1] + mz[c] * shape[1, 2]
                kz = mx[a] * shape[2, 0] + my[b] * shape[2, 1] + mz[c] * shape[2, 2]
                k2 = kx * kx + ky * ky + kz * kz
                if k2 > 0.0:
                    value = scale * bx[a] * by[b] * bz[c] * math.exp(-k2 * smear) / k2
                    factor[a, b, c] = value
                    stress_factor[a, b, c] = value * (1.0 / k2 + smear)


@njit(**_FAST)
def _convolve(waves, first, shape, factor, stress_factor, kz, virial):
    """Multiply the waves of columns `first..` by G; add sum_k E_k [1 - 2 (1/k^2 + 1/4g^2) k k] to the virial."""
    n_x, n_y, n_z = waves.shape
    k_y = factor.shape[1]
    for a in range(n_x):
        m_a = a if 2 * a < n_x else a - n_x
        for b in range(n_y):
            m_b = first + b if 2 * (first + b) < k_y else first + b - k_y
            energy, s0, s1, s2 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for c in range(n_z):
                w = waves[a, b, c]
                # the half mesh holds one of k and -k
                twice = np.float32(1.0) if c == 0 or 2 * c == kz else np.float32(2.0)
                power = twice * (w.real * w.real + w.imag * w.imag)
                energy += power * factor[a, first + b, c]
                t = power * stress_factor[a, first + b, c]
                m = np.float32(c)
                s0 += t
                s1 += t * m
                s2 += t * m * m
                waves[a, b, c] = w * factor[a, first + b, c]
            for d in range(3):
                virial[d, d] += 0.5 * energy
                k_d, z_d = m_a * shape[d, 0] + m_b * shape[d, 1], shape[d, 2]
                for e in range(3):
                    k_e, z_e = m_a * shape[e, 0] + m_b * shape[e, 1], shape[e, 2]
                    virial[d, e] -= s0 * k_d * k_e + s1 * (k_d * z_e + z_d * k_e) + s2 * z_d * z_e


@njit(**_FAST)
def gather(lo, hi, mesh, size, weights, start, q, to_mesh, potential, force):
    """Potential at each atom, and -q times its slope."""
    flat = weights.reshape(-1)
    ky, row = size[1], size[2] + ORDER
    for i in range(lo, hi):
        at = i * WEIGHTS
        none = fill8(np.float32(0.0))
        value, by_x, by_y = none, none, none
        for a in range(ORDER):
            x = start[i, 0] + a
            x -= size[0] if x >= size[0] else 0
            w_x, s_x = flat[at + a], flat[at + 3 * ORDER + a]
            for b in range(ORDER):
                y = start[i, 1] + b
                y -= ky if y >= ky else 0
                w_y, s_y = flat[at + ORDER + b], flat[at + 4 * ORDER + b]
                points = load8(mesh, (x * ky + y) * row + start[i, 2])
                value += points * fill8(w_x * w_y)
                by_x += points * fill8(s_x * w_y)
                by_y += points * fill8(w_x * s_y)
        z, s_z = load8(flat, at + 2 * ORDER), load8(flat, at + 5 * ORDER)
        potential[i] = total(value * z)  # type: ignore[call-arg]
        gx, gy, gz = total(by_x * z), total(by_y * z), total(value * s_z)
        for d in range(3):
            force[i, d] = -q[i] * (gx * to_mesh[d, 0] + gy * to_mesh[d, 1] + gz * to_mesh[d, 2])
