"""From a density that is off to the pressure that a model must exert more, and whether it did.

    kappa_T = var(V) / (kT <V>)                          compressibility from the run's own fluctuations of volume
    dP      = ln(rho_found / rho_measured) / kappa_T     what the model must push outwards more, in atm

A liquid that is too dense needs a positive dP: at the same outer pressure it then expands by -dP kappa_T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlff.units import ATM_PER_KCAL_A3

KB_KCAL = 0.0019872042586408316
"""Boltzmann's constant, kcal/mol/K (CODATA 2018)."""
LIKELY_PER_ATM = (2e-5, 5e-4)
"""Compressibilities of molecular liquids, 2e-10 to 5e-9 per Pa; a short run's estimate is kept within."""

ENOUGH_BLOCKS = 4
"""Of several runs together: fewer give a wider interval than what is known without blocks."""
SHARES = (0.1, 10.0)
"""Part of the expected change of density that is of its order: compressibilities of short runs are that uncertain."""
SETTLED = 4.0
"""Length of a run, in slowest times of the volume, whose second half shows most of what a change of pressure does."""


@dataclass(frozen=True)
class Measured:
    """A density at constant pressure: g/cm3, half its 95 % interval, compressibility per atm, and what each run gave."""

    density_g_cm3: float
    error_g_cm3: float
    compressibility_per_atm: float
    runs_g_cm3: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (self.density_g_cm3 > 0 and self.error_g_cm3 >= 0 and self.compressibility_per_atm > 0):
            raise ValueError(f"not a measured density: {self}")


def compressibility_per_atm(volumes_A3: NDArray[np.float64], temperature_K: float) -> float:
    """kappa_T from volumes of an equilibrated run at constant pressure, kept within `LIKELY_PER_ATM`.

    Raises `ValueError` for fewer than two volumes.
    """
    if len(volumes_A3) < 2:
        raise ValueError(f"a compressibility from {len(volumes_A3)} volumes; a longer run is needed")
    mean, variance = float(np.mean(volumes_A3)), float(np.var(volumes_A3, ddof=1))
    found = variance / (KB_KCAL * temperature_K * mean) / ATM_PER_KCAL_A3
    return float(np.clip(found, *LIKELY_PER_ATM))


def wanted_change_atm(found: Measured, target_g_cm3: float, most_atm: float) -> float:
    """Pressure that the model must exert more, at most `most_atm` either way in one round."""
    change = math.log(found.density_g_cm3 / target_g_cm3) / found.compressibility_per_atm
    return max(-most_atm, min(most_atm, change))


def covers(found: Measured, target_g_cm3: float, tolerance_g_cm3: float = 0.0) -> bool:
    """Whether the error bar (or the tolerance, where that is wider) around a density covers the target."""
    return abs(found.density_g_cm3 - target_g_cm3) <= max(found.error_g_cm3, tolerance_g_cm3)


def corrected(before: Measured, after: Measured, change_atm: float) -> Measured:
    """`after` with the compressibility that the last change of pressure has shown, where that is beyond the noise."""
    moved = math.log(before.density_g_cm3 / after.density_g_cm3)
    noise = math.hypot(before.error_g_cm3, after.error_g_cm3) / after.density_g_cm3
    if change_atm == 0.0 or abs(moved) < 2.0 * noise or moved * change_atm <= 0.0:
        return after
    return replace(after, compressibility_per_atm=float(np.clip(moved / change_atm, *LIKELY_PER_ATM)))


@dataclass(frozen=True)
class Moved:
    """What a change of pressure did to the density of a liquid in a short run, g/cm3; `error` is half a 95 % interval.

    `expected` is what the compressibility says of the change in the end.
    """

    name: str
    asked_atm: float
    expected: float
    moved: float
    error: float

    def __str__(self) -> str:
        found = f"{self.moved:+.4f} ± {self.error:.4f} g/cm3"
        return f"{self.name} {found} for {self.asked_atm:+.0f} atm, {self.expected:+.4f} expected"


class Verdict(NamedTuple):
    """Whether densities went where they should (None = not decided), and the length of runs that would decide it."""

    right: bool | None
    decides_ps: float


def verdict(moves: Sequence[Moved], length_ps: float, slowest_ps: float) -> Verdict:
    """Judge short runs over all liquids together: sign and size of what moved, against their noise.

    The share of the expected change that is seen must be positive beyond the noise and of its order (`SHARES`): a wrong
    unit is off by far more. Too small a share is only wrong where runs are long enough for the volume to follow, `SETTLED`
    times `slowest_ps`, the slowest time of volume and barostat.
    """
    size = sum(m.expected**2 for m in moves)
    if not size:
        return Verdict(None, math.inf)
    share = sum(m.expected * m.moved for m in moves) / size
    error = math.sqrt(sum((m.expected * m.error) ** 2 for m in moves)) / size
    low, high = SHARES
    if low <= share <= high and share > error:
        return Verdict(True, length_ps)
    backwards = share < -max(low, error)
    too_small = length_ps >= SETTLED * slowest_ps and share + error < low
    if backwards or too_small or share - error > high:
        return Verdict(False, length_ps)
    return Verdict(None, max(SETTLED * slowest_ps, length_ps * (2.0 * error) ** 2, 1.5 * length_ps))


