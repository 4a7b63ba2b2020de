"""Energy and forces of the graph transformer without autograd: numba kernels over atoms and over pairs.

Each kernel works on the atoms `lo..hi` of one thread and releases the GIL. All arrays are flat float32 unless said
otherwise; a feature takes 64 numbers in the order of `lanes.py`. Names: `x` scalar features, `qkv` query, key and value
of an atom (192), `m` and `M` scalar and vector messages (64 and 3 x 64), `U` mixed vectors, `o` projected messages;
`g...` is the derivative of the energy by what follows. Equations: `get.py`.
"""

# mypy: ignore-errors
# (an intrinsic has the compiler's context as a first parameter that its caller does not give)

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mlff.lanes import exp16, exp64, fill16, fill64, fold, load16, load64, spread, store, total

BLOCK = 6
"""Atoms of a node-wise block: 6 x 64 sums and 64 weights fill the 32 vector registers of AVX-512."""

GEOMETRY = 8
"""Numbers kept for an edge: u_x, u_y, u_z, place t in the table's interval, f_c, f_c', dt/dr, r."""

INTERVALS, DEGREE = 128, 4
"""Edge features are polynomials on intervals between 0 and the cutoff; even in 1/(r + WARP_A), so finer near 0.

Measured: 512 cubics are 10 % slower (they fill the cache), 32 of degree 7 are 30 % slower (arithmetic).
"""

WARP_A = 2.0

W = 64
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
def _edge_slope(table, n, t, per_A):
    """de/dr of the same polynomial."""
    at = n * ((DEGREE + 1) * W)
    s = fill64(t)
    slope = fill64(np.float32(DEGREE)) * load64(table, at + DEGREE * W)
    for k in range(DEGREE - 1, 0, -1):
        slope = fill64(np.float32(k)) * load64(table, at + k * W) + s * slope
    return slope * fill64(per_A)


@njit(**_INLINE)
def _sigmoid(t):
    one = fill16(_ONE)
    return one / (one + exp16(fill16(_ZERO) - t))


@njit(**_FAST)
def _matmul(x, x0, x_row, w, n_in, n_out, start, start0, start_row, y, y0, y_row):
    """y = start + x w for BLOCK rows; `x0`, `y0` are the first elements, `..._row` the distance between rows."""
    for o in range(0, n_out, W):
        at = start0 + o
        a0, a1 = load64(start, at), load64(start, at + start_row)
        a2, a3 = load64(start, at + 2 * start_row), load64(start, at + 3 * start_row)
        a4, a5 = load64(start, at + 4 * start_row), load64(start, at + 5 * start_row)
        for k in range(n_in):
            weight = load64(w, k * n_out + o)
            at = x0 + k
            a0 += fill64(x[at]) * weight
            a1 += fill64(x[at + x_row]) * weight
            a2 += fill64(x[at + 2 * x_row]) * weight
            a3 += fill64(x[at + 3 * x_row]) * weight
            a4 += fill64(x[at + 4 * x_row]) * weight
            a5 += fill64(x[at + 5 * x_row]) * weight
        at = y0 + o
        store(y, at, a0)
        store(y, at + y_row, a1)
        store(y, at + 2 * y_row, a2)
        store(y, at + 3 * y_row, a3)
        store(y, at + 4 * y_row, a4)
        store(y, at + 5 * y_row, a5)


# --- distances


