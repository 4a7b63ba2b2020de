"""The graph equivariant transformer: scalars and vectors on atoms, passed along edges (Gong et al., 2025).

| symbol | shape | meaning |
|---|---|---|
| `x` | `(n_atoms, width)` | scalar features |
| `V` | `(n_atoms, 3, width)` | vector features |
| `r` | `(n_edges, 3)` | edge vectors r_ij = r_i - r_j in Å; i receives, j sends |
| `e` | `(n_edges, heads, d)` | edge features, d = width / heads |
| `envelope` | `(n_edges, 1)` | f_c(r_ij), the cosine cutoff |
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Protocol

import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import silu

N_ROWS = 87
"""Rows of the embedding: index = atomic number, row 0 is a placeholder."""

Count = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class NetworkParameters:
    """Size of the network; raises pydantic's `ValidationError` on a bad value."""

    width: Annotated[Count, Field(description="features of an atom")] = 64
    heads: Count = 16
    layers: Annotated[int, Field(ge=2, le=32, description="attention layers, the first and the last included")] = 3
    n_radial: Annotated[Count, Field(description="radial functions")] = 32
    hidden: Annotated[Count, Field(description="width of the read-out networks")] = 32
    cutoff_A: Annotated[float, Field(gt=0.5, le=20, description="reach of the network")] = 5.0

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> NetworkParameters:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} is not a multiple of heads={self.heads}")
        return self


def cosine_cutoff(r: Tensor, cutoff: float) -> Tensor:
    """f_c(r) = (cos(pi r / r_c) + 1) / 2 inside the cutoff, else 0."""
    return torch.where(r < cutoff, 0.5 * (torch.cos(r * (math.pi / cutoff)) + 1.0), torch.zeros_like(r))


