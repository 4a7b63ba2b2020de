"""Messages as operations of torch's autograd with two derivatives, whoever computes them.

With the messages m(x), M(x) of x = (qkv, e, f_c, u) (`get.Attention`) the three passes are

    forward           m, M
    backward          g = d<gm, m> + <gM, M> / dx
    second            of S = <g, t>: its derivative by x, and by gm and gM along the tangent t

A loss with forces in it is differentiated twice, and the arrays of autograd's own graph, a hundred for each edge, cost
more than the arithmetic: kernels do both directions of a pair at once and store nothing in between.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor
from torch.autograd import Function


class Inputs(NamedTuple):
    """`qkv` in the kernels' own layout, `e` `(n_pairs, width)`, `envelope` `(n_pairs,)`, `u` `(n_pairs, 3)` from j to i;
    pairs `i`, `j` `(n_pairs,)` are listed once."""

    qkv: Tensor
    e: Tensor
    envelope: Tensor
    u: Tensor
    i: Tensor
    j: Tensor


class Kernels(Protocol):
    """The three passes; without `vectors`, M and gM are placeholders."""

    def forward(self, x: Inputs, vectors: bool) -> tuple[Tensor, Tensor]:
        """m and M."""

    def backward(self, x: Inputs, vectors: bool, gm: Tensor, gM: Tensor) -> tuple[Tensor, ...]:
        """Derivatives of <gm, m> + <gM, M> by qkv, e, f_c and u."""

    def second(self, x: Inputs, vectors: bool, gm: Tensor, gM: Tensor, t: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Derivatives of S by qkv, e, f_c, u, gm and gM."""


class Messages(Function):
    """(kernels, qkv, e, f_c, u, i, j, vectors) to m and M."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, *given: Any) -> tuple[Tensor, Tensor]:
        *tensors, vectors = given
        ctx.save_for_backward(*tensors)
        ctx.kernels, ctx.vectors = kernels, vectors
        return kernels.forward(Inputs(*tensors), vectors)

    @staticmethod
    def backward(ctx: Any, gm: Tensor, gM: Tensor) -> tuple[Tensor | None, ...]:
        found = _Gradient.apply(ctx.kernels, *ctx.saved_tensors, gm, gM, ctx.vectors)
        return (None, *found, None, None, None)


class _Gradient(Function):
    @staticmethod
    def forward(ctx: Any, kernels: Kernels, *given: Any) -> tuple[Tensor, ...]:
        *tensors, gm, gM, vectors = given
        ctx.save_for_backward(*tensors, gm, gM)
        ctx.kernels, ctx.vectors = kernels, vectors
        return kernels.backward(Inputs(*tensors), vectors, gm, gM)

    @staticmethod
    def backward(ctx: Any, *t: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, gm, gM = ctx.saved_tensors
        *by_x, by_gm, by_gM = ctx.kernels.second(Inputs(*tensors), ctx.vectors, gm, gM, t)
        return (None, *by_x, None, None, by_gm, by_gM, None)