@njit(**_FAST)
def measure(lo, hi, near, n_near, n_front, itself, position, owner, cutoff, fc, edge_j, edge_n, edge, active):
    """Distances of all listed edges; those within the cutoff move to the front of their row.

    `near` `(n_atoms, capacity)` int32 lists extended atoms; the first `n_front[i]` of a row stand for both directions
    of their pair; `position` `(n_extended, 3)` float64; `fc` polynomials of the envelope. Fills `edge_j` (sender),
    `edge_n` (interval), `edge` (GEOMETRY numbers) and `active` `(n_atoms, 2)`: edges that stand for pairs, all edges.
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


# --- atoms, forward: dense layers on blocks of BLOCK atoms


@njit(**_INLINE)
def _norm(x, at, gain, shift, h, to):
    """LayerNorm of one feature."""
    v = load64(x, at)
    v = v - fill64(total(fold(v)) * np.float32(1 / W))
    scale = _ONE / np.sqrt(total(fold(v * v)) * np.float32(1 / W) + np.float32(1e-5))
    store(h, to, v * fill64(np.float32(scale)) * load64(gain, 0) + load64(shift, 0))


@njit(**_FAST)
def _to_next(at, x, V, gain, shift, w_qkv, b_qkv, w_mix, n_mix, h, none, qkv, U):
    """Query, key, value and mixed vectors of BLOCK atoms for the layer that follows; `h` is scratch."""
    for b in range(BLOCK):
        _norm(x, (at + b) * W, gain, shift, h, b * W)
    _matmul(h, 0, W, w_qkv, W, 3 * W, b_qkv, 0, 0, qkv, at * 3 * W, 3 * W)
    for d in range(3):
        row = 3 * at + BLOCK * d
        _matmul(V, row * W, W, w_mix, W, n_mix, none, 0, 0, U, row * n_mix, n_mix)


@njit(**_FAST)
def nodes_first(lo, hi, kind, embedding, w_out, b_out, m, V, gain, shift, w_qkv, b_qkv, w_mix, n_mix, none, x, qkv, U):
    """dx = O m; V is what the edges have summed."""
    h = np.empty(BLOCK * W, np.float32)
    for at in range(lo, hi, BLOCK):
        _matmul(m, at * W, W, w_out, W, W, b_out, 0, 0, x, at * W, W)
        for i in range(at, at + BLOCK):
            store(x, i * W, load64(x, i * W) + load64(embedding, kind[i] * W))
        _to_next(at, x, V, gain, shift, w_qkv, b_qkv, w_mix, n_mix, h, none, qkv, U)


@njit(**_INLINE)
def _product(U, at, n_mix):
    """s = sum_xyz U1 * U2 of one atom, whose three rows start at `at`."""
    s = load64(U, at) * load64(U, at + W)
    s += load64(U, at + n_mix) * load64(U, at + n_mix + W)
    return s + load64(U, at + 2 * n_mix) * load64(U, at + 2 * n_mix + W)


@njit(**_FAST)
def nodes_middle(
    lo, hi, w_out, b_out, m, M, U, x_in, V, gain, shift, w_qkv, b_qkv, w_mix, n_mix, none, o, x, qkv, U_next
):
    """dx = s o2 + o3, dV = U3 o1 + M."""
    h = np.empty(BLOCK * W, np.float32)
    for at in range(lo, hi, BLOCK):
        _matmul(m, at * W, W, w_out, W, 3 * W, b_out, 0, 0, o, at * 3 * W, 3 * W)
        for i in range(at, at + BLOCK):
            p = i * 3 * W
            s = _product(U, 9 * i * W, 3 * W)
            store(x, i * W, load64(x_in, i * W) + s * load64(o, p + W) + load64(o, p + 2 * W))
            o1 = load64(o, p)
            for d in range(3):
                here = p + d * W
                store(V, here, load64(V, here) + load64(U, 3 * here + 2 * W) * o1 + load64(M, here))
        _to_next(at, x, V, gain, shift, w_qkv, b_qkv, w_mix, n_mix, h, none, qkv, U_next)


@njit(**_INLINE)
def _silu64(z):
    one = fill64(_ONE)
    return z / (one + exp64(fill64(_ZERO) - z))


@njit(**_INLINE)
def _silu64_slope(z):
    one = fill64(_ONE)
    s = one / (one + exp64(fill64(_ZERO) - z))
    return s * (one + z * (one - s))


@njit(**_FAST)
def nodes_last(lo, hi, w_out, b_out, m, U, x, w1, b1, w2, b2, w3, b3, o, z1, z2, energy, raw):
    """dx = s o2 + o3, and the read-outs of energy (lanes 0..31) and charge (32..63) side by side; float64 out."""
    h = np.empty(BLOCK * W, np.float32)
    for at in range(lo, hi, BLOCK):
        _matmul(m, at * W, W, w_out, W, 2 * W, b_out, 0, 0, o, at * 2 * W, 2 * W)
        for b in range(BLOCK):
            i = at + b
            s = _product(U, 6 * i * W, 2 * W)
            store(h, b * W, load64(x, i * W) + s * load64(o, 2 * i * W) + load64(o, 2 * i * W + W))
        _matmul(h, 0, W, w1, W, W, b1, 0, 0, z1, at * W, W)
        for b in range(BLOCK):
            store(h, b * W, _silu64(load64(z1, (at + b) * W)))
        _matmul(h, 0, W, w2, W, W, b2, 0, 0, z2, at * W, W)
        for b in range(BLOCK):
            store(h, b * W, _silu64(load64(z2, (at + b) * W)) * load64(w3, 0))
            e, c = 0.0, 0.0
            for k in range(32):
                e += h[b * W + k]
                c += h[b * W + 32 + k]
            energy[at + b] = e + b3[0]
            raw[at + b] = c + b3[1]


# --- atoms, backward


@njit(**_FAST)
def nodes_last_back(lo, hi, w1t, w2t, w3, w_out_t, w_mix_t, graw, o, U, z1, z2, none, gx, gm, gV):
    """From dE/d(energy) = 1 and dE/d(raw charge) = `graw` to the derivatives by x, m and V of the last layer."""
    h, half = np.empty(BLOCK * 2 * W, np.float32), np.empty(W, np.float32)
    gU = np.empty(BLOCK * 6 * W, np.float32)
    for at in range(lo, hi, BLOCK):
        for b in range(BLOCK):
            for k in range(32):
                half[k] = _ONE
                half[32 + k] = graw[at + b]
            store(h, b * W, load64(half, 0) * load64(w3, 0) * _silu64_slope(load64(z2, (at + b) * W)))
        _matmul(h, 0, W, w2t, W, W, none, 0, 0, h, BLOCK * W, W)
        for b in range(BLOCK):
            store(h, b * W, load64(h, (BLOCK + b) * W) * _silu64_slope(load64(z1, (at + b) * W)))
        _matmul(h, 0, W, w1t, W, W, none, 0, 0, gx, at * W, W)
        for b in range(BLOCK):
            i = at + b
            g = load64(gx, i * W)
            store(h, 2 * b * W, g * _product(U, 6 * i * W, 2 * W))
            store(h, 2 * b * W + W, g)
            gs = g * load64(o, 2 * i * W)
            for d in range(3):
                u, to = (3 * i + d) * 2 * W, (3 * b + d) * 2 * W
                store(gU, to, gs * load64(U, u + W))
                store(gU, to + W, gs * load64(U, u))
        _matmul(h, 0, 2 * W, w_out_t, 2 * W, W, none, 0, 0, gm, at * W, W)
        for d in range(3):
            to = (3 * at + BLOCK * d) * W
            _matmul(gU, BLOCK * d * 2 * W, 2 * W, w_mix_t, 2 * W, W, none, 0, 0, gV, to, W)


@njit(**_FAST)
def _through_attention(at, x, gain, w_qkv_t, sums, none, g, gx):
    """Add to dE/dx what comes through query, key and value of the next layer; empties the threads' `sums`."""
    for b in range(BLOCK):
        row = (at + b) * 3 * W
        for part in range(3):
            here = row + part * W
            s = fill64(_ZERO)
            for thread in range(sums.shape[0]):
                s += load64(sums, thread * sums.shape[1] + here)
                store(sums, thread * sums.shape[1] + here, fill64(_ZERO))
            store(g, b * 3 * W + part * W, s)
    _matmul(g, 0, 3 * W, w_qkv_t, 3 * W, W, none, 0, 0, g, BLOCK * 3 * W, W)
    mean = np.float32(1 / W)
    for b in range(BLOCK):
        v = load64(x, (at + b) * W)
        v = v - fill64(total(fold(v)) * mean)
        scale = np.float32(_ONE / np.sqrt(total(fold(v * v)) * mean + np.float32(1e-5)))
        v = v * fill64(scale)
        gy = load64(g, (BLOCK * 3 + b) * W) * load64(gain, 0)
        along = total(fold(gy * v)) * mean
        gy = gy - fill64(total(fold(gy)) * mean) - v * fill64(along)
        store(gx, (at + b) * W, load64(gx, (at + b) * W) + gy * fill64(scale))


