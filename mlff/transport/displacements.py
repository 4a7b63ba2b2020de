"""Displacements of molecules and of charge: mean squares as functions of time, by blocks, and where they are diffusive.

All positions are unwrapped and relative to the centre of mass of the box (barycentric frame).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from mlff.transport.blocks import LARGEST_SHARE, Floats, split_blocks
from mlff.transport.checks import check_finite, check_fragments, check_kinds, check_positive

TOLERANCE = 0.1
"""How far the slope of log MSD over log time, averaged over an octave, may be from 1 where motion is called diffusive."""


@dataclass(frozen=True)
class Window:
    """Lags that a fit has used, in ps."""

    start_ps: float
    end_ps: float
    diffusive: bool = True
    """False where the displacements never became linear in time: what is fitted there is no diffusion coefficient."""


@dataclass(frozen=True, eq=False)
class Centres:
    """Molecules of one replica at equal steps of time.

    `positions` `(n_frames, n_molecules, 3)` Å, centres of mass, barycentric; `charges` `(n_molecules,)` e, formal ones;
    `names` the species of each molecule; `masses` `(n_molecules,)` u.
    """

    dt_ps: float
    positions: Floats
    masses: Floats
    charges: Floats
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Curves:
    """Mean square displacements in Å2 at lags `time_ps` `(n_lags,)`, for each of `n_blocks` blocks of all replicas.

    `self_msd` `(n_blocks, n_species, n_lags)` by molecule. `charge` `(n_blocks, 3, n_lags)` are <dR+ . dR+>, <dR- . dR->
    and <dR+ . dR-> in e2 Å2, with R+ and R- the sums of z r over cations and anions; `charge_solvent` the same with r
    relative to the centre of mass of the neutral molecules. Both are empty, `(n_blocks, 3, 0)`, without ions.
    """

    time_ps: Floats
    names: tuple[str, ...]
    counts: tuple[int, ...]
    ion_charges: tuple[float, ...]
    """Formal charge of each species, e."""
    self_msd: Floats
    charge: Floats
    charge_solvent: Floats


def centres_of_mass(
    time_ps: Floats,
    positions: Floats,
    masses: Floats,
    fragments: NDArray[np.int64],
    charges: Floats,
    names: Sequence[str],
) -> Centres:
    """Centres of mass of molecules from unwrapped atoms `(n_frames, n_atoms, 3)` Å.

    `fragments` `(n_atoms,)` is the molecule of each atom; `charges` and `names` belong to molecules. Raises `ValueError`
    unless frames are at equal steps of time, positions finite, masses positive, every molecule has atoms, and molecules
    of one name are alike.
    """
    steps = np.diff(time_ps)
    if len(steps) < 1 or not (steps.min() > 0 and np.ptp(steps) <= 1e-3 * steps.mean()):
        raise ValueError("displacements need two or more frames at equal steps of time")
    n = len(names)
    if np.shape(positions) != (len(time_ps), len(masses), 3):
        raise ValueError(f"positions of shape {np.shape(positions)} for {len(time_ps)} frames of {len(masses)} atoms")
    check_finite("positions", [positions])
    check_positive(smallest_mass_u=np.min(masses))
    check_fragments(fragments, len(masses), n)
    of = np.zeros((n, len(masses)))
    of[fragments, np.arange(len(masses))] = masses
    molecule_masses = of.sum(axis=1)
    check_kinds(names, charges, molecule_masses)
    centres = np.einsum("ma,fax->fmx", of / molecule_masses[:, None], positions, optimize=True)
    barycentre = np.einsum("m,fmx->fx", molecule_masses / molecule_masses.sum(), centres)
    return Centres(
        float(steps.mean()), centres - barycentre[:, None], molecule_masses, np.asarray(charges, float), tuple(names)
    )


def mean_square(positions: Floats, n_lags: int) -> Floats:
    """<|r(t) - r(0)|^2> over all origins, `(..., n_lags)`, of tracks `(..., n_frames, 3)`; lags 0..n_lags-1."""
    return cross_mean_square(positions, positions, n_lags)


def cross_mean_square(a: Floats, b: Floats, n_lags: int) -> Floats:
    """<(a(t) - a(0)) . (b(t) - b(0))> over all origins, by Fourier transforms; shapes as in `mean_square`."""
    n = a.shape[-2]
    size = next_fast_len(n + n_lags, real=True)
    # near zero nothing cancels
    first, second = a - a.mean(axis=-2, keepdims=True), b - b.mean(axis=-2, keepdims=True)
    transforms = rfft(first, size, axis=-2), rfft(second, size, axis=-2)
    product = irfft((transforms[0].conj() * transforms[1]).real.sum(axis=-1), size, axis=-1)[..., :n_lags]
    total = np.concatenate([np.zeros((*a.shape[:-2], 1)), np.cumsum((first * second).sum(axis=-1), axis=-1)], axis=-1)
    k = np.arange(n_lags)
    ends = total[..., n - k] + total[..., -1:] - total[..., k]
    curve = (ends - 2 * product) / (n - k)
    curve[..., 0] = 0.0
    return curve


def displacements(replicas: Sequence[Centres], *, n_blocks: int = 5, largest_share: float = LARGEST_SHARE) -> Curves:
    """Curves of all blocks of all replicas, which hold the same molecules in the same order.

    Raises `ValueError` where replicas differ in molecules or time step, a block has fewer than 8 frames, positions are
    not finite, or molecules of one name are not alike.
    """
    check_positive(n_blocks=n_blocks, largest_share=largest_share)
    check_finite("positions", [r.positions for r in replicas])
    first = replicas[0]
    check_kinds(first.names, first.charges, first.masses)
    for r in replicas[1:]:
        if r.names != first.names or abs(r.dt_ps - first.dt_ps) > 1e-3 * first.dt_ps:
            raise ValueError("replicas with different molecules or time steps cannot be averaged")
    shortest = min(len(r.positions) for r in replicas)
    if shortest < 8 * n_blocks:
        raise ValueError(f"{shortest} frames are too few for {n_blocks} blocks of at least 8")
    tracks = np.moveaxis(split_blocks([r.positions for r in replicas], n_blocks), 1, 2)
    n_lags = max(4, int(largest_share * tracks.shape[2]))
    names = np.array(first.names)
    species = tuple(dict.fromkeys(first.names))
    msd = np.stack([np.stack([mean_square(b[names == s], n_lags).mean(axis=0) for s in species]) for b in tracks])
    of = first.charges
    members = [names == s for s in species]
    return Curves(
        time_ps=np.arange(n_lags) * np.float64(first.dt_ps),
        names=species,
        counts=tuple(int(m.sum()) for m in members),
        ion_charges=tuple(float(of[m][0]) for m in members),
        self_msd=msd,
        charge=_charge_curves(tracks, of, n_lags),
        charge_solvent=_charge_curves(_relative_to_solvent(tracks, of, first.masses), of, n_lags),
    )


def _relative_to_solvent(tracks: Floats, charges: Floats, masses: Floats) -> Floats:
    weights = np.where(charges == 0, masses, 0.0)
    return tracks - np.einsum("m,bmtx->btx", weights / max(weights.sum(), 1e-300), tracks)[:, None]


def _charge_curves(tracks: Floats, charges: Floats, n_lags: int) -> Floats:
    if not (charges > 0).any() or not (charges < 0).any():
        return np.zeros((len(tracks), 3, 0))
    plus, minus = (np.einsum("m,bmtx->btx", np.where(s * charges > 0, charges, 0.0), tracks) for s in (1, -1))
    pairs = ((plus, plus), (minus, minus), (plus, minus))
    return np.stack([cross_mean_square(a, b, n_lags) for a, b in pairs], axis=1)


def choose_window(time_ps: Floats, msd: Floats, start_ps: float | None = None, end_ps: float | None = None) -> Window:
    """From where mean square displacements `(n_lags,)` are linear in time to four times that, or to the last lag.

    `start_ps` and `end_ps` overrule it. Raises `ValueError` where the wanted window holds fewer than three lags.
    """
    if len(time_ps) < 3:
        raise ValueError(f"a fit needs 3 or more lags, not {len(time_ps)}")
    check_finite("displacements", [msd])
    first, diffusive = _onset(time_ps, msd)
    start = time_ps[first] if start_ps is None else start_ps
    end = min(max(4 * start, time_ps[min(first + 5, len(time_ps) - 1)]), time_ps[-1]) if end_ps is None else end_ps
    inside = (time_ps >= start - 1e-9) & (time_ps <= end + 1e-9)
    if inside.sum() < 3 and start_ps is None and end_ps is None:
        inside[-3:] = True
    if inside.sum() < 3:
        raise ValueError(
            f"a fit window of {start:g} to {end:g} ps holds fewer than 3 of the lags up to {time_ps[-1]:g} ps"
        )
    return Window(float(time_ps[inside][0]), float(time_ps[inside][-1]), diffusive)


def _onset(time_ps: Floats, msd: Floats) -> tuple[int, bool]:
    """First lag from which on the motion is diffusive; half of the longest lag, and False, if none is.

    Over an octave, and with no later octave in which it is held back: between flight and cage it passes slope 1, too.
    """
    lags = np.arange(1, (len(time_ps) - 1) // 2 + 1)
    slope = np.log2(np.maximum(msd[2 * lags], 1e-300) / np.maximum(msd[lags], 1e-300))
    octaves = [slope[lag - 1 : 2 * lag - 1] for lag in lags]
    least_later = np.minimum.accumulate([octave.mean() for octave in reversed(octaves)])[::-1]
    for lag, octave, least in zip(lags, octaves, least_later, strict=True):
        steady = abs(octave.mean() - 1) < TOLERANCE and np.abs(octave - 1).max() < 3 * TOLERANCE
        if steady and least > 1 - 2 * TOLERANCE:
            return int(lag), True
    return len(time_ps) // 2, False


def slopes(time_ps: Floats, curves: Floats, window: Window) -> Floats:
    """Slopes of straight lines through curves `(..., n_lags)` within the window, least squares: Å2/ps of Å2."""
    inside = (time_ps >= window.start_ps - 1e-9) & (time_ps <= window.end_ps + 1e-9)
    t = time_ps[inside] - time_ps[inside].mean()
    return curves[..., inside] @ t / (t @ t)
