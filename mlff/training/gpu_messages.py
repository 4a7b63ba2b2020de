"""Messages along pairs with two derivatives on a GPU: Triton kernels, the same three passes as `messages.py`.

Each program takes a few pairs, both directions of each; what atoms gather is added atomically, so that the last digits
depend on the order of the day. Features lie as in the network: head x d + component.
"""

# mypy: ignore-errors
# (the kernels are Triton's own language)

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from mlff.training.message_derivatives import Inputs, Messages

PAIRS = 8
"""Pairs of one program (chosen by us)."""


@triton.jit
def _add(x, at, value, inside):
    tl.atomic_add(x + at, value, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["n_pairs"])
def _forward(
    pair_i, pair_j, qkv, e, envelope, u, m, M, n_pairs,
    vectors: tl.constexpr, H: tl.constexpr, D: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """m_i = sum_j v_j e SiLU(q_i.k_j) f_c, M_i = sum_j v_j e u."""
    W: tl.constexpr = H * D
    p = tl.program_id(0) * B + tl.arange(0, B)
    keep = p < n_pairs
    inside = keep[:, None, None]
    head, component = tl.arange(0, H)[None, :, None], tl.arange(0, D)[None, None, :]
    lane, part = head * D + component, head * (3 * D) + component
    one, other = tl.load(pair_i + p, mask=keep, other=0), tl.load(pair_j + p, mask=keep, other=0)
    feature = tl.load(e + p[:, None, None] * W + lane, mask=inside, other=0.0)
    fc = tl.load(envelope + p, mask=keep, other=0.0)[:, None]
    for way in tl.static_range(2):
        i = (one if way == 0 else other)[:, None, None]
        j = (other if way == 0 else one)[:, None, None]
        sign = 1.0 if way == 0 else -1.0
        q = tl.load(qkv + 3 * i * W + part, mask=inside, other=0.0)
        k = tl.load(qkv + 3 * j * W + D + part, mask=inside, other=0.0)
        v = tl.load(qkv + 3 * j * W + 2 * D + part, mask=inside, other=0.0)
        t = tl.sum(q * k, axis=2)
        value = v * feature
        _add(m, i * W + lane, value * (t * tl.sigmoid(t) * fc)[:, :, None], inside)
        if vectors:
            for d in tl.static_range(3):
                along = sign * tl.load(u + 3 * p + d, mask=keep, other=0.0)[:, None, None]
                _add(M, (3 * i + d) * W + lane, value * along, inside)


@triton.jit(do_not_specialize=["n_pairs"])
def _backward(
    pair_i, pair_j, qkv, e, envelope, u, gm, gM, g_qkv, g_e, g_envelope, g_u, n_pairs,
    vectors: tl.constexpr, H: tl.constexpr, D: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Derivatives of <gm, m> + <gM, M>; `g_qkv` is added to, the others are written."""
    W: tl.constexpr = H * D
    p = tl.program_id(0) * B + tl.arange(0, B)
    keep = p < n_pairs
    inside = keep[:, None, None]
    head, component = tl.arange(0, H)[None, :, None], tl.arange(0, D)[None, None, :]
    lane, part = head * D + component, head * (3 * D) + component
    one, other = tl.load(pair_i + p, mask=keep, other=0), tl.load(pair_j + p, mask=keep, other=0)
    feature = tl.load(e + p[:, None, None] * W + lane, mask=inside, other=0.0)
    fc = tl.load(envelope + p, mask=keep, other=0.0)[:, None]
    by_feature, by_fc = tl.zeros_like(feature), tl.zeros([B, H], tl.float32)
    by_x, by_y, by_z = tl.zeros([B], tl.float32), tl.zeros([B], tl.float32), tl.zeros([B], tl.float32)
    for way in tl.static_range(2):
        i = (one if way == 0 else other)[:, None, None]
        j = (other if way == 0 else one)[:, None, None]
        sign = 1.0 if way == 0 else -1.0
        at_q, at_k, at_v = 3 * i * W + part, 3 * j * W + D + part, 3 * j * W + 2 * D + part
        q = tl.load(qkv + at_q, mask=inside, other=0.0)
        k = tl.load(qkv + at_k, mask=inside, other=0.0)
        v = tl.load(qkv + at_v, mask=inside, other=0.0)
        t = tl.sum(q * k, axis=2)
        s = tl.sigmoid(t)
        silu = t * s
        value = v * feature
        g = tl.load(gm + i * W + lane, mask=inside, other=0.0)
        by_a = tl.sum(g * value, axis=2)
        by_value = g * (silu * fc)[:, :, None]
        if vectors:
            for d in tl.static_range(3):
                pull = tl.load(gM + (3 * i + d) * W + lane, mask=inside, other=0.0)
                along = sign * tl.load(u + 3 * p + d, mask=keep, other=0.0)[:, None, None]
                by_value += pull * along
                by_direction = sign * tl.sum(tl.sum(pull * value, axis=2), axis=1)
                if d == 0:
                    by_x += by_direction
                elif d == 1:
                    by_y += by_direction
                else:
                    by_z += by_direction
        by_fc += by_a * silu
        by_t = (by_a * fc * s * (1.0 + t - silu))[:, :, None]
        _add(g_qkv, at_q, by_t * k, inside)
        _add(g_qkv, at_k, by_t * q, inside)
        _add(g_qkv, at_v, by_value * feature, inside)
        by_feature += by_value * v
    tl.store(g_e + p[:, None, None] * W + lane, by_feature, mask=inside)
    tl.store(g_envelope + p, tl.sum(by_fc, axis=1), mask=keep)
    tl.store(g_u + 3 * p, by_x, mask=keep)
    tl.store(g_u + 3 * p + 1, by_y, mask=keep)
    tl.store(g_u + 3 * p + 2, by_z, mask=keep)


@triton.jit(do_not_specialize=["n_pairs"])
def _second(
    pair_i, pair_j, qkv, e, envelope, u, gm, gM, t_qkv, t_e, t_envelope, t_u,
    s_qkv, s_e, s_envelope, s_u, s_m, s_M, n_pairs,
    vectors: tl.constexpr, H: tl.constexpr, D: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """S = <g, t>: its derivatives by x (`s_qkv` is added to), and by gm and gM (added to)."""
    W: tl.constexpr = H * D
    p = tl.program_id(0) * B + tl.arange(0, B)
    keep = p < n_pairs
    inside = keep[:, None, None]
    head, component = tl.arange(0, H)[None, :, None], tl.arange(0, D)[None, None, :]
    lane, part = head * D + component, head * (3 * D) + component
    one, other = tl.load(pair_i + p, mask=keep, other=0), tl.load(pair_j + p, mask=keep, other=0)
    feature = tl.load(e + p[:, None, None] * W + lane, mask=inside, other=0.0)
    d_feature = tl.load(t_e + p[:, None, None] * W + lane, mask=inside, other=0.0)
    fc = tl.load(envelope + p, mask=keep, other=0.0)[:, None]
    d_fc = tl.load(t_envelope + p, mask=keep, other=0.0)[:, None]
    by_feature, by_fc = tl.zeros_like(feature), tl.zeros([B, H], tl.float32)
    by_x, by_y, by_z = tl.zeros([B], tl.float32), tl.zeros([B], tl.float32), tl.zeros([B], tl.float32)
    for way in tl.static_range(2):
        i = (one if way == 0 else other)[:, None, None]
        j = (other if way == 0 else one)[:, None, None]
        sign = 1.0 if way == 0 else -1.0
        at_q, at_k, at_v = 3 * i * W + part, 3 * j * W + D + part, 3 * j * W + 2 * D + part
        q = tl.load(qkv + at_q, mask=inside, other=0.0)
        k = tl.load(qkv + at_k, mask=inside, other=0.0)
        v = tl.load(qkv + at_v, mask=inside, other=0.0)
        dq = tl.load(t_qkv + at_q, mask=inside, other=0.0)
        dk = tl.load(t_qkv + at_k, mask=inside, other=0.0)
        dv = tl.load(t_qkv + at_v, mask=inside, other=0.0)
        t, dt = tl.sum(q * k, axis=2), tl.sum(dq * k + q * dk, axis=2)
        s = tl.sigmoid(t)
        silu = t * s
        slope = s * (1.0 + t - silu)
        # SiLU'' = s (1 - s) (2 + t (1 - 2 s))
        bend = s * (1.0 - s) * (2.0 + t - 2.0 * silu)
        a, da = (silu * fc)[:, :, None], (slope * dt * fc + silu * d_fc)[:, :, None]
        value, d_value = v * feature, dv * feature + v * d_feature
        _add(s_m, i * W + lane, d_value * a + value * da, inside)
        g = tl.load(gm + i * W + lane, mask=inside, other=0.0)
        by_value, by_d_value = g * da, g * a
        if vectors:
            for d in tl.static_range(3):
                pull = tl.load(gM + (3 * i + d) * W + lane, mask=inside, other=0.0)
                along = sign * tl.load(u + 3 * p + d, mask=keep, other=0.0)[:, None, None]
                d_along = sign * tl.load(t_u + 3 * p + d, mask=keep, other=0.0)[:, None, None]
                _add(s_M, (3 * i + d) * W + lane, d_value * along + value * d_along, inside)
                by_value += pull * d_along
                by_d_value += pull * along
                by_direction = sign * tl.sum(tl.sum(pull * d_value, axis=2), axis=1)
                if d == 0:
                    by_x += by_direction
                elif d == 1:
                    by_y += by_direction
                else:
                    by_z += by_direction
        by_a, by_da = tl.sum(g * d_value, axis=2), tl.sum(g * value, axis=2)
        by_fc += by_a * silu + by_da * slope * dt
        by_t = (by_a * slope * fc + by_da * (bend * dt * fc + slope * d_fc))[:, :, None]
        by_dt = (by_da * slope * fc)[:, :, None]
        _add(s_qkv, at_q, by_t * k + by_dt * dk, inside)
        _add(s_qkv, at_k, by_t * q + by_dt * dq, inside)
        _add(s_qkv, at_v, by_value * feature + by_d_value * d_feature, inside)
        by_feature += by_value * v + by_d_value * dv
    tl.store(s_e + p[:, None, None] * W + lane, by_feature, mask=inside)
    tl.store(s_envelope + p, tl.sum(by_fc, axis=1), mask=keep)
    tl.store(s_u + 3 * p, by_x, mask=keep)
    tl.store(s_u + 3 * p + 1, by_y, mask=keep)
    tl.store(s_u + 3 * p + 2, by_z, mask=keep)


class _TritonKernels:
    """`message_derivatives.Kernels`; `qkv` `(n_atoms, heads, 3 d)`."""

    def forward(self, x: Inputs, vectors: bool) -> tuple[Tensor, Tensor]:
        n, heads, three = x.qkv.shape
        m = x.qkv.new_zeros(n, heads * three // 3)
        M = x.qkv.new_zeros((n, 3, m.shape[1]) if vectors else 1)
        _run(_forward, x, vectors, (), (m, M))
        return m, M

    def backward(self, x: Inputs, vectors: bool, gm: Tensor, gM: Tensor) -> tuple[Tensor, ...]:
        made = tuple(x.qkv.new_zeros(t.shape) for t in (x.qkv, x.e, x.envelope, x.u))
        _run(_backward, x, vectors, (gm, gM), made)
        return made

    def second(self, x: Inputs, vectors: bool, gm: Tensor, gM: Tensor, t: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        made = tuple(x.qkv.new_zeros(t.shape) for t in (x.qkv, x.e, x.envelope, x.u, gm, gM))
        _run(_second, x, vectors, (gm, gM, *t), made)
        return made


def _run(kernel, x: Inputs, vectors: bool, given: tuple[Tensor, ...], made: tuple[Tensor, ...]) -> None:
    """One pass; what is given may lie in memory as it likes, what is made is filled in place."""
    n, heads, d = len(x.i), x.qkv.shape[1], x.qkv.shape[2] // 3
    if n:
        read = (t.contiguous() for t in (x.i, x.j, x.qkv, x.e, x.envelope, x.u, *given))
        kernel[(triton.cdiv(n, PAIRS),)](*read, *made, n, vectors, heads, d, PAIRS)


KERNELS = _TritonKernels()


@dataclass(frozen=True, eq=False)
class GpuPairs:
    """`get.Edges` of float32 pairs on a GPU: `i`, `j` `(n_pairs,)`, `e` `(n_pairs, width)`, `envelope` `(n_pairs,)`,
    `u` `(n_pairs, 3)`; heads and components must be powers of two."""

    i: Tensor
    j: Tensor
    e: Tensor
    envelope: Tensor
    u: Tensor

    def messages(self, qkv: Tensor, *, vectors: bool) -> tuple[Tensor, Tensor | None]:
        """m `(n_atoms, width)` and M `(n_atoms, 3, width)`, or None, from `qkv` `(n_atoms, heads, 3 d)`."""
        m, M = Messages.apply(KERNELS, qkv, self.e, self.envelope, self.u, self.i, self.j, vectors)
        return m, M if vectors else None