@njit(**_FAST)
def nodes_middle_back(lo, hi, x, gain, w_qkv_t, sums, w_out_t, w_mix_t, o, U, none, gx, gm, gM, gV):
    """Through the next layer's attention and this layer's update; `gM` takes dE/dM, `gV` goes on to dE/dV before."""
    g = np.empty(BLOCK * 4 * W, np.float32)
    gU = np.empty(BLOCK * 9 * W, np.float32)
    for at in range(lo, hi, BLOCK):
        _through_attention(at, x, gain, w_qkv_t, sums, none, g, gx)
        for b in range(BLOCK):
            i = at + b
            p = i * 3 * W
            slope = load64(gx, i * W)
            gs, o1 = slope * load64(o, p + W), load64(o, p)
            go1 = fill64(_ZERO)
            for d in range(3):
                u, to = 3 * (p + d * W), (3 * b + d) * 3 * W
                pull = load64(gV, p + d * W)
                store(gM, p + d * W, pull)
                go1 += pull * load64(U, u + 2 * W)
                store(gU, to, gs * load64(U, u + W))
                store(gU, to + W, gs * load64(U, u))
                store(gU, to + 2 * W, pull * o1)
            store(g, b * 3 * W, go1)
            store(g, b * 3 * W + W, slope * _product(U, 3 * p, 3 * W))
            store(g, b * 3 * W + 2 * W, slope)
        _matmul(g, 0, 3 * W, w_out_t, 3 * W, W, none, 0, 0, gm, at * W, W)
        for d in range(3):
            to = (3 * at + BLOCK * d) * W
            _matmul(gU, BLOCK * d * 3 * W, 3 * W, w_mix_t, 3 * W, W, gV, to, W, gV, to, W)


