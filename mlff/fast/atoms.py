"""Dense layers of the graph transformer on blocks of atoms, forward and backward, without autograd.

Kernels work on the atoms `lo..hi` of one thread; arrays and names as in `edges.py`. A block of BLOCK atoms passes
through all steps between two rounds of messages while it lies in the first cache.
"""

# mypy: ignore-errors
# (an intrinsic has the compiler's context as a first parameter that its caller does not give)

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from mlff.fast.lanes import WIDTH as W
from mlff.fast.lanes import exp64, fill64, fold, load64, store, total

BLOCK = 6
"""Atoms of a block: 6 x 64 sums and 64 weights fill the 32 vector registers of AVX-512."""

_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
_INLINE: dict[str, Any] = {"fastmath": True, "error_model": "numpy", "cache": True, "inline": "always"}
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


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


# --- forward


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


# --- backward


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
