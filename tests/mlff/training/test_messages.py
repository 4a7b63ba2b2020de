"""Fused messages give what the network's own give, with both derivatives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch.autograd import grad

from mlff.get import DirectedEdges
from mlff.training.messages import LANE_ORDER, FusedPairs

N, HEADS, D = 9, 16, 4
WIDTH = HEADS * D


def numba_pairs(i, j, e, envelope, u) -> FusedPairs:
    return FusedPairs(i, j, e[:, torch.from_numpy(LANE_ORDER)].contiguous(), envelope, u)


def problem(fused_pairs: Callable, vectors: bool, device: str = "cpu") -> list[tuple[torch.Tensor, ...]]:
    """Outputs, first derivatives and second derivatives of both forms, from the same numbers."""
    g = torch.Generator().manual_seed(1)
    i, j = torch.triu_indices(N, N, offset=1)[:, ::2]
    qkv = torch.randn(N, HEADS, 3 * D, generator=g, dtype=torch.float64)
    e = torch.randn(len(i), WIDTH, generator=g, dtype=torch.float64)
    envelope = torch.rand(len(i), generator=g, dtype=torch.float64)
    u = torch.nn.functional.normalize(torch.randn(len(i), 3, generator=g, dtype=torch.float64), dim=1)
    outer = [torch.randn(s, generator=g, dtype=torch.float64) for s in ((N, WIDTH), (N, 3, WIDTH), qkv.shape, e.shape)]
    outer += [torch.randn(s, generator=g, dtype=torch.float64) for s in (envelope.shape, u.shape)]
    i, j, qkv, e, envelope, u = (t.to(device) for t in (i, j, qkv, e, envelope, u))
    outer = [w.to(device) for w in outer]

    def fused(x: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        return fused_pairs(i, j, *x[1:]).messages(x[0], vectors=vectors)

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


def agree(fused_pairs: Callable, device: str = "cpu") -> None:
    for vectors in (True, False):
        for found, wanted in zip(*problem(fused_pairs, vectors, device), strict=True):
            scale = wanted.abs().max().item()
            torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-6 * scale)


def test_values_and_two_derivatives_agree_with_the_plain_form() -> None:
    agree(numba_pairs)


ON_GPU = """
import torch
from mlff.training.gpu_messages import GpuPairs
from tests.mlff.test_messages import agree

agree(GpuPairs, "cuda" if torch.cuda.is_available() else "cpu")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed (torch's CUDA builds bring it)")
def test_the_gpu_kernels_give_the_same() -> None:
    # without a GPU Triton's own interpreter runs the kernels; it must be asked for before anything imports Triton
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", ON_GPU], env=os.environ | interpreted, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