@njit(**_FAST)
def nodes_first_back(lo, hi, x, gain, w_qkv_t, sums, w_out_t, none, gx, gm):
    """Through the second layer's attention to the first layer's scalar message."""
    g = np.empty(BLOCK * 4 * W, np.float32)
    for at in range(lo, hi, BLOCK):
        _through_attention(at, x, gain, w_qkv_t, sums, none, g, gx)
        _matmul(gx, at * W, W, w_out_t, W, W, none, 0, 0, gm, at * W, W)


# --- pairs, backward: both directions of a pair together


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


@njit(**_FAST)
def pairs_last(lo, hi, capacity, active, edge_j, edge_n, edge, table, qkv, gm, sums, force, virial):
    """Scalar messages only: derivatives by query, key, value (into `sums` of this thread) and by the distances."""
    for i in range(lo, hi):
        p = i * 3 * W
        q_i, k_i, v_i, gm_i = load64(qkv, p), load64(qkv, p + W), load64(qkv, p + 2 * W), load64(gm, i * W)
        gq, gk, gv = fill64(_ZERO), fill64(_ZERO), fill64(_ZERO)
        fx, fy, fz = 0.0, 0.0, 0.0
        for k in range(i * capacity, i * capacity + active[i, 0]):
            j, g = edge_j[k], k * GEOMETRY
            n, t, fc = edge_n[k], edge[g + 3], fill16(edge[g + 4])
            c = j * 3 * W
            q_j, k_j, v_j, gm_j = load64(qkv, c), load64(qkv, c + W), load64(qkv, c + 2 * W), load64(gm, j * W)
            e = _edge_feature(table, n, t)
            t1, t2 = fold(q_i * k_j), fold(q_j * k_i)
            s1, s2 = _sigmoid(t1), _sigmoid(t2)
            a1, a2 = t1 * s1, t2 * s2
            ge = gm_i * v_j
            other = gm_j * v_i
            ga1, ga2 = fold(ge * e), fold(other * e)
            one = fill16(_ONE)
            gt1, gt2 = spread(ga1 * fc * s1 * (one + t1 * (one - s1))), spread(ga2 * fc * s2 * (one + t2 * (one - s2)))
            gq += gt1 * k_j
            gk += gt2 * q_j
            store(sums, c, load64(sums, c) + gt2 * k_i)
            store(sums, c + W, load64(sums, c + W) + gt1 * q_i)
            f1, f2 = spread(a1 * fc), spread(a2 * fc)
            gv += gm_j * e * f2
            store(sums, c + 2 * W, load64(sums, c + 2 * W) + gm_i * e * f1)
            ge = ge * f1 + other * f2
            slope = fold(ge * _edge_slope(table, n, t, edge[g + 6])) + (ga1 * a1 + ga2 * a2) * fill16(edge[g + 5])
            ux, uy, uz = edge[g], edge[g + 1], edge[g + 2]
            x, y, z = _push(force, virial, i, j, edge[g + 7], ux, uy, uz, total(slope), _ZERO, _ZERO, _ZERO)
            fx += x
            fy += y
            fz += z
        store(sums, p, load64(sums, p) + gq)
        store(sums, p + W, load64(sums, p + W) + gk)
        store(sums, p + 2 * W, load64(sums, p + 2 * W) + gv)
        force[i, 0] -= fx
        force[i, 1] -= fy
        force[i, 2] -= fz


