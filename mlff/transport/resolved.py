"""Whether an estimate is worth printing, what it would take if not, and what error a planned run can expect."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import constants

from mlff.transport.blocks import Estimate, students_t

LARGEST_RELATIVE = 0.5
"""A quantity with a larger 95 % error, as a share of its value, is not resolved."""
LEAST_PAIRS = 20
"""Fewer ion pairs x replicas give no collective conductivity: it has one sample a box, whatever its size."""

COMPRESSIBILITY_PA = 6e-10
VOLUME_RELAXATION_PS = 2.0
VOLUME_BLOCK_PS = 24.0
"""What one block of densities takes; boxes run for less differ by more than blocks within them say."""
STRESS_WINDOW_PS = 20.0
DIFFUSION_WINDOW_PS = 160.0
"""What organic carbonates at room temperature are like, within a factor of two: what expectations are made of. Neighbours
move together, so D scatters as if it were seen through a longer window than its fit's: by that of DMC on record, 170 ps."""


def what_it_takes(
    estimate: Estimate,
    *,
    n_replicas: int,
    ion_pairs: int | None = None,
    diffusive: bool = True,
    too_short: bool = False,
) -> str | None:
    """None if the estimate is resolved, else what a run would need, in one phrase.

    `ion_pairs` (of one box) is given for collective conductivities only; `too_short` marks a relaxation that was not
    seen to its end.
    """
    if ion_pairs is not None and ion_pairs * n_replicas < LEAST_PAIRS:
        wanted = -(-LEAST_PAIRS // max(ion_pairs, 1))
        return f"{ion_pairs} ion pairs x {n_replicas} replicas, {LEAST_PAIRS} are needed: {wanted} replicas, or a larger box"
    if not diffusive:
        return "motion is not diffusive within a quarter of a block: runs several times as long"
    if too_short:
        return "the stress has not relaxed within the fit window: runs several times as long"
    if estimate.n_blocks == 0:
        return "no exchange was seen in any run after equilibration: runs of several lifetimes of the shell"
    if not estimate.has_error:
        return "too few independent blocks for an error bar: longer runs, or more replicas"
    if estimate.relative_error > LARGEST_RELATIVE or estimate.value <= 0:
        factor = max((estimate.error / max(abs(estimate.value), 0.1 * estimate.error) / LARGEST_RELATIVE) ** 2, 2.0)
        return f"the error is {100 * estimate.relative_error:.0f} % of the value: about {factor:.0f} times the simulated time"
    return None


@dataclass(frozen=True)
class Planned:
    """What a run will consist of; times in ps for each replica."""

    n_replicas: int
    n_blocks: int
    """Parts of each transport run that count as independent."""
    density_ps: float
    transport_ps: float
    volume_A3: float
    temperature_K: float
    n_solvent: int
    n_ions: int
    n_pairs: int


def expected_errors(p: Planned) -> dict[str, float]:
    """Expected 95 % errors as shares of the values, from the scaling of fluctuations; inf is what cannot be resolved.

    They hold for a liquid as the constants above describe and grow for slower ones. Standard errors become those of 95 %
    by Student's t, as they do for what the run will have measured.
    """
    kept = 0.8 * p.density_ps
    half = students_t(p.n_replicas * max(1, int(kept / VOLUME_BLOCK_PS)))
    thermal = constants.k * p.temperature_K * COMPRESSIBILITY_PA / (p.volume_A3 * 1e-30)
    found = {"density": half * math.sqrt(thermal * 2 * VOLUME_RELAXATION_PS / (kept * p.n_replicas))}
    if p.transport_ps <= 0:
        return found
    time, half = p.transport_ps * p.n_replicas, students_t(p.n_replicas * p.n_blocks)
    found["viscosity"] = half * math.sqrt(2 * STRESS_WINDOW_PS / (5 * time))
    one_track = half * math.sqrt(2 * DIFFUSION_WINDOW_PS / (3 * time))
    if p.n_solvent:
        found["diffusion of solvent"] = one_track / math.sqrt(p.n_solvent)
    if p.n_pairs:
        found["diffusion of ions"] = one_track / math.sqrt(p.n_ions / 2)
        found["conductivity, Nernst-Einstein"] = one_track / math.sqrt(p.n_ions)
        found["conductivity"] = one_track if p.n_pairs * p.n_replicas >= LEAST_PAIRS else math.inf
    return found
