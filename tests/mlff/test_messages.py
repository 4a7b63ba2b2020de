"""Fused messages give what the network's own give, with both derivatives."""

from __future__ import annotations

import torch
from torch.autograd import grad

from mlff.get import DirectedEdges
from mlff.messages import LANE_ORDER, FusedPairs

N, HEADS, D = 9, 16, 4
WIDTH = HEADS * D


def problem(vectors: bool) -> tuple[torch.Tensor, ...]:
    """Outputs, first derivatives and second derivatives of both forms, from the same numbers."""
    g = torch.Generator().manual_seed(1)
    i, j = torch.triu_indices(N, N, offset=1)[:, ::2]
    qkv = torch.randn(N, HEADS, 3 * D, generator=g, dtype=torch.float64)
    e = torch.randn(len(i), WIDTH, generator=g, dtype=torch.float64)
    envelope = torch.rand(len(i), generator=g, dtype=torch.float64)
    u = torch.nn.functional.normalize(torch.randn(len(i), 3, generator=g, dtype=torch.float64), dim=1)
    outer = [torch.randn(s, generator=g, dtype=torch.float64) for s in ((N, WIDTH), (N, 3, WIDTH), qkv.shape, e.shape)]
    outer += [torch.randn(s, generator=g, dtype=torch.float64) for s in (envelope.shape, u.shape)]
    order = torch.from_numpy(LANE_ORDER)

    def fused(x: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        return FusedPairs(i, j, x[1][:, order].contiguous(), x[2], x[3]).messages(x[0], vectors=vectors)

    def directed(x: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        both = (torch.cat([i, j]), torch.cat([j, i]), torch.cat([x[1], x[1]]).view(-1, HEADS, D))
        edges = DirectedEdges(*both, torch.cat([x[3], -x[3]]), torch.cat([x[2], x[2]])[:, None])
        return edges.messages(x[0], vectors=vectors)

    results = []
    for form, dtype in ((fused, torch.float32), (directed, torch.float64)):
        x = [t.to(dtype).requires_grad_() for t in (qkv, e, envelope, u)]
        m, M = form(x)
        weights = [w.to(dtype).requires_grad_() for w in outer]
        value = (m * weights[0]).sum() + (0 if M is None else (M * weights[1]).sum())
        inputs = x if vectors else x[:3]
        first = grad(value, inputs, create_graph=True)
        along = sum((a * b).sum() for a, b in zip(first, weights[2:], strict=False))
        second = grad(along, [*inputs, weights[0], *([weights[1]] if vectors else [])])
        results.append((m, *([M] if vectors else []), *first, *second))
    return results


def test_values_and_two_derivatives_agree_with_the_plain_form() -> None:
    for vectors in (True, False):
        for found, wanted in zip(*problem(vectors), strict=True):
            scale = wanted.abs().max().item()
            torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-6 * scale)