@njit(**_FAST)
def pairs_middle(lo, hi, capacity, active, edge_j, edge_n, edge, table, qkv, gm, gM, sums, force, virial):
    """As `pairs_last`, with vector messages."""
    for i in range(lo, hi):
        p = i * 3 * W
        gq, gk, gv = fill64(_ZERO), fill64(_ZERO), fill64(_ZERO)
        fx, fy, fz = 0.0, 0.0, 0.0
        for k in range(i * capacity, i * capacity + active[i, 0]):
            j, g = edge_j[k], k * GEOMETRY
            n, t, fc = edge_n[k], edge[g + 3], fill16(edge[g + 4])
            ux, uy, uz = edge[g], edge[g + 1], edge[g + 2]
            c = j * 3 * W
            q_i, k_i, q_j, k_j = load64(qkv, p), load64(qkv, p + W), load64(qkv, c), load64(qkv, c + W)
            t1, t2 = fold(q_i * k_j), fold(q_j * k_i)
            s1, s2 = _sigmoid(t1), _sigmoid(t2)
            a1, a2 = t1 * s1, t2 * s2
            e = _edge_feature(table, n, t)
            v_i, v_j = load64(qkv, p + 2 * W), load64(qkv, c + 2 * W)
            gm_i, gm_j = load64(gm, i * W), load64(gm, j * W)
            ga1, ga2 = fold(gm_i * v_j * e), fold(gm_j * v_i * e)
            one = fill16(_ONE)
            gt1, gt2 = spread(ga1 * fc * s1 * (one + t1 * (one - s1))), spread(ga2 * fc * s2 * (one + t2 * (one - s2)))
            gq += gt1 * k_j
            gk += gt2 * q_j
            store(sums, c, load64(sums, c) + gt2 * k_i)
            store(sums, c + W, load64(sums, c + W) + gt1 * q_i)
            x_i, x_j = load64(gM, p), load64(gM, c)
            y_i, y_j = load64(gM, p + W), load64(gM, c + W)
            z_i, z_j = load64(gM, p + 2 * W), load64(gM, c + 2 * W)
            wx, wy, wz = fill64(ux), fill64(uy), fill64(uz)
            # derivative by v e of the sender, for the message to i and for the one to j (whose u points back)
            w_i = gm_i * spread(a1 * fc) + x_i * wx + y_i * wy + z_i * wz
            w_j = gm_j * spread(a2 * fc) - x_j * wx - y_j * wy - z_j * wz
            gv += w_j * e
            store(sums, c + 2 * W, load64(sums, c + 2 * W) + w_i * e)
            ge = w_i * v_j + w_j * v_i
            slope = fold(ge * _edge_slope(table, n, t, edge[g + 6])) + (ga1 * a1 + ga2 * a2) * fill16(edge[g + 5])
            hx, hy = total(fold((x_i * v_j - x_j * v_i) * e)), total(fold((y_i * v_j - y_j * v_i) * e))
            hz = total(fold((z_i * v_j - z_j * v_i) * e))
            x, y, z = _push(force, virial, i, j, edge[g + 7], ux, uy, uz, total(slope), hx, hy, hz)
            fx += x
            fy += y
            fz += z
        store(sums, p, load64(sums, p) + gq)
        store(sums, p + W, load64(sums, p + W) + gk)
        store(sums, p + 2 * W, load64(sums, p + 2 * W) + gv)
        force[i, 0] -= fx
        force[i, 1] -= fy
        force[i, 2] -= fz


