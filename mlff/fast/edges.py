"""Kernels over the edges of the graph transformer: distances, messages, and pairs backward, without autograd.

Each kernel works on the atoms `lo..hi` of one thread and releases the GIL. All arrays are flat float32 unless said
otherwise; a feature takes 64 numbers in the order of `lanes.py`. Names: `x` scalar features, `qkv` query, key and value
of an atom (192), `m` and `M` scalar and vector messages (64 and 3 x 64), `U` mixed vectors, `o` projected messages;
`g...` is the derivative of the energy by what follows. Equations: `mlff/get.py`.

Forward, every atom gathers from its neighbours. Backward, each pair is visited once for both of its directions, and
what the layers find of dE/dr adds up in `pull`: the last kernel alone turns it into forces.
"""

# mypy: ignore-errors
# (an intrinsic has the compiler's context as a first parameter that its caller does not give)

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mlff.fast.lanes import (
    HEADS,
    exp16,
    fill16,
    fill64,
    fold,
    load4,
    load16,
    load64,
    prefetch,
    spread,
    store,
    total,
    totals,
)
from mlff.fast.lanes import WIDTH as W

GEOMETRY = 8
"""Numbers kept for an edge: u_x, u_y, u_z, place t in the table's interval, f_c, f_c', dt/dr, r."""

VECTOR = 3 * W
"""Numbers of a vector feature, or of query, key and value."""

PULL = 4
"""Numbers of `pull` for a pair: dE/dr along u, and the vector h of dE/du."""

INTERVALS, DEGREE = 128, 4
"""Edge features are polynomials on intervals between 0 and the cutoff; even in 1/(r + WARP_A), so finer near 0.

Measured: 512 cubics are 10 % slower (they fill the cache), 32 of degree 7 are 30 % slower (arithmetic).
"""

WARP_A = 2.0

_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
_INLINE: dict[str, Any] = {"fastmath": True, "error_model": "numpy", "cache": True, "inline": "always"}
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


@njit(**_INLINE)
def _edge_feature(table, n, t):
    """e(r): the polynomial of interval `n` at `t` in -1..1."""
    at = n * ((DEGREE + 1) * W)
    s = fill64(t)
    e = load64(table, at + DEGREE * W)
    for k in range(DEGREE - 1, -1, -1):
        e = load64(table, at + k * W) + s * e
    return e


@njit(**_INLINE)
def _value_and_slope(table, at, s):
    """One component of e and its derivative by t; `at` is where the component of the constant term lies."""
    e = load16(table, at + DEGREE * W)
    slope = e
    e = load16(table, at + (DEGREE - 1) * W) + s * e
    for k in range(DEGREE - 2, -1, -1):
        slope = e + s * slope
        e = load16(table, at + k * W) + s * e
    return e, slope


@njit(**_INLINE)
def _sigmoid(t):
    one = fill16(_ONE)
    return one / (one + exp16(fill16(_ZERO) - t))


@njit(**_INLINE)
def _silu_slope(t, s):
    """Derivative of t s with s = sigmoid(t)."""
    one = fill16(_ONE)
    return s * (one + t * (one - s))


# --- distances


@njit(**_FAST)
def measure(lo, hi, near, n_near, n_front, itself, position, owner, cutoff, fc, edge_j, edge_n, edge, pull, active):
    """Distances of all listed edges; those within the cutoff move to the front of their row.

    `near` `(n_atoms, capacity)` uint32 lists extended atoms; the first `n_front[i]` of a row stand for both directions
    of their pair; `position` `(n_extended, 3)` float64; `fc` polynomials of the envelope. Fills `edge_j` (sender),
    `edge_n` (interval), `edge` (GEOMETRY numbers) and `active` `(n_atoms, 2)`: edges that stand for pairs, all edges;
    empties `pull`.
    """
    capacity = near.shape[1]
    limit = cutoff * cutoff
    stretch = INTERVALS / (1.0 / WARP_A - 1.0 / (cutoff + WARP_A))
    top = stretch / WARP_A
    for i in range(lo, hi):
        me = itself[i]
        x, y, z = position[me, 0], position[me, 1], position[me, 2]
        kept = i * capacity
        for k in range(n_near[i]):
            if k == n_front[i]:
                active[i, 0] = kept - i * capacity
            j = near[i, k]
            dx, dy, dz = x - position[j, 0], y - position[j, 1], z - position[j, 2]
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < limit:
                r = np.sqrt(r2)
                inverse, warped = 1.0 / r, 1.0 / (r + WARP_A)
                place = top - stretch * warped
                n = min(int(place), INTERVALS - 1)
                per_A = 2.0 * stretch * warped * warped
                t = np.float32(2.0 * (place - n) - 1.0)
                at = GEOMETRY * kept
                edge[at] = dx * inverse
                edge[at + 1] = dy * inverse
                edge[at + 2] = dz * inverse
                edge[at + 3] = t
                value, slope = fc[n, DEGREE], _ZERO
                for m in range(DEGREE - 1, -1, -1):
                    slope = slope * t + value
                    value = value * t + fc[n, m]
                edge[at + 4] = value
                edge[at + 5] = slope * np.float32(per_A)
                edge[at + 6] = per_A
                edge[at + 7] = r
                for m in range(PULL):
                    pull[PULL * kept + m] = _ZERO
                edge_j[kept] = owner[j]
                edge_n[kept] = n
                kept += 1
        if n_front[i] == n_near[i]:
            active[i, 0] = kept - i * capacity
        active[i, 1] = kept - i * capacity