class RadialBasis(nn.Module):
    """phi_k(r) = f_c(r) exp(-beta_k (exp(-alpha r) - mu_k)^2) with alpha = 5 / r_c (PhysNet's basis)."""

    def __init__(self, n: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        nearest_zero = math.exp(-5.0)
        self.mu = nn.Parameter(torch.linspace(nearest_zero, 1.0, n))
        self.beta = nn.Parameter(torch.full((n,), (2.0 / n * (1.0 - nearest_zero)) ** -2))

    def forward(self, r: Tensor, envelope: Tensor) -> Tensor:
        """`(n_edges, n)` from distances `(n_edges,)` and f_c of the same edges."""
        t = torch.exp(r * (-5.0 / self.cutoff))
        return envelope[:, None] * torch.exp(-self.beta * (t[:, None] - self.mu) ** 2)


class Edges(Protocol):
    """What carries messages: `DirectedEdges` here, `messages.Pairs` in training."""

    def messages(self, qkv: Tensor, *, vectors: bool) -> tuple[Tensor, Tensor | None]:
        """m `(n_atoms, width)` and M `(n_atoms, 3, width)`, or None, from `qkv` `(n_atoms, heads, 3 d)`."""


@plain_dataclass(frozen=True, eq=False)
class DirectedEdges:
    """Edges `(n_edges,)` from `j` to `i`; `e` `(n_edges, heads, d)`, `u` = r / |r|, `envelope` `(n_edges, 1)`."""

    i: Tensor
    j: Tensor
    e: Tensor
    u: Tensor
    envelope: Tensor

    def messages(self, qkv: Tensor, *, vectors: bool) -> tuple[Tensor, Tensor | None]:
        """m `(n_atoms, width)` and M `(n_atoms, 3, width)`, or None where no vectors are asked for."""
        i, j, n = self.i, self.j, qkv.shape[0]  # len() would be a constant in exported models
        # the numbers of one head lie together: q (d), k (d), v (d)
        q, k, v = qkv.chunk(3, dim=-1)
        width = q[0].numel()
        a = silu((q[i] * k[j]).sum(-1, keepdim=True)) * self.envelope[:, None]
        value = v[j] * self.e
        m = qkv.new_zeros(n, width).index_add(0, i, (value * a).view(-1, width))
        if not vectors:
            return m, None
        pushed = value.view(-1, 1, width) * self.u[:, :, None]
        return m, qkv.new_zeros(n, 3, width).index_add(0, i, pushed)


class Attention(nn.Module):
    """Messages of one layer:

    a_ij = SiLU(q_i . k_j) f_c(r_ij)          one number for each head, no softmax
    m_i  = sum_j v_j * e_ij * a_ij            scalar message
    M_i  = sum_j v_j * e_ij (x) u_ij          vector message, u = r / |r|; carries neither a_ij nor f_c
    """

    def __init__(self, width: int, heads: int, n_out: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = _linear(width, 3 * width)
        self.out = _linear(width, n_out)

    def forward(self, x: Tensor, edges: Edges, *, vectors: bool) -> tuple[Tensor, Tensor | None]:
        """O m `(n_atoms, n_out)` and M `(n_atoms, 3, width)`, or None where no vectors are asked for."""
        n, width = x.shape
        qkv = self.qkv(self.norm(x)).view(n, self.heads, 3 * width // self.heads)
        m, pushed = edges.messages(qkv, vectors=vectors)
        return self.out(m), pushed


class FirstLayer(nn.Module):
    """dx = O m, V = M: there are no vectors to mix yet."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, width)

    def forward(self, x: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Updated x and V."""
        dx, pushed = self.attention(x, edges, vectors=True)
        assert pushed is not None
        return x + dx, pushed


class MiddleLayer(nn.Module):
    """U = V W, s = sum_xyz U1 * U2; dx = s * o2 + o3; dV = U3 * o1 + M, with o = O m."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, 3 * width)
        self.mix = _linear(width, 3 * width, bias=False)

    def forward(self, x: Tensor, V: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Updated x and V."""
        o, pushed = self.attention(x, edges, vectors=True)
        assert pushed is not None
        o1, o2, o3 = o.chunk(3, dim=-1)
        U1, U2, U3 = self.mix(V).chunk(3, dim=-1)
        s = (U1 * U2).sum(dim=1)
        return x + s * o2 + o3, V + U3 * o1[:, None] + pushed


class LastLayer(nn.Module):
    """As the middle one, without vectors to hand on: dx = s * o2 + o3."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, 2 * width)
        self.mix = _linear(width, 2 * width, bias=False)

    def forward(self, x: Tensor, V: Tensor, edges: Edges) -> Tensor:
        """Updated x."""
        o, _ = self.attention(x, edges, vectors=False)
        o2, o3 = o.chunk(2, dim=-1)
        U1, U2 = self.mix(V).chunk(2, dim=-1)
        return x + (U1 * U2).sum(dim=1) * o2 + o3


class GraphTransformer(nn.Module):
    """Atomic numbers and edge vectors to scalar features of each atom."""

    def __init__(self, p: NetworkParameters) -> None:
        super().__init__()
        self.cutoff, self.heads, self.width = p.cutoff_A, p.heads, p.width
        self.embedding = nn.Embedding(N_ROWS, p.width)
        self.radial = RadialBasis(p.n_radial, p.cutoff_A)
        self.project = _linear(p.n_radial, p.width, bias=False)
        self.first = FirstLayer(p.width, p.heads)
        self.middle = nn.ModuleList(MiddleLayer(p.width, p.heads) for _ in range(p.layers - 2))
        self.last = LastLayer(p.width, p.heads)

    def edge_features(self, distance: Tensor, envelope: Tensor) -> Tensor:
        """SiLU(W phi(r)) `(n_edges, width)`: a function of the distance alone."""
        return silu(self.project(self.radial(distance, envelope)))

    def forward(self, numbers: Tensor, i: Tensor, j: Tensor, r: Tensor) -> Tensor:
        """x of the last layer, `(n_atoms, width)`."""
        distance = r.norm(dim=1)
        envelope = cosine_cutoff(distance, self.cutoff)
        e = self.edge_features(distance, envelope).view(r.shape[0], self.heads, self.width // self.heads)
        return self.layers(numbers, DirectedEdges(i, j, e, r / distance[:, None], envelope[:, None]))

    def layers(self, numbers: Tensor, edges: Edges) -> Tensor:
        """x of the last layer, `(n_atoms, width)`, with edges whose features are known."""
        x, V = self.first(self.embedding(numbers), edges)
        for layer in self.middle:
            x, V = layer(x, V, edges)
        return self.last(x, V, edges)


class ReadOut(nn.Sequential):
    """One number from each atom's features: width -> hidden -> hidden -> 1 with SiLU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(_linear(width, hidden), nn.SiLU(), _linear(hidden, hidden), nn.SiLU(), _linear(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(n,)` from `(n, width)`."""
        return super().forward(x).squeeze(-1)


def _linear(n_in: int, n_out: int, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