@njit(**_FAST)
def pairs_first(
    lo, hi, kind, n_kinds, capacity, active, edge_j, edge_n, edge, table, attention, value, gm, gM, force, virial
):
    """The first layer: queries, keys and values are constants, so distances only."""
    for i in range(lo, hi):
        p = i * 3 * W
        z_i = kind[i]
        v_i, gm_i = load64(value, z_i * W), load64(gm, i * W)
        x_i, y_i, z_i3 = load64(gM, p), load64(gM, p + W), load64(gM, p + 2 * W)
        fx, fy, fz = 0.0, 0.0, 0.0
        for k in range(i * capacity, i * capacity + active[i, 0]):
            j, g = edge_j[k], k * GEOMETRY
            n, t, fc = edge_n[k], edge[g + 3], fill16(edge[g + 4])
            ux, uy, uz = edge[g], edge[g + 1], edge[g + 2]
            c, z_j = j * 3 * W, kind[j]
            a1, a2 = load16(attention, (z_i * n_kinds + z_j) * 16), load16(attention, (z_j * n_kinds + z_i) * 16)
            e = _edge_feature(table, n, t)
            v_j, gm_j = load64(value, z_j * W), load64(gm, j * W)
            x_j, y_j, z_j3 = load64(gM, c), load64(gM, c + W), load64(gM, c + 2 * W)
            wx, wy, wz = fill64(ux), fill64(uy), fill64(uz)
            p1, p2 = gm_i * v_j, gm_j * v_i
            dx, dy, dz = x_i * v_j - x_j * v_i, y_i * v_j - y_j * v_i, z_i3 * v_j - z_j3 * v_i
            ge = p1 * spread(a1 * fc) + p2 * spread(a2 * fc) + dx * wx + dy * wy + dz * wz
            ga = fold(p1 * e) * a1 + fold(p2 * e) * a2
            slope = fold(ge * _edge_slope(table, n, t, edge[g + 6])) + ga * fill16(edge[g + 5])
            hx, hy, hz = total(fold(dx * e)), total(fold(dy * e)), total(fold(dz * e))
            x, y, z = _push(force, virial, i, j, edge[g + 7], ux, uy, uz, total(slope), hx, hy, hz)
            fx += x
            fy += y
            fz += z
        force[i, 0] -= fx
        force[i, 1] -= fy
        force[i, 2] -= fz


# --- point charges and dispersion


@njit(**_FAST)
def coulomb_near(lo, hi, capacity, active, edge_j, edge, shape, per_A, q, constant, field, force, virial):
    """Potential of each atom and forces at fixed charges from `shape`, cubics of U / (k_e q_i q_j); all float64."""
    last = len(shape) - 1
    for i in range(lo, hi):
        phi, fx, fy, fz = 0.0, 0.0, 0.0, 0.0
        for k in range(i * capacity, i * capacity + active[i, 1]):
            g = k * GEOMETRY
            place = edge[g + 7] * per_A
            n = min(int(place), last)
            t = place - n
            c1, c2, c3 = shape[n, 1], shape[n, 2], shape[n, 3]
            qj = q[edge_j[k]]
            phi += qj * (shape[n, 0] + t * (c1 + t * (c2 + t * c3)))
            pull = qj * (c1 + t * (2.0 * c2 + 3.0 * t * c3))
            fx += pull * edge[g]
            fy += pull * edge[g + 1]
            fz += pull * edge[g + 2]
            half = 0.5 * constant * per_A * q[i] * pull * edge[g + 7]
            virial[0] -= half * edge[g] * edge[g]
            virial[1] -= half * edge[g] * edge[g + 1]
            virial[2] -= half * edge[g] * edge[g + 2]
            virial[4] -= half * edge[g + 1] * edge[g + 1]
            virial[5] -= half * edge[g + 1] * edge[g + 2]
            virial[8] -= half * edge[g + 2] * edge[g + 2]
        scale = constant * per_A * q[i]
        field[i] = constant * phi
        force[i, 0] -= scale * fx
        force[i, 1] -= scale * fy
        force[i, 2] -= scale * fz


@njit(**_FAST)
def coulomb_all(lo, hi, position, beta, r0, q, constant, field, force, virial):
    """The damped Coulomb energy of all pairs of an open system; float64."""
    for i in range(lo, hi):
        phi = 0.0
        for j in range(len(q)):
            if j == i:
                continue
            dx, dy, dz = (
                position[i, 0] - position[j, 0],
                position[i, 1] - position[j, 1],
                position[i, 2] - position[j, 2],
            )
            r = np.sqrt(dx * dx + dy * dy + dz * dz)
            x = beta * (r - r0) / r0
            s = x if x > 20.0 else np.log1p(np.exp(x))
            shape = 1.0 / (r0 * (1.0 + s / beta))
            slope = -shape * shape / (1.0 + np.exp(-x))
            phi += q[j] * shape
            pull = constant * q[i] * q[j] * slope / r
            force[i, 0] -= pull * dx
            force[i, 1] -= pull * dy
            force[i, 2] -= pull * dz
            virial[0] -= 0.5 * pull * dx * dx
            virial[1] -= 0.5 * pull * dx * dy
            virial[2] -= 0.5 * pull * dx * dz
            virial[4] -= 0.5 * pull * dy * dy
            virial[5] -= 0.5 * pull * dy * dz
            virial[8] -= 0.5 * pull * dz * dz
        field[i] = constant * phi


@njit(**_FAST)
def dispersion(lo, hi, far, n_far, itself, xyz, root, decay, constants, energy, force, virial):
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