# --- messages, forward: every atom gathers from its neighbours


@njit(**_FAST)
def messages_first(lo, hi, kind, n_kinds, capacity, active, edge_j, edge_n, edge, table, attention, value, m, M):
    """Messages of the first layer, where attention and value are constants of the elements."""
    for i in range(lo, hi):
        scalar = fill64(_ZERO)
        vx, vy, vz = scalar, scalar, scalar
        row = kind[i] * n_kinds
        for k in range(i * capacity, i * capacity + active[i, 1]):
            other = kind[edge_j[k]]
            g = k * GEOMETRY
            pushed = load64(value, other * W) * _edge_feature(table, edge_n[k], edge[g + 3])
            a = load16(attention, (row + other) * 16) * fill16(edge[g + 4])
            scalar += pushed * spread(a)
            vx += pushed * fill64(edge[g])
            vy += pushed * fill64(edge[g + 1])
            vz += pushed * fill64(edge[g + 2])
        store(m, i * W, scalar)
        store(M, i * 3 * W, vx)
        store(M, i * 3 * W + W, vy)
        store(M, i * 3 * W + 2 * W, vz)


@njit(**_FAST)
def messages_middle(lo, hi, capacity, active, edge_j, edge_n, edge, table, qkv, m, M):
    """Scalar and vector messages of a middle layer."""
    for i in range(lo, hi):
        scalar = fill64(_ZERO)
        vx, vy, vz = scalar, scalar, scalar
        q = load64(qkv, i * 3 * W)
        for k in range(i * capacity, i * capacity + active[i, 1]):
            j = edge_j[k] * 3 * W
            g = k * GEOMETRY
            pushed = load64(qkv, j + 2 * W) * _edge_feature(table, edge_n[k], edge[g + 3])
            t = fold(q * load64(qkv, j + W))
            scalar += pushed * spread(t * _sigmoid(t) * fill16(edge[g + 4]))
            vx += pushed * fill64(edge[g])
            vy += pushed * fill64(edge[g + 1])
            vz += pushed * fill64(edge[g + 2])
        store(m, i * W, scalar)
        store(M, i * 3 * W, vx)
        store(M, i * 3 * W + W, vy)
        store(M, i * 3 * W + 2 * W, vz)


@njit(**_FAST)
def messages_last(lo, hi, capacity, active, edge_j, edge_n, edge, table, qkv, m):
    """Scalar messages of the last layer."""
    for i in range(lo, hi):
        scalar = fill64(_ZERO)
        q = load64(qkv, i * 3 * W)
        for k in range(i * capacity, i * capacity + active[i, 1]):
            j = edge_j[k] * 3 * W
            g = k * GEOMETRY
            t = fold(q * load64(qkv, j + W))
            a = spread(t * _sigmoid(t) * fill16(edge[g + 4]))
            scalar += load64(qkv, j + 2 * W) * _edge_feature(table, edge_n[k], edge[g + 3]) * a
        store(m, i * W, scalar)


# --- pairs, backward: both directions of a pair together
#
# Component by component (HEADS lanes at a time), so that few registers are live; the rows of the next partner are
# fetched meanwhile, since one pair is longer than what the processor looks ahead.


