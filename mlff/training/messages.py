"""Messages along pairs with two derivatives: the passes of `message_derivatives.py` as numba kernels, for training on a CPU.

Features lie as in `lanes.py`: component x 16 + head. Pairs are listed once; `u` points from `j` to `i`.
"""

# mypy: ignore-errors
# (an intrinsic has the compiler's context as a first parameter that its caller does not give)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mlff.fast.lanes import HEADS, WIDTH, exp16, fill16, fill64, fold, load64, spread, store, total
from mlff.training.message_derivatives import Inputs, Messages

LANE_ORDER = np.arange(WIDTH).reshape(HEADS, WIDTH // HEADS).T.ravel().copy()
"""Place in the network's order (head x d + component) of each lane."""

W = WIDTH
_FAST: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


@njit(fastmath=True, error_model="numpy", cache=True, inline="always")
def _sigmoid(t):
    one = fill16(_ONE)
    return one / (one + exp16(fill16(_ZERO) - t))


@njit(**_FAST)
def _forward(pair_i, pair_j, qkv, e, envelope, u, vectors, m, M):
    """m_i = sum_j v_j e SiLU(q_i.k_j) f_c, M_i = sum_j v_j e u."""
    for p in range(len(pair_i)):
        feature, fc = load64(e, p * W), fill16(envelope[p])
        for way in range(2):
            i, j, sign = (pair_i[p], pair_j[p], _ONE) if way == 0 else (pair_j[p], pair_i[p], -_ONE)
            t = fold(load64(qkv, 3 * i * W) * load64(qkv, (3 * j + 1) * W))
            value = load64(qkv, (3 * j + 2) * W) * feature
            store(m, i * W, load64(m, i * W) + value * spread(t * _sigmoid(t) * fc))
            if vectors:
                for d in range(3):
                    at = (3 * i + d) * W
                    store(M, at, load64(M, at) + value * fill64(sign * u[3 * p + d]))


@njit(**_FAST)
def _backward(pair_i, pair_j, qkv, e, envelope, u, vectors, gm, gM, g_qkv, g_e, g_envelope, g_u):
    """Derivatives of <gm, m> + <gM, M>; `g_qkv` is added to, the others are written."""
    for p in range(len(pair_i)):
        feature, fc = load64(e, p * W), fill16(envelope[p])
        by_feature = fill64(_ZERO)
        by_fc = fill16(_ZERO)
        for d in range(3):
            g_u[3 * p + d] = _ZERO
        for way in range(2):
            i, j, sign = (pair_i[p], pair_j[p], _ONE) if way == 0 else (pair_j[p], pair_i[p], -_ONE)
            at_q, at_k, at_v = 3 * i * W, (3 * j + 1) * W, (3 * j + 2) * W
            q, k, v = load64(qkv, at_q), load64(qkv, at_k), load64(qkv, at_v)
            t = fold(q * k)
            s = _sigmoid(t)
            silu = t * s
            value, g = v * feature, load64(gm, i * W)
            by_a = fold(g * value)
            by_value = g * spread(silu * fc)
            if vectors:
                for d in range(3):
                    pull = load64(gM, (3 * i + d) * W)
                    by_value += pull * fill64(sign * u[3 * p + d])
                    g_u[3 * p + d] += sign * total(fold(pull * value))
            by_fc += by_a * silu
            by_t = spread(by_a * fc * s * (fill16(_ONE) + t - silu))
            store(g_qkv, at_q, load64(g_qkv, at_q) + by_t * k)
            store(g_qkv, at_k, load64(g_qkv, at_k) + by_t * q)
            store(g_qkv, at_v, load64(g_qkv, at_v) + by_value * feature)
            by_feature += by_value * v
        store(g_e, p * W, by_feature)
        g_envelope[p] = total(by_fc)


@njit(**_FAST)
def _second(
    pair_i, pair_j, qkv, e, envelope, u, vectors, gm, gM, t_qkv, t_e, t_envelope, t_u,
    s_qkv, s_e, s_envelope, s_u, s_m, s_M,
):  # fmt: skip
    """S = <g, t>: its derivatives by x (`s_qkv` is added to), and by gm and gM (added to)."""
    for p in range(len(pair_i)):
        feature, fc, one = load64(e, p * W), fill16(envelope[p]), fill16(_ONE)
        d_feature, d_fc = load64(t_e, p * W), fill16(t_envelope[p])
        by_feature = fill64(_ZERO)
        by_fc = fill16(_ZERO)
        for d in range(3):
            s_u[3 * p + d] = _ZERO
        for way in range(2):
            i, j, sign = (pair_i[p], pair_j[p], _ONE) if way == 0 else (pair_j[p], pair_i[p], -_ONE)
            at_q, at_k, at_v = 3 * i * W, (3 * j + 1) * W, (3 * j + 2) * W
            q, k, v = load64(qkv, at_q), load64(qkv, at_k), load64(qkv, at_v)
            dq, dk, dv = load64(t_qkv, at_q), load64(t_qkv, at_k), load64(t_qkv, at_v)
            t, dt = fold(q * k), fold(dq * k + q * dk)
            s = _sigmoid(t)
            silu = t * s
            slope = s * (one + t - silu)
            # SiLU'' = s (1 - s) (2 + t (1 - 2 s))
            bend = s * (one - s) * (one + one + t - silu - silu)
            a, da = silu * fc, slope * dt * fc + silu * d_fc
            value, d_value = v * feature, dv * feature + v * d_feature
            wide_a, wide_da = spread(a), spread(da)
            store(s_m, i * W, load64(s_m, i * W) + d_value * wide_a + value * wide_da)
            g = load64(gm, i * W)
            by_value, by_d_value = g * wide_da, g * wide_a
            if vectors:
                for d in range(3):
                    at = (3 * i + d) * W
                    pull = load64(gM, at)
                    direction, d_direction = fill64(sign * u[3 * p + d]), fill64(sign * t_u[3 * p + d])
                    store(s_M, at, load64(s_M, at) + d_value * direction + value * d_direction)
                    by_value += pull * d_direction
                    by_d_value += pull * direction
                    s_u[3 * p + d] += sign * total(fold(pull * d_value))
            by_a, by_da = fold(g * d_value), fold(g * value)
            by_fc += by_a * silu + by_da * slope * dt
            by_t = spread(by_a * slope * fc + by_da * (bend * dt * fc + slope * d_fc))
            by_dt = spread(by_da * slope * fc)
            store(s_qkv, at_q, load64(s_qkv, at_q) + by_t * k + by_dt * dk)
            store(s_qkv, at_k, load64(s_qkv, at_k) + by_t * q + by_dt * dq)
            store(s_qkv, at_v, load64(s_qkv, at_v) + by_value * feature + by_d_value * d_feature)
            by_feature += by_value * v + by_d_value * dv
        store(s_e, p * W, by_feature)
        s_envelope[p] = total(by_fc)


def _flat(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy().reshape(-1)


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32)


class _NumbaKernels:
    """`message_derivatives.Kernels`; `qkv` `(n_atoms, 3, d, heads)`."""

    def forward(self, x: Inputs, vectors: bool) -> tuple[Tensor, Tensor]:
        n = len(x.qkv)
        m, M = _zeros(n, W), _zeros(n, 3, W) if vectors else _zeros(0)
        _forward(*_pairs(x), vectors, _flat(m), _flat(M))
        return m, M

    def backward(self, x: Inputs, vectors: bool, gm: Tensor, gM: Tensor) -> tuple[Tensor, ...]:
        made = (_zeros(*x.qkv.shape), *map(torch.empty_like, (x.e, x.envelope, x.u)))
        _backward(*_pairs(x), vectors, *map(_flat, (gm, gM, *made)))
        return made

    def second(self, x: Inputs, vectors: bool, gm: Tensor, gM: Tensor, t: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        made = (_zeros(*x.qkv.shape), *map(torch.empty_like, (x.e, x.envelope, x.u)))
        made += (_zeros(*gm.shape), _zeros(*gM.shape))
        _second(*_pairs(x), vectors, *map(_flat, (gm, gM, *t, *made)))
        return made


def _pairs(x: Inputs) -> tuple[np.ndarray, ...]:
    return (x.i.numpy(), x.j.numpy(), *map(_flat, x[:4]))


KERNELS = _NumbaKernels()


@dataclass(frozen=True, eq=False)
class FusedPairs:
    """`get.Edges` of float32 pairs on a CPU: `i`, `j` `(n_pairs,)`, `e` `(n_pairs, 64)` in `LANE_ORDER`,
    `envelope` `(n_pairs,)`, `u` `(n_pairs, 3)`; only for a width of 64 and 16 heads."""

    i: Tensor
    j: Tensor
    e: Tensor
    envelope: Tensor
    u: Tensor

    def messages(self, qkv: Tensor, *, vectors: bool) -> tuple[Tensor, Tensor | None]:
        """m `(n_atoms, 64)` and M `(n_atoms, 3, 64)`, or None, from `qkv` `(n_atoms, 16, 12)`."""
        n, d = len(qkv), W // HEADS
        lanes = qkv.view(n, HEADS, 3, d).permute(0, 2, 3, 1).contiguous()
        m, M = Messages.apply(KERNELS, lanes, self.e, self.envelope, self.u, self.i, self.j, vectors)
        m = m.view(n, d, HEADS).transpose(1, 2).reshape(n, W)
        return m, M.view(n, 3, d, HEADS).transpose(2, 3).reshape(n, 3, W) if vectors else None
