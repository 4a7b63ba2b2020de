"""Viscosity of the Lennard-Jones fluid by `mlff.transport`, beside published values: `python -m benchmarks.lennard_jones`.

The fluid is truncated and shifted at 2.5 sigma and simulated at constant energy by a small program of our own, so that
the analysis is tested alone. Published: the correlation of Lautenschlaeger and Hasse (Fluid Phase Equilib. 482, 38
(2019)) for this very fluid, and 3.24 +- 0.04 of Ferrario et al. (Phys. Rev. A 44, 6936 (1991)) at the triple point.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import constants

from benchmarks import table
from mlff.transport import Centres, Diffusion, Viscosity, displacements, self_diffusion, viscosity
from mlff.transport.blocks import Estimate

SIGMA_A, EPSILON_K, MASS_U = 3.405, 119.8, 39.948
"""Argon: so that units are part of the test."""
STEP = 0.004
CUTOFF, SKIN = 2.5, 0.35
FRAME_EVERY = 50

PRESSURE_ATM = constants.k * EPSILON_K / (SIGMA_A * 1e-10) ** 3 / constants.atm
TIME_PS = SIGMA_A * 1e-10 * (MASS_U * constants.atomic_mass / (constants.k * EPSILON_K)) ** 0.5 * 1e12
VISCOSITY_MPA_S = (MASS_U * constants.atomic_mass * constants.k * EPSILON_K) ** 0.5 / (SIGMA_A * 1e-10) ** 2 * 1e3
DIFFUSION_M2_S = (SIGMA_A * 1e-10) ** 2 / (TIME_PS * 1e-12)
"""Reduced units in ours."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """Pressure tensors `(n_steps, 6)`, positions of every 50th step, and mean temperature; all in reduced units."""

    pressure: Floats
    positions: Floats
    temperature: float
    edge: float


def published_viscosity(density: float, temperature: float) -> float:
    """Reduced viscosity of the fluid truncated and shifted at 2.5 sigma (Lautenschlaeger and Hasse 2019)."""
    liquid = 0.5736 * density * np.exp(1.38 * density + (2.438 * density**4 - density) / temperature)
    gas = 0.1786 + 0.06529 * temperature - 1.158 * density + 1.347 * density**2 + 0.3194 * density / temperature
    return float(liquid + gas)


def simulate(cells: int, density: float, temperature: float, n_steps: int, seed: int, n_warm: int = 5000) -> Run:
    """4 cells^3 atoms from a crystal, warmed with rescaled velocities, then at constant energy."""
    n = 4 * cells**3
    edge = (n / density) ** (1 / 3)
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    x = ((grid + corners).reshape(-1, 3) + 0.25) * edge / cells
    v = np.random.default_rng(seed).standard_normal((n, 3)) * temperature**0.5
    v -= v.mean(axis=0)
    for steps, times in ((50, n_warm // 100), (n_warm // 2, 1)):
        for _ in range(times):
            v *= (temperature * 3 * (n - 1) / (v * v).sum()) ** 0.5
            advance(x, v, edge, steps)
    v *= (temperature * 3 * (n - 1) / (v * v).sum()) ** 0.5
    pressure, frames, kinetic = advance(x, v, edge, n_steps)
    return Run(pressure, frames, float(2 * kinetic / (3 * (n - 1))), edge)


def analysed(runs: list[Run], n_blocks: int) -> tuple[Viscosity, Diffusion, float]:
    """Viscosity in reduced units (through mPa s and back), self-diffusion, and the temperature in reduced units."""
    temperature = float(np.mean([r.temperature for r in runs]))
    volume = (runs[0].edge * SIGMA_A) ** 3
    eta = viscosity(
        [r.pressure * PRESSURE_ATM for r in runs], STEP * TIME_PS, volume, temperature * EPSILON_K, n_blocks=n_blocks
    )
    n = runs[0].positions.shape[1]
    dt = FRAME_EVERY * STEP * TIME_PS
    tracks = [Centres(dt, r.positions * SIGMA_A, np.full(n, MASS_U), np.zeros(n), ("Ar",) * n) for r in runs]
    d = self_diffusion(
        displacements(tracks, n_blocks=n_blocks),
        viscosity_mPa_s=eta.eta,
        volume_A3=volume,
        temperature_K=temperature * EPSILON_K,
    )[0]
    return eta, d, temperature


@njit(cache=True)
def neighbours(x: Floats, edge: float, first: NDArray[np.int64], second: NDArray[np.int64]) -> int:  # pragma: no cover
    """Pairs within the cutoff and the skin; returns their number."""
    count = 0
    for i in range(len(x) - 1):
        for j in range(i + 1, len(x)):
            r2 = 0.0
            for k in range(3):
                d = x[i, k] - x[j, k]
                d -= edge * np.round(d / edge)
                r2 += d * d
            if r2 < (CUTOFF + SKIN) ** 2:
                first[count], second[count] = i, j
                count += 1
    return count


@njit(cache=True, fastmath=True)
def forces(
    x: Floats, edge: float, first: NDArray[np.int64], second: NDArray[np.int64], count: int, f: Floats, w: Floats
) -> None:  # pragma: no cover
    """Forces, and the virial xx yy zz yz xz xy."""
    f[:] = 0.0
    w[:] = 0.0
    for p in range(count):
        i, j = first[p], second[p]
        dx, dy, dz = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
        dx -= edge * np.round(dx / edge)
        dy -= edge * np.round(dy / edge)
        dz -= edge * np.round(dz / edge)
        r2 = dx * dx + dy * dy + dz * dz
        if r2 < CUTOFF**2:
            s6 = 1.0 / r2**3
            g = 48.0 * (s6 - 0.5) * s6 / r2
            f[i, 0] += g * dx
            f[i, 1] += g * dy
            f[i, 2] += g * dz
            f[j, 0] -= g * dx
            f[j, 1] -= g * dy
            f[j, 2] -= g * dz
            w[0] += g * dx * dx
            w[1] += g * dy * dy
            w[2] += g * dz * dz
            w[3] += g * dy * dz
            w[4] += g * dx * dz
            w[5] += g * dx * dy


@njit(cache=True)
def advance(x: Floats, v: Floats, edge: float, n_steps: int) -> tuple[Floats, Floats, float]:  # pragma: no cover
    """Velocity Verlet, in place; positions stay unwrapped. Pressures, frames and the mean kinetic energy."""
    n = len(x)
    room = n * 120
    first, second = np.empty(room, np.int64), np.empty(room, np.int64)
    f, w, at = np.zeros((n, 3)), np.zeros(6), x.copy()
    pressure, frames = np.empty((n_steps, 6)), np.empty((n_steps // FRAME_EVERY, n, 3))
    count = neighbours(x, edge, first, second)
    forces(x, edge, first, second, count, f, w)
    mean = 0.0
    for step in range(n_steps):
        moved = 0.0
        for i in range(n):
            r2 = 0.0
            for k in range(3):
                v[i, k] += 0.5 * STEP * f[i, k]
                x[i, k] += STEP * v[i, k]
                r2 += (x[i, k] - at[i, k]) ** 2
            moved = max(moved, r2)
        if moved > (0.5 * SKIN) ** 2:
            count = neighbours(x, edge, first, second)
            at[:] = x
        forces(x, edge, first, second, count, f, w)
        kinetic = w.copy()
        for i in range(n):
            for k in range(3):
                v[i, k] += 0.5 * STEP * f[i, k]
            a, b, c = v[i, 0], v[i, 1], v[i, 2]
            kinetic[0] += a * a
            kinetic[1] += b * b
            kinetic[2] += c * c
            kinetic[3] += b * c
            kinetic[4] += a * c
            kinetic[5] += a * b
            mean += 0.5 * (a * a + b * b + c * c)
        pressure[step] = kinetic / edge**3
        if step % FRAME_EVERY == 0 and step // FRAME_EVERY < len(frames):
            frames[step // FRAME_EVERY] = x
    return pressure, frames, mean / n_steps


STATES = ((0.8442, 0.722, 3.24), (0.7, 1.0, None), (0.8, 1.5, None))
"""Density, temperature, and the published viscosity of the triple point."""


def main() -> None:
    """Simulate the states, print and write a row of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=5, help="4 cells^3 atoms")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--results", type=Path, default=table.RESULTS)
    options = parser.parse_args()
    rows = []
    for density, wanted, known in STATES:
        runs = [simulate(options.cells, density, wanted, options.steps, seed) for seed in range(options.replicas)]
        eta, d, temperature = analysed(runs, 5)
        reduced = eta.eta.scaled(1 / VISCOSITY_MPA_S)
        row = {
            "density": density,
            "temperature": round(temperature, 4),
            "n_atoms": 4 * options.cells**3,
            "time": options.steps * STEP * options.replicas,
            "viscosity": round(reduced.value, 4),
            "error_95": round(reduced.error, 4),
            "correlation": round(published_viscosity(density, temperature), 4),
            "published": known or "",
            "window": round(eta.window.end_ps / TIME_PS, 2),
            "diffusion_box": round(d.in_box.value / DIFFUSION_M2_S, 5),
            "diffusion_corrected": round((d.corrected or Estimate(np.nan, np.nan, 0)).value / DIFFUSION_M2_S, 5),
            "diffusion_error_95": round(d.in_box.error / DIFFUSION_M2_S, 5),
        }
        print(row, flush=True)
        rows.append(row)
    table.write_own(options.results / "lennard_jones.csv", rows)


if __name__ == "__main__":
    main()