@njit(**_FAST)
def pairs_last(lo, hi, capacity, active, edge_j, edge_n, edge, table, qkv, gm, sums, pull):
    """Scalar messages only: derivatives by query, key, value (into `sums` of this thread) and by the distances."""
    by_value = np.empty(W, np.float32)
    zero = fill16(_ZERO)
    for i in range(lo, hi):
        p = i * 3 * W
        gq, gk, gv = fill64(_ZERO), fill64(_ZERO), fill64(_ZERO)
        for k in range(i * capacity, i * capacity + active[i, 0]):
            j, g = edge_j[k], k * GEOMETRY
            c, at, t, fc = j * 3 * W, edge_n[k] * ((DEGREE + 1) * W), fill16(edge[g + 3]), fill16(edge[g + 4])
            following = edge_j[k + 1]
            prefetch(qkv, following * VECTOR, VECTOR)
            prefetch(sums, following * VECTOR, VECTOR)
            prefetch(gm, following * W, W)
            t1, t2 = fold(load64(qkv, p) * load64(qkv, c + W)), fold(load64(qkv, c) * load64(qkv, p + W))
            s1, s2 = _sigmoid(t1), _sigmoid(t2)
            a1, a2 = t1 * s1, t2 * s2
            f1, f2 = a1 * fc, a2 * fc
            ga1, ga2, slope = zero, zero, zero
            for o in range(0, W, HEADS):
                e, e_slope = _value_and_slope(table, at + o, t)
                v_i, v_j = load16(qkv, p + 2 * W + o), load16(qkv, c + 2 * W + o)
                gm_i, gm_j = load16(gm, i * W + o), load16(gm, j * W + o)
                to_i, to_j = gm_i * v_j, gm_j * v_i
                ga1 += to_i * e
                ga2 += to_j * e
                slope += (to_i * f1 + to_j * f2) * e_slope
                store(by_value, o, gm_j * f2 * e)
                store(sums, c + 2 * W + o, load16(sums, c + 2 * W + o) + gm_i * f1 * e)
            gt1, gt2 = spread(ga1 * fc * _silu_slope(t1, s1)), spread(ga2 * fc * _silu_slope(t2, s2))
            gq += gt1 * load64(qkv, c + W)
            gk += gt2 * load64(qkv, c)
            gv += load64(by_value, 0)
            store(sums, c, load64(sums, c) + gt2 * load64(qkv, p + W))
            store(sums, c + W, load64(sums, c + W) + gt1 * load64(qkv, p))
            slope = slope * fill16(edge[g + 6]) + (ga1 * a1 + ga2 * a2) * fill16(edge[g + 5])
            pull[k * PULL] += total(slope)
        store(sums, p, load64(sums, p) + gq)
        store(sums, p + W, load64(sums, p + W) + gk)
        store(sums, p + 2 * W, load64(sums, p + 2 * W) + gv)


@njit(**_FAST)
def pairs_middle(lo, hi, capacity, active, edge_j, edge_n, edge, table, qkv, gm, gM, sums, pull):
    """As `pairs_last`, with vector messages."""
    by_value = np.empty(W, np.float32)
    zero = fill16(_ZERO)
    for i in range(lo, hi):
        p = i * 3 * W
        gq, gk, gv = fill64(_ZERO), fill64(_ZERO), fill64(_ZERO)
        for k in range(i * capacity, i * capacity + active[i, 0]):
            j, g = edge_j[k], k * GEOMETRY
            c, at, t, fc = j * 3 * W, edge_n[k] * ((DEGREE + 1) * W), fill16(edge[g + 3]), fill16(edge[g + 4])
            following = edge_j[k + 1]
            prefetch(qkv, following * VECTOR, VECTOR)
            prefetch(gM, following * VECTOR, VECTOR)
            prefetch(sums, following * VECTOR, VECTOR)
            prefetch(gm, following * W, W)
            ux, uy, uz = fill16(edge[g]), fill16(edge[g + 1]), fill16(edge[g + 2])
            t1, t2 = fold(load64(qkv, p) * load64(qkv, c + W)), fold(load64(qkv, c) * load64(qkv, p + W))
            s1, s2 = _sigmoid(t1), _sigmoid(t2)
            a1, a2 = t1 * s1, t2 * s2
            f1, f2 = a1 * fc, a2 * fc
            ga1, ga2, slope, hx, hy, hz = zero, zero, zero, zero, zero, zero
            for o in range(0, W, HEADS):
                e, e_slope = _value_and_slope(table, at + o, t)
                v_i, v_j = load16(qkv, p + 2 * W + o), load16(qkv, c + 2 * W + o)
                gm_i, gm_j = load16(gm, i * W + o), load16(gm, j * W + o)
                x_i, x_j = load16(gM, p + o), load16(gM, c + o)
                y_i, y_j = load16(gM, p + W + o), load16(gM, c + W + o)
                z_i, z_j = load16(gM, p + 2 * W + o), load16(gM, c + 2 * W + o)
                # derivative by v e of the sender, for the message to i and for the one to j (whose u points back)
                w_i = gm_i * f1 + x_i * ux + y_i * uy + z_i * uz
                w_j = gm_j * f2 - x_j * ux - y_j * uy - z_j * uz
                ga1 += gm_i * v_j * e
                ga2 += gm_j * v_i * e
                hx += (x_i * v_j - x_j * v_i) * e
                hy += (y_i * v_j - y_j * v_i) * e
                hz += (z_i * v_j - z_j * v_i) * e
                slope += (w_i * v_j + w_j * v_i) * e_slope
                store(by_value, o, w_j * e)
                store(sums, c + 2 * W + o, load16(sums, c + 2 * W + o) + w_i * e)
            gt1, gt2 = spread(ga1 * fc * _silu_slope(t1, s1)), spread(ga2 * fc * _silu_slope(t2, s2))
            gq += gt1 * load64(qkv, c + W)
            gk += gt2 * load64(qkv, c)
            gv += load64(by_value, 0)
            store(sums, c, load64(sums, c) + gt2 * load64(qkv, p + W))
            store(sums, c + W, load64(sums, c + W) + gt1 * load64(qkv, p))
            slope = slope * fill16(edge[g + 6]) + (ga1 * a1 + ga2 * a2) * fill16(edge[g + 5])
            store(pull, k * PULL, load4(pull, k * PULL) + totals(slope, hx, hy, hz))
        store(sums, p, load64(sums, p) + gq)
        store(sums, p + W, load64(sums, p + W) + gk)
        store(sums, p + 2 * W, load64(sums, p + 2 * W) + gv)