def moved_by(
    before_g_cm3: NDArray[np.float64], after_g_cm3: NDArray[np.float64], step_ps: float, slowest_ps: float
) -> tuple[float, float]:
    """By how much two runs from one start are apart over their second half, and half its 95 % interval.

    Samples `(n,)` of both are `step_ps` apart; as independent count those that lie two times `slowest_ps` apart.
    """
    n = min(len(before_g_cm3), len(after_g_cm3))
    apart = (np.asarray(after_g_cm3[:n], np.float64) - np.asarray(before_g_cm3[:n], np.float64))[n // 2 :]
    independent = max(1.0, len(apart) * step_ps / (2.0 * slowest_ps))
    return float(apart.mean()), 2.0 * float(apart.std()) / math.sqrt(independent)


def correlation_time_ps(density_g_cm3: NDArray[np.float64], step_ps: float) -> float:
    """Integral of the autocorrelation of a run's equilibrated part, samples `step_ps` apart."""
    from mlff.transport import detect_equilibration

    return 0.5 * step_ps * detect_equilibration(np.asarray(density_g_cm3, np.float64))[1]


def measured(
    densities_g_cm3: Sequence[NDArray[np.float64]], volumes_A3: Sequence[NDArray[np.float64]], temperature_K: float
) -> Measured:
    """Density with half its 95 % interval, and compressibility, from the equilibrated parts of runs at constant pressure.

    Series `(n_samples,)` of one run of the liquid or of several. The interval is what blocks of the runs know; `Spread` is
    what only a comparison of several can know. From fewer than `ENOUGH_BLOCKS` of several runs, or two of one, it is
    twice the standard error that correlation times give.
    """
    from mlff.transport import mean_of_series

    series = [np.asarray(density, np.float64) for density in densities_g_cm3]
    alone = [mean_of_series([s]) for s in series]
    estimate = mean_of_series(series, compare=False).estimate
    error = estimate.error
    if estimate.n_blocks < (2 if len(series) == 1 else ENOUGH_BLOCKS):
        own = [_standard_error(s[a.starts[0] :], a.inefficiency) for s, a in zip(series, alone, strict=True)]
        error = 2.0 * math.hypot(*own) / len(own)
    kept = [np.asarray(v, np.float64)[a.starts[0] :] for v, a in zip(volumes_A3, alone, strict=True)]
    compressibility = compressibility_per_atm(np.concatenate(kept), temperature_K)
    return Measured(estimate.value, error, compressibility, tuple(a.estimate.value for a in alone))


def _standard_error(series: NDArray[np.float64], inefficiency: float) -> float:
    return float(series.std()) * math.sqrt(inefficiency / len(series))


@dataclass(frozen=True)
class Spread:
    """Relative standard deviation of the density of one run among runs of the same liquid from other starts.

    Something slower than a run (packing, conformers) holds boxes apart without showing in the blocks of any. `freedom`:
    runs less liquids.
    """

    share: float
    freedom: int

    @staticmethod
    def of(liquids: Sequence[Sequence[float]]) -> Spread | None:
        """Pooled over liquids, of each the densities of its runs; None where no liquid has two."""
        freedom = sum(len(runs) - 1 for runs in liquids)
        if not freedom:
            return None
        squares = sum(float(np.square(np.asarray(runs) / np.mean(runs) - 1.0).sum()) for runs in liquids)
        return Spread(math.sqrt(squares / freedom), freedom)

    def on(self, found: Measured) -> Measured:
        """The same with an interval that is as wide as this says for the mean of its runs, where that is wider."""
        from scipy.stats import t

        one = float(t.ppf(0.975, self.freedom)) * self.share * found.density_g_cm3
        return replace(found, error_g_cm3=max(found.error_g_cm3, one / math.sqrt(len(found.runs_g_cm3))))


def pooled(expected: Measured, found: Measured) -> Measured:
    """What earlier rounds lead to expect and what was found, weighed by their error bars.

    Only `found` where the two are further apart than both bars together allow: then the expectation was wrong.
    """
    apart = abs(expected.density_g_cm3 - found.density_g_cm3)
    together = math.hypot(expected.error_g_cm3, found.error_g_cm3)
    if apart > together or not expected.error_g_cm3 or not found.error_g_cm3:
        return found
    share = found.error_g_cm3**2 / together**2
    density = share * expected.density_g_cm3 + (1.0 - share) * found.density_g_cm3
    return replace(found, density_g_cm3=density, error_g_cm3=expected.error_g_cm3 * found.error_g_cm3 / together)


def equilibrium_from(density_g_cm3: NDArray[np.float64]) -> int:
    """First sample of a run's equilibrated part, as `measured` takes it."""
    from mlff.transport import detect_equilibration

    return detect_equilibration(np.asarray(density_g_cm3, np.float64))[0]