@njit(**_FAST)
def pairs_first(
    lo, hi, kind, n_kinds, capacity, active, edge_j, edge_n, edge, table, attention, value, gm, gM, pull, force, virial
):
    """The first layer, whose queries, keys and values are constants; then forces and virial of all layers."""
    zero = fill16(_ZERO)
    for i in range(lo, hi):
        p = i * 3 * W
        kind_i = kind[i]
        fx, fy, fz = 0.0, 0.0, 0.0
        for k in range(i * capacity, i * capacity + active[i, 0]):
            j, g = edge_j[k], k * GEOMETRY
            c, at, t, fc = j * 3 * W, edge_n[k] * ((DEGREE + 1) * W), fill16(edge[g + 3]), fill16(edge[g + 4])
            following = edge_j[k + 1]
            prefetch(gM, following * VECTOR, VECTOR)
            prefetch(gm, following * W, W)
            kind_j = kind[j]
            a1 = load16(attention, (kind_i * n_kinds + kind_j) * HEADS)
            a2 = load16(attention, (kind_j * n_kinds + kind_i) * HEADS)
            ux, uy, uz = fill16(edge[g]), fill16(edge[g + 1]), fill16(edge[g + 2])
            f1, f2 = a1 * fc, a2 * fc
            ga, slope, hx, hy, hz = zero, zero, zero, zero, zero
            for o in range(0, W, HEADS):
                e, e_slope = _value_and_slope(table, at + o, t)
                v_i, v_j = load16(value, kind_i * W + o), load16(value, kind_j * W + o)
                to_i, to_j = load16(gm, i * W + o) * v_j, load16(gm, j * W + o) * v_i
                dx = load16(gM, p + o) * v_j - load16(gM, c + o) * v_i
                dy = load16(gM, p + W + o) * v_j - load16(gM, c + W + o) * v_i
                dz = load16(gM, p + 2 * W + o) * v_j - load16(gM, c + 2 * W + o) * v_i
                ga += (to_i * a1 + to_j * a2) * e
                slope += (to_i * f1 + to_j * f2 + dx * ux + dy * uy + dz * uz) * e_slope
                hx += dx * e
                hy += dy * e
                hz += dz * e
            slope = slope * fill16(edge[g + 6]) + ga * fill16(edge[g + 5])
            at = k * PULL
            radial, px = pull[at] + total(slope), pull[at + 1] + total(hx)
            py, pz = pull[at + 2] + total(hy), pull[at + 3] + total(hz)
            x, y, z = _push(force, virial, i, j, edge[g + 7], edge[g], edge[g + 1], edge[g + 2], radial, px, py, pz)
            fx += x
            fy += y
            fz += z
        force[i, 0] -= fx
        force[i, 1] -= fy
        force[i, 2] -= fz


@njit(**_INLINE)
def _push(force, virial, i, j, r, ux, uy, uz, radial, hx, hy, hz):
    """Add dE/dr_ij = radial u + (h - u (u.h)) / r of one pair to forces and virial; returns it."""
    along = hx * ux + hy * uy + hz * uz
    gx = radial * ux + (hx - along * ux) / r
    gy = radial * uy + (hy - along * uy) / r
    gz = radial * uz + (hz - along * uz) / r
    force[j, 0] += gx
    force[j, 1] += gy
    force[j, 2] += gz
    rx, ry, rz = r * ux, r * uy, r * uz
    virial[0] -= rx * gx
    virial[1] -= rx * gy
    virial[2] -= rx * gz
    virial[3] -= ry * gx
    virial[4] -= ry * gy
    virial[5] -= ry * gz
    virial[6] -= rz * gx
    virial[7] -= rz * gy
    virial[8] -= rz * gz
    return gx, gy, gz
